"""``pyro-gtm runs``: the runs and the models of series there are, with their key figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import click

from pyro_gtm.experiments.cli.options import COMMAND, NamedPath, Refused
from pyro_gtm.experiments.run_listing import RunFacts, facts_of, runs_in

__all__ = ["runs"]

HEADS = {
    "folder": "folder",
    "state": "state",
    "task": "task",
    "memory": "memory",
    "seed": "seed",
    "step": "step",
    "negative_elbo": "-ELBO",
    "recall_kl": "recall KL",
    "recall_oracle_kl": "oracle",
    "recall_accuracy": "accuracy",
    "crps": "CRPS",
}
"""Columns of the table for people, and their titles."""

LEFT = ("folder", "state", "task", "memory")


@click.command(context_settings=COMMAND)
@click.argument("folders", type=NamedPath(path_type=Path), nargs=-1, metavar="[FOLDER]...")
@click.option(
    "--sort",
    type=click.Choice(list(HEADS)),
    default="folder",
    help="The column to sort by; runs without that figure come last.",
)
@click.option("--format", "as_", type=click.Choice(("table", "csv", "json")), default="table")
def runs(folders: Sequence[Path], sort: str, as_: str) -> None:
    """List runs with their key figures.

    FOLDER is a run or holds some, as a comparison does. [default: runs]  Figures are in nats a
    frame, of held-out sequences: the summary's, or those of the last evaluation.  Models that
    series fit has left are listed too, with the CRPS of their forecasts in the units of the data.
    """
    folders = folders or [Path("runs")]
    for folder in folders:
        if not folder.is_dir():
            raise Refused(f"folder: got {folder}, must be a folder that is or holds runs")
    found = [facts_of(folder) for folder in runs_in(folders)]

    def key(facts: RunFacts) -> tuple[bool, str | float]:
        value = getattr(facts, sort)
        return (value is None, 0 if value is None else value)

    found.sort(key=key)
    if as_ == "json":
        click.echo(json.dumps([facts._asdict() for facts in found], indent=2))
    elif as_ == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(RunFacts._fields)
        writer.writerows(found)
        click.echo(text.getvalue(), nl=False)
    elif not found:
        click.echo(f"No runs in {', '.join(map(str, folders))}")
    else:
        _tell(found)


def _tell(found: Sequence[RunFacts]) -> None:
    # The column of series stands only where there are some.
    names = [
        name for name in HEADS if name != "crps" or any(facts.crps is not None for facts in found)
    ]
    heads = [HEADS[name] for name in names]
    cells = [heads, *([_cell(facts, name) for name in names] for facts in found)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        told = (
            cell.ljust(width) if name in LEFT else cell.rjust(width)
            for cell, width, name in zip(line, widths, names, strict=True)
        )
        click.echo("  ".join(told).rstrip())


def _cell(facts: RunFacts, name: str) -> str:
    value = getattr(facts, name)
    if value is None:
        return "-"
    if name == "step":
        whole = facts.num_steps
        return f"{value:,}" if value == whole or whole is None else f"{value:,} of {whole:,}"
    if name == "recall_accuracy":
        return f"{value:.0%}"
    if name == "crps":  # whose units are the data's
        return f"{value:.4g}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
