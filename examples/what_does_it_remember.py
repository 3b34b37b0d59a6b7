"""Is it the memory that recalls?  Interfere with the memory of a trained model, and see.

    python examples/train.py --memory introspective -o runs/recall
    python examples/what_does_it_remember.py runs/recall

Before the recall phase every second sequence is given the memory of its neighbour, reads are
zeroed, or writing is stopped half-way through the list.  Handlers do it; the model is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import click
import torch
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.experiments.checkpoint_file import CheckpointError
from pyro_gtm.experiments.cli import import_option
from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.experiments.experiment import eval_mode
from pyro_gtm.experiments.metrics import kl_name
from pyro_gtm.experiments.plotting import recall_under_interventions, save
from pyro_gtm.experiments.run import Run, RunError
from pyro_gtm.tasks import Sequences

SEQUENCES = 64  # an even number: they are swapped in pairs


@contextmanager
def swapped(at_step: int) -> Iterator[None]:
    """Sequences 0 and 1 get each other's memory, and 2 and 3, and so on."""
    with ExitStack() as stack:
        for first in range(0, SEQUENCES, 2):
            stack.enter_context(gtm.swap_contents(first, first + 1, at_step))
        yield


def interventions(recall: int, num_steps: int) -> dict[str, AbstractContextManager]:
    """Interventions in the memory of a sequence that is recalled from frame ``recall`` on."""
    middle = (recall + 1) // 2
    return {
        "intact": nullcontext(),
        f"no writes from {middle} on": gtm.freeze_writes(from_step=middle),
        "reads zeroed": gtm.lesion_memory(steps=range(recall, num_steps)),
        "swapped": swapped(recall),
    }


def go_on(run: Run, batch: Sequences, num_given: int) -> Tensor:
    """Sequence 0 as the model goes on with it after the given frames: ``(T, C, H, W)``."""
    experiment = run.experiment
    with eval_mode(experiment):
        return gtm.continue_frames(
            experiment.program,
            experiment.memory,
            batch.frames[:num_given],
            num_steps=len(batch.frames),
            controls=batch.controls,
        )[:, 0]


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@import_option
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN_FOLDER")
@click.option("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, ...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The picture. [default: in RUN_FOLDER]"
)
def main(folder: Path, device: str, output: Path | None) -> None:
    """Measure and show what a trained model still recalls when its memory is interfered with."""
    if not (folder / "config.json").is_file():
        raise click.UsageError(
            f"{folder} holds no run: make one with `python examples/train.py -o {folder}`"
        )
    try:
        torch.set_num_threads(1)  # more would only wait for each other over tensors this small
        run = Run.load(folder, device)
    except (ValueError, MissingDataError, RunError, CheckpointError) as error:
        raise click.UsageError(str(error)) from error
    batch = run.experiment.held_out(SEQUENCES)
    if not batch.predictable.any():
        raise click.UsageError(f"{folder}: its task has no frames that a memory could recall")
    num_steps, recall = len(batch.frames), run.experiment.test_task.num_given

    name_of_kl = kl_name(run.experiment.config.prior)
    curves: dict[str, Tensor] = {}
    rows = {"sequence A": batch.frames[:, 0], "sequence B": batch.frames[:, 1]}
    click.echo(f"{'memory':<24}recall {name_of_kl} (nats)")
    for name, intervention in interventions(recall, num_steps).items():
        try:
            with intervention:
                kl = run.experiment.evaluate(batch).kl  # (T, SEQUENCES)
        except NotImplementedError as error:  # a memory of one's own need not know every lesion
            click.echo(f"{name:<24}left out: {error}")
            continue
        curves[name] = kl.mean(1)
        click.echo(f"{name:<24}{kl[batch.predictable].mean():8.2f}")
    for name, intervention in interventions(recall, num_steps).items():
        if name not in curves:
            continue
        with intervention:
            rows[f"A goes on: {name}"] = go_on(run, batch, recall)

    figure = recall_under_interventions(
        curves,
        rows,
        batch.predictable.float().mean(1),
        num_given={label: recall for label in rows if label.startswith("A goes on")},
        kl=name_of_kl,
    )
    path = output or folder / "figures" / "what_it_remembers.png"
    try:
        save(figure, path)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error
    click.echo(f"The figure, with what a sequence goes on with: {path}")


if __name__ == "__main__":
    main()
