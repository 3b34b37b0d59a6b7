"""Runs in one folder, trained in processes of their own.

Every run has a folder of its name.  A set that was interrupted is continued by asking for it again:
finished runs are taken as they are, begun ones go on where they were saved.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path

import torch

from pyro_gtm.experiments.checkpoint_file import CheckpointError, saved_step_in
from pyro_gtm.experiments.comparison_table import FACTS, METRICS, REFERENCES
from pyro_gtm.experiments.config import MAY_CHANGE, Config, read_config
from pyro_gtm.experiments.config_fields import flat
from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.experiments.machine import TooLittleMemoryError
from pyro_gtm.experiments.metrics_log import MetricsLog, Row
from pyro_gtm.experiments.places import Outcome, Place, Processes
from pyro_gtm.experiments.report import draw_figures
from pyro_gtm.experiments.run import FolderTakenError, Interrupted, Run, RunError
from pyro_gtm.experiments.run_folder import (
    CONFIG,
    held_folder,
    is_half_made,
    summary_in,
)
from pyro_gtm.experiments.run_folder import METRICS as METRICS_FILE
from pyro_gtm.experiments.sealed_json import DamagedFileError
from pyro_gtm.experiments.signals import stop_signals
from pyro_gtm.experiments.tensorboard import TensorBoardLog
from pyro_gtm.experiments.training_loop import each_while_it_can
from pyro_gtm.infer.training import NonFiniteLossError
from pyro_gtm.internals.compiling import CannotCompileError

__all__ = ["FailedRunsError", "Progress", "RunSet", "Stopped", "train_run"]

Progress = Callable[[str, str, Row], None]

POLL = 0.5
"""Seconds between looks at what has happened."""

REPORT_EVERY = 60.0
"""Seconds between two reports of where the runs are."""


class Stopped(Exception):
    """A set of runs was asked to stop, and its begun runs have saved their state.

    Attributes:
        signal: the signal's number.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("the runs were stopped")
        self.signal = signal_number


class FailedRunsError(RuntimeError):
    """Some runs could not be trained; the others are finished.

    Attributes:
        reasons: a sentence for each run that failed, by its name.
    """

    def __init__(self, reasons: Mapping[str, str], runs: int) -> None:
        each = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        super().__init__(f"{len(reasons)} of {runs} runs failed: {each}")
        self.reasons = dict(reasons)


