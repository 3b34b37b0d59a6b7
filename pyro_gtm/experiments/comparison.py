"""The same training for several memories and seeds, side by side.

::

    FOLDER/
      perfect_recall-ntm-0/ ...   a run folder each: task, contestant, seed
      results.csv  results.md     one line for each task and contestant, over the seeds
      perfect_recall.png          a figure for each task

A contestant is a memory or, with the mixture prior, ``ntm+mixture``.

Every run has a process of its own, and is continued where it was interrupted: see
:class:`~pyro_gtm.experiments.run_set.RunSet`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch
from matplotlib.figure import Figure

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.comparison_table import (
    Result,
    contestant,
    markdown_report,
    over_seeds,
)
from pyro_gtm.experiments.config import Config
from pyro_gtm.experiments.metrics_log import Row
from pyro_gtm.experiments.published import Published, published_results
from pyro_gtm.experiments.run_set import RunSet
from pyro_gtm.internals.files import write_atomically
from pyro_gtm.tasks import Task

__all__ = ["Comparison", "compared"]


class Comparison(RunSet):
    """Runs to be compared, in one folder.

    To make one builds an experiment of each task and contestant in this process: Pyro's parameter
    store is emptied and PyTorch seeded, as :func:`~pyro_gtm.experiments.build.build_experiment`
    says.  Training leaves both alone.

    Args:
        folder: where they are or will be.
        configs: one for each run; no two with the same task, memory, prior and seed.

    Raises:
        ValueError: there are none, two have the same name, or one cannot be built.
        MissingDataError: the images cannot be had.
        RunError: the folder holds a run of that name with other settings or more steps, or
            something else of that name.
    """

    def __init__(self, folder: Path, configs: Sequence[Config]) -> None:
        if not configs:
            raise ValueError("a comparison needs at least one task, memory and seed")
        named = {_name(config): config for config in configs}
        if len(named) < len(configs):
            raise ValueError("a comparison cannot have a task, memory, prior and seed twice")
        super().__init__(folder, named)
        self.tasks: dict[str, Task] = {}
        """The tasks, over held-out data."""
        # What is impossible is said before anything starts; a seed makes no difference to that.
        for config in {(c.task, _contestant(c)): c for c in configs}.values():
            self.tasks[config.task] = build_experiment(config).test_task

    def results(self) -> list[Result]:
        """One for each task and contestant that has a finished run, in the order of the runs."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for name, config in self.configs.items():
            summary = self.final(name)
            if summary is not None:
                groups.setdefault((config.task, _contestant(config)), []).append(summary)
        return [
            over_seeds(summaries, self._published(task, summaries[0]["data"]).get(name))
            for (task, name), summaries in groups.items()
        ]

    def _published(self, task: str, data: str) -> dict[str, Published]:
        return published_results(task, self.tasks[task].published_as, data)

    def write(self) -> list[Path]:
        """Write the tables and the figures of what is finished; their paths."""
        results = self.results()
        rows = [asdict(result) for result in results]
        lines = io.StringIO()
        writer = csv.DictWriter(lines, [entry.name for entry in fields(Result)])
        writer.writeheader()
        writer.writerows(rows)
        tables = {"results.csv": lines.getvalue(), "results.md": markdown_report(results) + "\n"}
        for name, text in tables.items():
            write_atomically(self.folder / name, text.encode())
        paths = [self.folder / name for name in tables]
        for task in dict.fromkeys(result.task for result in results):
            paths.append(self.folder / f"{task}.png")
            plotting.save(self._figure(task), paths[-1])
        return paths

    def _figure(self, task: str) -> Figure:
        runs = [name for name, config in self.configs.items() if config.task == task]
        finished = {name: summary for name in runs if (summary := self.final(name)) is not None}
        return compared(
            [(summary, self.metrics(name).split("test")) for name, summary in finished.items()],
            self._published(task, next(iter(finished.values()))["data"]),
        )


def compared(
    runs: Sequence[tuple[Row, Sequence[Row]]], published: Mapping[str, Published]
) -> Figure:
    """The paper's three panels for one task, with the mean oracle KL of these runs, if all have one
    kind of prior.

    Args:
        runs: of each its summary, and the rows of its evaluations.
        published: the paper's results, by memory; those of other memories are left out.
    """
    curves: dict[str, list[Sequence[Row]]] = {}
    for summary, evaluations in runs:
        curves.setdefault(contestant(summary["memory"], summary["prior"]), []).append(evaluations)
    summaries = [summary for summary, _ in runs]
    bounds = {
        contestant(summary["memory"], summary["prior"])
        for summary in summaries
        if summary["prior"] == "mixture"
    }
    oracle_kl = [
        s["oracle_kl_per_frame"] for s in summaries if s["oracle_kl_per_frame"] is not None
    ]
    if 0 < len(bounds) < len(curves):
        oracle_kl = []  # of new frames that cost a KL here and a bound there, no mean is any
    return plotting.memories_compared(
        curves,
        # That of the first: on another kind of device others are drawn from the same distribution.
        torch.tensor(summaries[0]["predictable_by_frame"]),
        oracle_kl=torch.tensor(oracle_kl).mean(0) if oracle_kl else None,
        published={m: result._asdict() for m, result in published.items() if m in curves},
        bounds=bounds,
    )


def _contestant(config: Config) -> str:
    return contestant(config.memory, config.prior)


def _name(config: Config) -> str:
    return f"{config.task}-{_contestant(config)}-{config.seed}"
