"""``pyro-gtm plot``: the figures of a run, drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    NamedPath,
    device_option,
    import_option,
    moved_data_option,
    refusing_bad_input,
    run_argument,
    tell_notes,
)
from pyro_gtm.experiments.report import draw_figures
from pyro_gtm.experiments.run import Run

__all__ = ["plot"]


@click.command(context_settings=COMMAND)
@import_option
@run_argument
@click.option(
    "--figure",
    "names",
    multiple=True,
    metavar="NAME",
    help="training, kl_per_frame, frames, attention, ...; repeatable. [default: all]",
)
@device_option
@moved_data_option
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, file_okay=False),
    help="Folder for the figures. [default: RUN_FOLDER/figures]",
)
def plot(
    run: Path, names: Sequence[str], device: str, data_dir: str | None, output: Path | None
) -> None:
    """Draw the figures of a run again, from its metrics and its newest weights.

    RUN_FOLDER is what train has left, finished or not.
    """
    with refusing_bad_input():
        loaded = Run.load(run, device, data_dir)
        paths = draw_figures(loaded, output or run / "figures", names)
    tell_notes(loaded)
    for path in paths:
        click.echo(f"  {path}")
