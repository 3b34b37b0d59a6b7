"""What folders of runs and of models of series hold, at a glance.

No weights are loaded, and no folder is too broken for it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pyro_gtm.experiments.checkpoint_file import saved_step_in
from pyro_gtm.experiments.folder_lock import is_locked
from pyro_gtm.experiments.metrics_log import MetricsLog
from pyro_gtm.experiments.run_folder import CONFIG, METRICS, RunError, config_in, summary_in
from pyro_gtm.series.model import DESCRIPTION, SCORES

__all__ = ["RunFacts", "facts_of", "runs_in"]

DEEPEST = 3
"""Folders below the one that is asked about."""


class RunFacts(NamedTuple):
    """A run in a line; None where a figure is not known."""

    folder: str
    state: str
    """``running`` (a process has the folder), ``finished``, ``stopped`` (with a checkpoint),
    ``begun`` (without), ``weights`` (exported) or ``damaged``."""

    task: str | None
    """``series`` for a model of one's own series."""

    memory: str | None
    """With ``+mixture`` for a mixture prior."""

    seed: int | None
    step: int | None
    num_steps: int | None
    negative_elbo: float | None
    """Nats a frame, of held-out sequences: of the summary, or of the last evaluation; None of
    a model of series, whose file does not hold it."""

    recall_kl: float | None
    """Nats a frame; of a mixture prior a bound on it."""

    recall_oracle_kl: float | None
    recall_accuracy: float | None
    crps: float | None
    """Of a model of series: of the forecasts of what was held out, a mean over horizons and
    channels, in the units of the data."""


def runs_in(folders: Iterable[Path]) -> Iterator[Path]:
    """The folders of runs and of models of series that these are, or that lie in them: in
    alphabetical order."""
    for folder in folders:
        yield from _runs_below(folder, DEEPEST)


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).is_file() for name in (CONFIG, METRICS, DESCRIPTION)):
        yield folder
    elif depth:
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir())
        except OSError:
            return
        for path in inner:
            yield from _runs_below(path, depth - 1)


def facts_of(folder: Path) -> RunFacts:
    """What a folder tells of the run, or the model of series, in it."""
    nothing = RunFacts(str(folder), "damaged", *[None] * 10)
    if (folder / DESCRIPTION).is_file():
        return _facts_of_series(folder, nothing)
    try:
        config = config_in(folder)
    except (OSError, RunError):
        return nothing
    memory = config.memory + "+mixture" * (config.prior == "mixture")
    known = nothing._replace(
        task=config.task, memory=memory, seed=config.seed, num_steps=config.num_steps
    )
    running = is_locked(folder)
    try:
        rows = MetricsLog(folder / METRICS)
        rows.read()
        saved, summary = saved_step_in(folder), summary_in(folder)
        judged = summary or next(iter(rows.split("test")[::-1]), {})
        step = max([saved or 0, *(row["step"] for row in rows.rows)])
        finished = summary is not None and summary["num_steps"] >= config.num_steps
        if saved is None:
            state = "begun" if summary is None else "damaged"
        elif not rows.rows:
            state = "weights"
        elif saved > config.num_steps:
            state = "damaged"
        else:
            state = "finished" if finished else "stopped"
        return known._replace(
            state="running" if running else state,
            step=max(step, summary["num_steps"] if summary else 0),
            negative_elbo=judged.get("negative_elbo_per_frame"),
            recall_kl=judged.get("recall_kl"),
            recall_oracle_kl=judged.get("recall_oracle_kl"),
            recall_accuracy=judged.get("recall_accuracy"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return known


def _facts_of_series(folder: Path, nothing: RunFacts) -> RunFacts:
    try:
        told = json.loads((folder / DESCRIPTION).read_bytes())
        settings, step = told["settings"], int(told["step"])
        num_steps = int(settings["num_steps"])
        return nothing._replace(
            state="finished" if step >= num_steps else "stopped",
            task="series",
            memory=settings["memory"] + "+mixture" * (settings["prior"] == "mixture"),
            seed=settings["seed"],
            step=step,
            num_steps=num_steps,
            crps=_mean_crps(folder / SCORES),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return nothing


def _mean_crps(path: Path) -> float | None:
    """Of a table of scores; None where there is none that can be read."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            every = [float(row["crps"] or math.nan) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, csv.Error):
        return None
    known = [crps for crps in every if not math.isnan(crps)]
    return sum(known) / len(known) if known else None