class RunSet:
    """Runs in one folder, by name.

    Args:
        folder: where they are or will be.
        configs: what each is asked to be.

    Raises:
        RunError: the folder holds a run of that name with other settings or more steps, or
            something else of that name.
    """

    def __init__(self, folder: Path, configs: Mapping[str, Config]) -> None:
        self.folder = folder
        self.configs = dict(configs)
        for name in self.configs:
            self._check_fits(name)

    def _check_fits(self, name: str) -> None:
        folder, config = self.folder / name, self.configs[name]
        elsewhere = "choose another output folder"
        if not (folder / CONFIG).is_file():
            holds = folder.is_file() or any(path.is_file() for path in folder.rglob("*"))
            if holds and not is_half_made(folder):
                raise RunError(f"{folder} holds something that is no run: {elsewhere}")
            return
        try:
            there, wanted = (flat(asdict(c)) for c in (read_config(folder / CONFIG), config))
        except ValueError as error:
            raise RunError(str(error)) from error
        for setting in [*there, *wanted]:
            had, asked = (values.get(setting, "its default") for values in (there, wanted))
            if had != asked and setting not in MAY_CHANGE:
                raise RunError(
                    f"{setting}: got {asked!r}, must be {had!r} as in {folder}; or {elsewhere}"
                )
        taken = self.steps_taken(name)
        if taken > config.num_steps:
            raise RunError(
                f"num_steps: got {config.num_steps}, must be at least {taken} as in {folder}; or "
                f"{elsewhere}"
            )

    def steps_taken(self, name: str) -> int:
        """The steps of a run that its summary or its newest checkpoint tells of."""
        summary = self._summary(name)
        return max(saved_step_in(self.folder / name) or 0, summary["num_steps"] if summary else 0)

    def _summary(self, name: str) -> Row | None:
        return _read_summary(self.folder / name)

    def final(self, name: str) -> Row | None:
        """The summary of a run that has as many steps as asked for; None of any other."""
        summary = self._summary(name)
        if summary is None or summary["num_steps"] < self.configs[name].num_steps:
            return None
        return summary

    def finished(self, name: str) -> bool:
        """Whether a run has its summary, with as many steps as asked for."""
        return self.final(name) is not None

    def train(
        self,
        jobs: int = 1,
        progress: Progress = lambda name, event, row: None,
        on_signal: Callable[[], None] = lambda: None,
        modules: Sequence[str] = (),
        place: Place | None = None,
        tensorboard: bool = False,
    ) -> None:
        """Train what is not finished, ``jobs`` runs at a time, each on one CPU thread.

        Processes of this machine import the script that was started, as all of Python's do that
        are not forked: what it does belongs under ``if __name__ == "__main__"``.

        Args:
            jobs: how many processes.
            progress: is given a run's name, an event and what belongs to it: ``"begins"``, or as
                the place calls it, and ``{"step": n}``; ``"is at"``, about once a minute, and its
                last row of metrics, or nothing before the first; ``"finished"`` and its summary;
                ``"failed"`` and ``{"reason": sentence}``.
            on_signal: is called at once when a signal asks to stop.
            modules: imported in each process, as they may register memories, tasks and the like.
            place: where the runs are trained; None for processes of this machine.
            tensorboard: also write event files into each run's folder.

        Raises:
            ValueError: jobs is less than one.
            FolderInUseError: another process trains in the folder.
            FailedRunsError: some runs failed; the others have been trained.
            Stopped: on SIGINT, SIGTERM or SIGHUP, when every run has saved its state.
            KeyboardInterrupt: on a SIGINT after that, at once.
        """
        if jobs < 1:
            raise ValueError(f"jobs: got {jobs}, must be a positive integer")
        self.folder.mkdir(parents=True, exist_ok=True)
        with held_folder(self.folder) as notes:
            _tell(self.folder, notes)
            self._train(jobs, progress, on_signal, modules, place or Processes(), tensorboard)

    def _train(
        self,
        jobs: int,
        progress: Progress,
        on_signal: Callable[[], None],
        modules: Sequence[str],
        place: Place,
        tensorboard: bool,
    ) -> None:
        waiting = [name for name in self.configs if not self.finished(name)]
        running: set[str] = set()
        reasons: dict[str, str] = {}
        reported, told_to_stop, cut_short = time.monotonic(), False, False
        with stop_signals(on_signal) as stop:
            try:
                while running or (waiting and not stop):
                    while waiting and len(running) < jobs and not stop:
                        name = waiting.pop(0)
                        progress(name, place.begins, {"step": self.steps_taken(name)})
                        settings = self.folder / name, self.configs[name], tuple(modules)
                        place.start(name, train_run, *settings, tensorboard)
                        running.add(name)
                    if stop and not told_to_stop:
                        place.stop()
                        told_to_stop = True
                    for name, (event, row) in place.ended(POLL):
                        running.remove(name)
                        if stop and event != "finished":
                            cut_short = True
                            continue
                        if event == "failed":
                            reasons[name] = row["reason"]
                        progress(name, event, row)
                    if time.monotonic() - reported > REPORT_EVERY and not stop:
                        reported = time.monotonic()
                        for name in running:
                            progress(name, "is at", self._last_row(name))
            finally:
                place.close()
        if stop and (waiting or cut_short):
            raise Stopped(stop[0])
        if reasons:
            raise FailedRunsError(reasons, len(self.configs))

    def _last_row(self, name: str) -> Row:
        rows = self.metrics(name).rows
        return rows[-1] if rows else {}

    def metrics(self, name: str) -> MetricsLog:
        """The metrics of a run: those that its summary was made with, or those there are by now.

        Raises:
            DamagedFileError: those of the summary are not as they were written.
        """
        metrics = MetricsLog(self.folder / name / METRICS_FILE)
        seal = (self.final(name) or {}).get("metrics")
        if seal is None:
            metrics.read()
        else:
            metrics.read_sealed(seal)
        return metrics


