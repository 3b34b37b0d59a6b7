"""What run folders hold, at a glance: no weights are loaded, and no folder is too broken for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pyro_gtm.experiments.checkpoint_file import saved_step_in
from pyro_gtm.experiments.metrics_log import MetricsLog
from pyro_gtm.experiments.run_folder import CONFIG, METRICS, RunError, config_in, summary_in

__all__ = ["RunFacts", "facts_of", "runs_in"]

DEEPEST = 3
"""Folders below the one that is asked about."""


class RunFacts(NamedTuple):
    """A run in a line; None where a figure is not known."""

    folder: str
    state: str
    """``finished``, ``stopped`` (with a checkpoint), ``begun`` (without), ``weights`` (exported) or
    ``damaged``."""

    task: str | None
    memory: str | None
    """With ``+mixture`` for a mixture prior."""

    seed: int | None
    step: int | None
    num_steps: int | None
    negative_elbo: float | None
    """Nats a frame, of held-out sequences: of the summary, or of the last evaluation."""

    recall_kl: float | None
    """Nats a frame; of a mixture prior a bound on it."""

    recall_oracle_kl: float | None
    recall_accuracy: float | None


def runs_in(folders: Iterable[Path]) -> Iterator[Path]:
    """The run folders that these are, or that lie in them: in alphabetical order."""
    for folder in folders:
        yield from _runs_below(folder, DEEPEST)


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file() or (folder / METRICS).is_file():
        yield folder
    elif depth:
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir())
        except OSError:
            return
        for path in inner:
            yield from _runs_below(path, depth - 1)


def facts_of(folder: Path) -> RunFacts:
    """What a run folder tells of itself."""
    nothing = RunFacts(str(folder), "damaged", *[None] * 9)
    try:
        config = config_in(folder)
    except (OSError, RunError):
        return nothing
    memory = config.memory + "+mixture" * (config.prior == "mixture")
    known = nothing._replace(
        task=config.task, memory=memory, seed=config.seed, num_steps=config.num_steps
    )
    try:
        rows = MetricsLog(folder / METRICS)
        rows.read()
        saved, summary = saved_step_in(folder), summary_in(folder)
        judged = summary or next(iter(rows.split("test")[::-1]), {})
        step = max([saved or 0, *(row["step"] for row in rows.rows)])
        finished = summary is not None and summary["num_steps"] >= config.num_steps
        begun = "stopped" if rows.rows else "weights"
        return known._replace(
            state="finished" if finished else "begun" if saved is None else begun,
            step=max(step, summary["num_steps"] if summary else 0),
            negative_elbo=judged.get("negative_elbo_per_frame"),
            recall_kl=judged.get("recall_kl"),
            recall_oracle_kl=judged.get("recall_oracle_kl"),
            recall_accuracy=judged.get("recall_accuracy"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return known
