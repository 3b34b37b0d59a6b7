"""The same training for several memories and seeds, side by side.

::

    FOLDER/
      perfect_recall-ntm-0/ ...   a run folder each: task, memory, seed (see :mod:`pyro_gtm.run`)
      results.csv  results.md     one line for each task and memory, over the seeds
      perfect_recall.png          a figure for each task

Every run has a process of its own.  A comparison that was interrupted is continued by asking for it
again: finished runs are taken as they are, begun ones go on where they were saved.
"""

from __future__ import annotations

import csv
import io
import json
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch

from pyro_gtm import plotting
from pyro_gtm.config import Config, read_config
from pyro_gtm.experiment import build_experiment
from pyro_gtm.files import write_atomically
from pyro_gtm.report import draw_figures
from pyro_gtm.run import MAY_CHANGE, Interrupted, Run, RunError

__all__ = ["Comparison", "Result", "markdown_table"]

Row = dict[str, Any]

FIGURES = ("recall_kl", "last_frame_kl", "negative_elbo_per_frame")
"""What is compared, by its name in a run's summary."""


@dataclass(frozen=True)
class Result:
    """One memory on one task, over the seeds."""

    task: str
    memory: str
    num_steps: int
    parameters: int
    seeds: int
    recall_kl: float | None
    """Mean over seeds, nats a frame; None where nothing can be predicted."""
    recall_kl_spread: float | None
    """Standard deviation over seeds; None for one seed."""
    last_frame_kl: float
    last_frame_kl_spread: float | None
    negative_elbo_per_frame: float
    negative_elbo_per_frame_spread: float | None


