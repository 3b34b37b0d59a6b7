"""How a set of runs is told of: what happens to each, and how it ended when it was stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import click

from pyro_gtm.experiments.config import Config
from pyro_gtm.experiments.metrics import kl_name
from pyro_gtm.experiments.run_set import Stopped

__all__ = ["counted", "say_that_it_stops", "saying_how_it_stopped", "tell"]


@contextmanager
def saying_how_it_stopped() -> Iterator[None]:
    """Within it, Ctrl-C ends the command with a sentence and the exit code of the signal."""
    try:
        yield
    except Stopped as stopped:
        click.echo("Stopped; begun runs are saved. The same command continues.")
        raise SystemExit(128 + stopped.signal) from None
    except KeyboardInterrupt:
        click.echo("Stopped at once; runs are as saved last. The same command continues.")
        raise SystemExit(128 + signal.SIGINT) from None


def counted(count: int, noun: str) -> str:
    """The number and its noun, in the plural if there are several."""
    return f"{count} {noun}{'s' if count > 1 else ''}"


def say_that_it_stops() -> None:
    """Answer Ctrl-C; called from a signal handler, perhaps while a line is being written."""
    with suppress(RuntimeError):  # Python refuses to write within a write
        click.echo("Stopping after these steps; press Ctrl-C again to stop at once.", err=True)


def tell(configs: Mapping[str, Config], name: str, event: str, row: dict[str, Any]) -> None:
    """A line for what happens to a run of a set, of which there are these."""
    config = configs[name]
    if event == "is submitted":
        click.echo(f"{name} is submitted, to step {config.num_steps:,}")
    elif event == "begins":
        what = f"goes on from step {row['step']:,}" if row["step"] else "begins"
        click.echo(f"{name} {what}, to step {config.num_steps:,}")
    elif event == "failed":
        click.echo(f"{name} failed: {row['reason']}", err=True)
    elif not row:
        click.echo(f"{name} has logged nothing yet")
    else:
        where = "is finished" if event == "finished" else f"is at step {row['step']:,}"
        parts = [f"negative ELBO {row['negative_elbo_per_frame']:.2f}"]
        if row.get("recall_kl") is not None:
            parts.insert(0, f"recall {kl_name(config.prior)} {row['recall_kl']:.2f}")
        click.echo(f"{name} {where}: {', '.join(parts)} nats a frame")
