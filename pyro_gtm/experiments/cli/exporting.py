"""``pyro-gtm export``: a trained model to hand on."""

from __future__ import annotations

from pathlib import Path

import click

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    NamedPath,
    import_option,
    moved_data_option,
    refusing_bad_input,
    run_argument,
)
from pyro_gtm.experiments.export import export_run
from pyro_gtm.experiments.run import Run

__all__ = ["export"]


@click.command(context_settings=COMMAND)
@import_option
@run_argument
@moved_data_option
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, file_okay=False),
    required=True,
    help="Folder to be made.",
)
def export(run: Path, data_dir: str | None, output: Path) -> None:
    """Write weights, settings, figures and a card of a trained model, to hand on.

    RUN_FOLDER is what train has left.  Weights are rounded to half precision and judged as rounded;
    the state of training is left out.  What is written can be generated from, evaluated, and given
    to --init-from.
    """
    with refusing_bad_input():
        loaded = Run.load(run, "cpu", data_dir)
        planned = loaded.experiment.config.num_steps
        if loaded.step < planned:
            click.echo(
                f"{run} has not ended: the model after {loaded.step:,} of {planned:,} updates",
                err=True,
            )
        paths = export_run(loaded, output)
    for path in paths:
        click.echo(f"  {path}  {path.stat().st_size / 1e3:,.0f} kB")