def _read_summary(folder: Path) -> Row | None:
    """The summary of a run; None where there is none, or a damaged one, which is made again."""
    try:
        summary = summary_in(folder)
    except DamagedFileError:
        return None
    needed = {"oracle_kl_per_frame", "predictable_by_frame", *FACTS, *METRICS, *REFERENCES}
    return summary if summary is not None and needed <= summary.keys() else None


def train_run(
    folder: Path, config: Config, modules: Sequence[str], tensorboard: bool = False
) -> Outcome:
    """Train one run in this process, which is its own.

    Args:
        folder: of the run, which goes on if it was begun.
        config: what it is asked to be.
        modules: imported first.
        tensorboard: also write event files.

    Returns:
        How it ended, as :meth:`RunSet.train` tells of it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork would have the parent's own
    torch.set_num_threads(1)  # since there are other processes
    event, row = "failed", {}
    try:
        for module in modules:
            importlib.import_module(module)
        event, row = "finished", _trained(folder, config, tensorboard)
    except (Interrupted, KeyboardInterrupt) as error:
        row = {"reason": str(error) or "interrupted"}
    except KNOWN_FAILURES as error:
        row = {"reason": str(error)}
    except Exception as error:  # a mistake, perhaps in a memory of the user's own: it is shown
        traceback.print_exc()
        row = {"reason": f"{type(error).__name__}: {error}".splitlines()[0]}
    return event, row


KNOWN_FAILURES = (
    ValueError,
    ImportError,
    MissingDataError,
    RunError,
    CheckpointError,
    NonFiniteLossError,
    TooLittleMemoryError,
    CannotCompileError,
    OSError,
)
"""Failures that are told in a sentence, without a traceback."""


class _PatientRun(Run):
    """Where its set was killed, the process of a run still saves: it is waited for."""

    patience = 60.0


def _begun(folder: Path, config: Config) -> Run:
    """A run that begins, or goes on."""
    if not (folder / CONFIG).is_file():
        try:
            return _PatientRun.start(folder, config)
        except FolderTakenError:
            if not (folder / CONFIG).is_file():
                raise
    # It was there, or has come meanwhile from a process that was waited for.
    return _PatientRun.resume(folder, **{name: getattr(config, name) for name in MAY_CHANGE})


def _trained(folder: Path, config: Config, tensorboard: bool) -> Row:
    """Train a run, or go on training it; its summary."""
    run = _begun(folder, config)
    _tell(folder, run.notes)
    if _is_orphan():  # it waited for the folder, with which another set may have gone on
        raise Interrupted(run.step, signal.SIGTERM)

    def stop_if_orphan(row: Row) -> None:
        if _is_orphan():
            os.kill(os.getpid(), signal.SIGTERM)  # save and stop, too

    begun_at, begun_when = run.step, time.monotonic()
    watched = TensorBoardLog(run) if tensorboard else nullcontext()
    with run.holding_folder(), watched as board:
        listeners = [stop_if_orphan] if board is None else [stop_if_orphan, board]
        run.train(each_while_it_can(*listeners))
        seconds = time.monotonic() - begun_when
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the seconds to the end are worth waiting
        draw_figures(run)
        return run.write_summary(seconds, run.step - begun_at)  # last: it says that all is there


def _is_orphan() -> bool:
    """Whether the process of the set was killed, whose child this one is."""
    parent = parent_process()
    return parent is not None and not parent.is_alive()


def _tell(folder: Path, notes: Sequence[str]) -> None:
    for note in notes:
        print(f"{folder.name}: {note}", file=sys.stderr)