class Comparison:
    """Runs to be compared, in one folder.

    Args:
        folder: where they are or will be.
        configs: one for each run; no two with the same task, memory and seed.

    Raises:
        ValueError: there are none, two have the same name, or one cannot be built.
        RunError: the folder holds a run of that name with other settings.
    """

    def __init__(self, folder: Path, configs: Sequence[Config]) -> None:
        if not configs:
            raise ValueError("a comparison needs at least one task, memory and seed")
        self.folder = folder
        self.configs = {_name(config): config for config in configs}
        if len(self.configs) < len(configs):
            raise ValueError("a comparison cannot have a task, memory and seed twice")
        built: set[tuple[str, str]] = set()
        for name, config in self.configs.items():
            self._check_fits(folder / name, config)
            if (config.task, config.memory) not in built:
                build_experiment(config)  # what is impossible is said before anything starts
                built.add((config.task, config.memory))

    @staticmethod
    def _check_fits(folder: Path, config: Config) -> None:
        if not (folder / "config.json").is_file():
            return
        try:
            there = asdict(read_config(folder / "config.json"))
        except ValueError as error:
            raise RunError(str(error)) from error
        for setting, wanted in asdict(config).items():
            if there[setting] != wanted and setting not in MAY_CHANGE:
                raise RunError(
                    f"{folder} holds a run with {setting}={there[setting]!r}, and {wanted!r} was "
                    "asked for: choose another output folder"
                )

    def finished(self, name: str) -> bool:
        """Whether a run has its summary, with at least as many steps as asked for."""
        try:
            summary = json.loads((self.folder / name / "summary.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(summary["num_steps"] >= self.configs[name].num_steps)

    def train(
        self, jobs: int = 1, progress: Callable[[str, Row], None] = lambda name, summary: None
    ) -> None:
        """Train what is not finished, ``jobs`` runs at a time, each on one CPU thread.

        Args:
            jobs: how many processes.
            progress: is given a run's name and summary when it is finished.

        Raises:
            ValueError: jobs is less than one.
            RunError: a run was asked to stop, or its folder cannot be used.
            KeyboardInterrupt: on a Ctrl-C, which every run gets too and saves its state.
        """
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        waiting = [name for name in self.configs if not self.finished(name)]
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_prepare_process)
        runs = {pool.submit(_train, self.folder / n, self.configs[n]): n for n in waiting}
        try:
            for future in as_completed(runs):
                progress(runs[future], future.result())
        finally:
            pool.shutdown(cancel_futures=True)

    def results(self) -> list[Result]:
        """One for each task and memory that has a finished run, in the order of the runs."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for name in filter(self.finished, self.configs):
            summary = json.loads((self.folder / name / "summary.json").read_text())
            groups.setdefault((summary["task"], summary["memory"]), []).append(summary)
        return [_over_seeds(summaries) for summaries in groups.values()]

    def write(self) -> list[Path]:
        """Write the tables and the figures of what is finished; their paths."""
        results = self.results()
        rows = [asdict(result) for result in results]
        lines = io.StringIO()
        writer = csv.DictWriter(lines, [entry.name for entry in fields(Result)])
        writer.writeheader()
        writer.writerows(rows)
        tables = {"results.csv": lines.getvalue(), "results.md": markdown_table(results) + "\n"}
        for name, text in tables.items():
            write_atomically(self.folder / name, text.encode())
        paths = [self.folder / name for name in tables]
        for task in dict.fromkeys(result.task for result in results):
            paths.append(self.folder / f"{task}.png")
            plotting.save(plotting.memories_compared(*self._curves(task)), paths[-1])
        return paths

    def _curves(self, task: str) -> tuple[dict[str, list[list[Row]]], Any]:
        """For each memory the evaluations of each seed; and what is predictable in the task."""
        curves: dict[str, list[list[Row]]] = {}
        for name, config in self.configs.items():
            if config.task == task and self.finished(name):
                text = (self.folder / name / "metrics.jsonl").read_text()
                rows = [json.loads(line) for line in text.splitlines()]
                tests = [row for row in rows if row["split"] == "test"]
                curves.setdefault(config.memory, []).append(tests)
                some = config
        return curves, build_experiment(some).held_out().predictable.float().mean(1)


def markdown_table(results: Sequence[Result]) -> str:
    """Mean ± standard deviation over the seeds, in nats a frame, as a Markdown table."""
    lines = [
        "| task | memory | parameters | recall KL | last-frame KL | negative bound | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        cells = [
            result.task,
            result.memory,
            f"{result.parameters:,}",
            _with_spread(result.recall_kl, result.recall_kl_spread),
            _with_spread(result.last_frame_kl, result.last_frame_kl_spread),
            _with_spread(result.negative_elbo_per_frame, result.negative_elbo_per_frame_spread),
            str(result.seeds),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_spread(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "none"
    return f"{mean:.2f}" if spread is None else f"{mean:.2f} ± {spread:.2f}"


def _over_seeds(summaries: Sequence[Row]) -> Result:
    first = summaries[0]
    figures: dict[str, float | None] = {}
    for name in FIGURES:
        values = [summary[name] for summary in summaries]
        known = None not in values
        figures[name] = statistics.fmean(values) if known else None
        figures[f"{name}_spread"] = statistics.stdev(values) if known and len(values) > 1 else None
    return Result(
        task=first["task"],
        memory=first["memory"],
        num_steps=first["num_steps"],
        parameters=first["parameters"],
        seeds=len(summaries),
        **cast(Any, figures),
    )


def _name(config: Config) -> str:
    return f"{config.task}-{config.memory}-{config.seed}"


def _prepare_process() -> None:
    """One thread, since there are other processes; and a Ctrl-C is for those that train."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _train(folder: Path, config: Config) -> Row:
    """Train, or go on training, one run in a process of its own; its summary."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if (folder / "config.json").is_file():
            run = Run.resume(folder, **{name: getattr(config, name) for name in MAY_CHANGE})
        else:
            run = Run.start(folder, config)
        begun_at, begun = run.step, time.monotonic()
        run.train()
        summary = run.write_summary(time.monotonic() - begun, run.step - begun_at)
        draw_figures(run)
    except Interrupted as interruption:  # whose arguments would not survive the way back
        raise RunError(str(interruption)) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return summary
