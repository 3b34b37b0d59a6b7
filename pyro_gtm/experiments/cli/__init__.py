"""The command line: ``pyro-gtm train``, ``evaluate``, ``generate``, ``compare``, ``runs``,
``plot``, ``reproduce`` and ``export``, and ``pyro-gtm series`` for one's own sequences.

Also ``python -m pyro_gtm``; ``examples/train.py`` is ``train``.  One file a command; ``options`` is
shared, ``progress`` shows how training goes.
"""

from __future__ import annotations

import click

from pyro_gtm import __version__
from pyro_gtm.experiments.cli.comparing import compare
from pyro_gtm.experiments.cli.evaluating import evaluate
from pyro_gtm.experiments.cli.exporting import export
from pyro_gtm.experiments.cli.generating import generate
from pyro_gtm.experiments.cli.listing import runs
from pyro_gtm.experiments.cli.options import import_option
from pyro_gtm.experiments.cli.plotting import plot
from pyro_gtm.experiments.cli.ranks import refuse_several_processes
from pyro_gtm.experiments.cli.reproducing import reproduce
from pyro_gtm.experiments.cli.training import train
from pyro_gtm.series.cli import series

__all__ = [
    "compare",
    "evaluate",
    "export",
    "generate",
    "import_option",
    "main",
    "plot",
    "reproduce",
    "runs",
    "series",
    "train",
]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="pyro_gtm")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Generative temporal models with memory, in Pyro."""
    if ctx.invoked_subcommand not in (None, train.name):
        refuse_several_processes(str(ctx.invoked_subcommand))


for command in (train, evaluate, generate, compare, runs, plot, reproduce, export, series):
    main.add_command(command)
