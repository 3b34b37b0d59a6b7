"""``pyro-gtm evaluate``: judge a trained model, on its own task or a longer one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    NamedPath,
    device_option,
    given_settings,
    import_option,
    length_options,
    moved_data_option,
    refusing_bad_input,
    run_argument,
    setting_options,
    tell_notes,
)
from pyro_gtm.experiments.config import MAX_SEED, SETTINGS
from pyro_gtm.experiments.experiment import EVALUATION_SEED
from pyro_gtm.experiments.metrics import PARTICLES, assess
from pyro_gtm.experiments.plotting import save
from pyro_gtm.experiments.report import draw_evaluation, summary_table
from pyro_gtm.experiments.run import Run
from pyro_gtm.internals.files import write_atomically

__all__ = ["evaluate"]


@click.command(context_settings=COMMAND)
@import_option
@run_argument
@length_options("the run's")
@setting_options([SETTINGS["task_options"], SETTINGS["memory_options"]])
@click.option(
    "--num-sequences",
    type=click.IntRange(min=1),
    help="Held-out sequences. [default: as many as in training]",
)
@click.option(
    "--particles",
    type=click.IntRange(1, 100_000),
    default=PARTICLES,
    help="K of the negative IWAE bound.",
)
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=EVALUATION_SEED, help="Of the sequences."
)
@device_option
@moved_data_option
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, file_okay=False),
    help="Folder for the figures and evaluation.json. "
    "[default: RUN_FOLDER/evaluation, and the changed options in its name]",
)
@click.pass_context
def evaluate(ctx: click.Context, /, run: Path, **flags: Any) -> None:
    """Judge a trained model on held-out sequences, of any length.

    RUN_FOLDER is what train has left; nothing of it changes.  Options of the task that are given
    replace those of training: --list-length 20 asks a model trained on lists of 10 for twice the
    length.  Options of the memory can be replaced as far as its weights do not depend on them: an
    LRU memory, say, may be given more slots.
    """
    given = given_settings(ctx, flags)
    changed = {name: given.get(name, {}) for name in ("task_options", "memory_options")}
    with refusing_bad_input():
        loaded = Run.load(run, flags["device"], flags["data_dir"], **changed)
        experiment = loaded.experiment
        batch = experiment.held_out(flags["num_sequences"], flags["seed"])
        figures = assess(experiment, batch, particles=flags["particles"])
    tell_notes(loaded)
    facts = loaded.facts()
    summary = {
        **facts,
        "trained_with": facts["task_options"],
        "task_options": {**facts["task_options"], **changed["task_options"]},
        "memory_options": experiment.config.memory_options,
        "sequences": batch.frames.shape[1],
        "sequences_seed": flags["seed"],
        **figures,
    }
    folder = flags["output"] or run / _name({**given, **changed})
    paths = [folder / "evaluation.json"]
    with refusing_bad_input():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(paths[0], (json.dumps(summary, indent=2) + "\n").encode())
        for name, figure in draw_evaluation(experiment, batch).items():
            paths.append(folder / f"{name}.png")
            save(figure, paths[-1])
    click.echo(summary_table(summary) + "\n")
    for path in paths:
        click.echo(f"  {path}")


def _name(given: dict[str, Any]) -> str:
    """``evaluation-list_length=20`` for a longer list; so too for all that makes other figures."""
    options = {**given["task_options"], **given["memory_options"]}
    options |= {
        name: given[name] for name in ("num_sequences", "particles", "seed") if name in given
    }
    return "-".join(["evaluation", *(f"{name}={value}" for name, value in options.items())])
