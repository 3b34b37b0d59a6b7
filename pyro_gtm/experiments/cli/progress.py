"""Display of a run's progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from tqdm import tqdm

__all__ = ["ProgressDisplay", "SeriesProgress", "progress_display"]

SILENCE = 30.0
"""Seconds after which a run whose output is no terminal says where it is."""


@contextmanager
def progress_display(
    total: int, done: int, kl: str = "KL", quiet: bool = False
) -> Iterator[ProgressDisplay]:
    """A display of ``total`` steps of which ``done`` are taken, with a name for the KL; a quiet one
    shows nothing."""
    disable = True if quiet else None  # None: where the output is no terminal
    bar = tqdm(total=total, initial=done, disable=disable, unit="step", dynamic_ncols=True)
    try:
        yield ProgressDisplay(bar, total, done, kl, quiet)
    finally:
        bar.close()


class ProgressDisplay:
    """A bar on a terminal; elsewhere, a line for each row of metrics, and one in a long silence."""

    def __init__(self, bar: Any, total: int, done: int, kl: str, quiet: bool = False) -> None:
        self.bar = bar
        self.quiet = quiet
        self.kl = kl
        self.total, self.done = total, done
        self.begun = self.spoken = time.monotonic()
        self.shown: dict[str, str] = {}

    def __call__(self, row: dict[str, Any]) -> None:
        """Show a row of metrics, or that a step was taken."""
        if "split" not in row:
            self.bar.update(1)
            if time.monotonic() - self.spoken > SILENCE:
                self._say(row["step"], f"negative ELBO {row['loss']:7.2f}  (this batch)")
            return
        negative_elbo = row["negative_elbo_per_frame"]
        if row["split"] == "train":
            self.shown["negative ELBO"] = f"{negative_elbo:.1f}"
            size = f", {row['frames']} frames" if "frames" in row else ""  # of a curriculum
            self._say(row["step"], f"negative ELBO {negative_elbo:7.2f}  (training{size})")
        else:
            recall = "none" if row["recall_kl"] is None else f"{row['recall_kl']:.2f}"
            last = f"{row['last_frame_kl']:.2f}"
            self.shown |= {f"recall {self.kl}": recall, f"last-frame {self.kl}": last}
            self._say(
                row["step"],
                f"negative ELBO {negative_elbo:7.2f}  recall {self.kl} {recall:>6}  "
                f"last-frame {self.kl} {last:>6}  (held out, nats a frame)",
            )
        self.bar.set_postfix(self.shown, refresh=False)

    def stopping(self) -> None:
        """Answer Ctrl-C; called from a signal handler, perhaps while a line is being written."""
        with suppress(RuntimeError):  # Python refuses to write within a write
            click.echo(
                ("" if self.bar.disable else "\n")
                + "Stopping after this step; press Ctrl-C again to stop at once.",
                err=True,
            )

    def _say(self, step: int, figures: str) -> None:
        if not self.bar.disable or self.quiet:
            return
        self.spoken = time.monotonic()
        remaining = (self.spoken - self.begun) / max(1, step - self.done) * (self.total - step)
        left = f"  ETA {tqdm.format_interval(remaining)}" if remaining else ""
        click.echo(f"step {step:>7,}  {figures}{left}")


class SeriesProgress:
    """The same of a fit to one's own series: a bar, or a line every so often."""

    LINES = 10
    """How many lines there are where the output is no terminal."""

    def __init__(self, total: int, done: int) -> None:
        self.bar = tqdm(total=total, initial=done, disable=None, unit="step", dynamic_ncols=True)
        self.every = max(1, total // self.LINES)
        self.total, self.done = total, done
        self.begun = time.monotonic()
        self.losses: list[float] = []

    def __enter__(self) -> SeriesProgress:
        return self

    def __exit__(self, *raised: object) -> None:
        self.bar.close()

    def __call__(self, step: int, loss: float) -> None:
        """Show that a step was taken."""
        self.losses.append(loss)
        self.bar.update(1)
        if step % self.every and step != self.total:
            return
        mean = sum(self.losses) / len(self.losses)
        self.losses.clear()
        self.bar.set_postfix({"negative ELBO": f"{mean:.3g}"}, refresh=False)
        if self.bar.disable:
            remaining = (time.monotonic() - self.begun) / (step - self.done) * (self.total - step)
            left = f"  ETA {tqdm.format_interval(remaining)}" if step < self.total else ""
            click.echo(
                f"step {step:>7,}  negative ELBO {mean:9.3f}  (training, nats a frame){left}"
            )

    def stopping(self) -> None:
        """Answer Ctrl-C."""
        with suppress(RuntimeError):
            click.echo("Stopping after this step; press Ctrl-C again to stop at once.", err=True)
