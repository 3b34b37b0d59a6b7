"""A run: a folder that can be interrupted at any moment and continued exactly.

A checkpoint holds every RNG state beside the weights and the optimiser's moments, so a resumed run
writes the same metrics, bit for bit on one CPU machine, as one that was never interrupted, given
the same number of threads: it decides in which order PyTorch adds up.  Times are not among the
metrics for that reason: speed is in the summary.

What lies where in the folder: :mod:`pyro_gtm.experiments.run_folder`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyro

from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.checkpoint_file import (
    CheckpointError,
    checkpoint_path,
    checkpoints_in,
    load_checkpoint,
    load_newest_checkpoint,
    save_checkpoint,
    saved_step_in,
)
from pyro_gtm.experiments.config import MAY_CHANGE, Config
from pyro_gtm.experiments.config_fields import flat
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.folder_lock import LOCK
from pyro_gtm.experiments.machine import TO_LOWER_IN_AN_EVALUATION, fitting_in_memory
from pyro_gtm.experiments.metrics import assess
from pyro_gtm.experiments.metrics_log import MetricsLog, Row
from pyro_gtm.experiments.provenance import provenance
from pyro_gtm.experiments.run_folder import (
    CHECKPOINTS,
    CONFIG,
    FIGURES,
    INIT_RECORD,
    METRICS,
    SUMMARY,
    UNCHECKED,
    FolderInUseError,
    FolderTakenError,
    RunError,
    clear_half_made,
    clear_partial,
    config_in,
    held_folder,
    is_half_made,
    newest_weights_in,
    notes_on,
    refusing_folder,
    summary_in,
)
from pyro_gtm.experiments.sealed_json import DamagedFileError, read_sealed, write_sealed
from pyro_gtm.experiments.training_loop import Interrupted, Progress, TrainingLoop
from pyro_gtm.internals.files import write_atomically

__all__ = ["FolderInUseError", "FolderTakenError", "Interrupted", "Run", "RunError"]

KEPT_CHECKPOINTS = 2


class Run(TrainingLoop):
    """A run folder and the experiment in it.

    Make one with :meth:`start`, :meth:`resume` or :meth:`load`.
    """

    patience = 0.0
    """Seconds to wait for another process that trains in the folder, before it is refused."""

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        super().__init__(experiment, MetricsLog(folder / METRICS))
        self.folder = folder
        self.exact = True
        """Whether a resumed run goes on with the very random numbers it would have had."""
        self.notes: list[str] = []
        """What is to be known of how the folder was found: a sentence each."""
        self._provenance: Row | None = None  # of the steps that this process takes
        self._saved: int | None = None  # the newest checkpoint that this process knows of
        self._holds_folder = False

    @classmethod
    def start(cls, folder: Path, config: Config) -> Run:
        """Begin a run in ``folder``, which must be empty or not exist yet.

        Everything is built before the folder is, so a refused configuration leaves nothing.  A run
        that takes weights from another saves them at once, and does not need the other any more.
        What a run has left that was killed before its configuration was there is no hindrance.

        Raises:
            FolderTakenError: the folder holds something.
            RunError: it cannot be written, or there are no weights in ``config.init_from`` that
                fit.
            CheckpointError: the newest checkpoint in ``config.init_from`` is damaged.
            ValueError, MissingDataError: see :func:`pyro_gtm.experiments.build.build_experiment`.
        """
        with refusing_folder(folder):
            _refuse_taken(folder)
        source = None if config.init_from is None else newest_weights_in(Path(config.init_from))
        run = cls(folder, build_experiment(config))
        record = None if source is None else run._take_weights(source)
        with refusing_folder(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with run.holding_folder():
                    _refuse_taken(folder)  # another run may have begun in it meanwhile
                    run._begin(record)
            except FolderInUseError as error:
                raise FolderTakenError(f"output: {error}") from error
        return run

    def _begin(self, record: Row | None) -> None:
        """Make the folder; it holds a run from the moment when its configuration is there."""
        if is_half_made(self.folder):
            clear_half_made(self.folder)
        (self.folder / CHECKPOINTS).mkdir()
        (self.folder / FIGURES).mkdir()
        if record is not None:
            write_sealed(self.folder / INIT_RECORD, record)
            self.save()
        self._write_config()

    def _write_config(self) -> None:
        write_atomically(self.folder / CONFIG, self.experiment.config.to_json().encode())

    @classmethod
    def resume(cls, folder: Path, **overrides: Any) -> Run:
        """Continue the run in ``folder`` from its newest checkpoint, or from the beginning.

        Args:
            folder: a run folder.
            **overrides: settings the caller wants; only those in ``MAY_CHANGE`` may differ from
                those the run was started with.  On another kind of device the run goes on with
                other random numbers (:attr:`exact` is then False); ``products="auto"`` leaves what
                was chosen when the run began.

        Raises:
            RunError: the folder holds no run, or one with another configuration.
            FolderInUseError: another process trains in it.
            CheckpointError: its newest checkpoint is damaged, or of another configuration.
            DamagedFileError: its metrics are.
        """
        config = config_in(folder)
        started_with = flat(asdict(config))
        for name, wanted in flat(overrides).items():
            same = name in started_with and started_with[name] == wanted
            if name not in MAY_CHANGE and not same:
                had = repr(started_with[name]) if name in started_with else "left out"
                raise RunError(f"{name}: got {wanted!r}, must be {had} as in the run in {folder}")
        allowed = {name: value for name, value in overrides.items() if name in MAY_CHANGE}
        if allowed.get("products") == "auto":
            del allowed["products"]  # what was chosen when the run began stays
        config = replace(config, **allowed)
        run = cls(folder, build_experiment(config))
        with run.holding_folder():
            clear_partial(folder)
            state = run._restore()
            if state is None:
                run._begin_again()
            if state is not None and "optimizer" not in state:
                raise RunError(
                    f"{folder} holds weights without the state of training, as exported: "
                    "--init-from takes them, nothing goes on from them"
                )
            if state is not None:
                run.exact = run.experiment.set_rng_state(state, config.seed + run.step)
            if run.step > config.num_steps:
                raise RunError(
                    f"num_steps: got {config.num_steps}, must be at least {run.step}, the steps "
                    f"that the run in {folder} has taken"
                )
            run._write_config()
        return run

    def _begin_again(self) -> None:
        """Where there is no checkpoint to go on from."""
        if (self.folder / SUMMARY).exists():
            raise RunError(
                f"{self.folder} holds the summary of a finished run and no checkpoint: nothing "
                f"goes on from it; remove {SUMMARY} to train it again from the beginning"
            )
        if self.metrics.path.exists():
            self.notes.append(f"{self.folder} has no checkpoint yet: training begins again")

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        data_dir: str | None = None,
        *,
        task_options: Mapping[str, Any] | None = None,
        memory_options: Mapping[str, Any] | None = None,
    ) -> Run:
        """A trained run, for generation or evaluation; nothing in its folder changes.

        Args:
            folder: a run folder.
            device: where to load it, whatever it was trained on.
            data_dir: where its data is now, if not where it was.
            task_options: options of the task in which its held-out sequences are to differ from
                those it was trained on, such as a longer list.
            memory_options: options of the memory in which it is to differ from the trained one; its
                weights must still fit.

        Raises:
            ValueError: an option that the task or memory does not take, or cannot have.
            RunError: the folder holds no run, one without a checkpoint, or one whose weights do
                not fit the memory options.
            CheckpointError: its newest checkpoint is damaged.
            DamagedFileError: another file is.
        """
        config = replace(config_in(folder), device=device, ranks=1)
        if data_dir is not None:
            config = replace(config, data_dir=data_dir)
        if memory_options:
            config = replace(config, memory_options={**config.memory_options, **memory_options})
        run = cls(folder, build_experiment(config, task_options))
        try:
            run._restore()
        except CheckpointError as error:
            if not memory_options or not isinstance(error.__cause__, RuntimeError):
                raise
            changed = ", ".join(f"{name}={value!r}" for name, value in memory_options.items())
            raise RunError(
                f"the weights in {folder} do not fit a memory with {changed}: "
                f"those of {config.memory} depend on it"
            ) from error
        if run.step == 0:
            raise RunError(f"{folder} has no checkpoint yet: train it first")
        return run

    def _take_weights(self, state: Mapping[str, Any]) -> Row:
        folder = self.experiment.config.init_from
        weights = self.experiment.take_weights(state)
        if not weights.taken:
            raise RunError(
                f"init_from: got {folder}, must be a run with weights that fit by name and shape: "
                "none do"
            )
        return {"folder": folder, "step": state["step"], **weights._asdict()}

    @property
    def init_record(self) -> Row | None:
        """Which weights were taken from which run; None for a run that began with its own."""
        path = self.folder / INIT_RECORD
        return read_sealed(path, "record").content if path.exists() else None

    @contextmanager
    def holding_folder(self) -> Iterator[None]:
        """Within it, no other process trains in the folder; training does so by itself.

        Raises:
            FolderInUseError: another does.
            RunError: the folder cannot be written in.
        """
        if self._holds_folder:
            yield
            return
        with held_folder(self.folder, self.patience) as notes:
            self.notes += notes
            self._holds_folder = True
            try:
                yield
            finally:
                self._holds_folder = False

    def train(
        self,
        progress: Progress = lambda row: None,
        on_signal: Callable[[], None] = lambda: None,
    ) -> None:
        """As :meth:`TrainingLoop.train`, holding the folder.

        Raises:
            FolderInUseError: another process trains in it.
            RunError: another has trained in it since this run was begun, resumed or saved.
        """
        self._provenance = provenance(self.experiment.device)  # of the code before it can change
        with self.holding_folder():
            if self.saved_step != self._saved:
                raise RunError(
                    f"the run in {self.folder} was changed by another process: resume it again"
                )
            super().train(progress, on_signal)

    def save(self, content: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint and drop all but the newest two."""
        content = self._content() if content is None else content
        path = checkpoint_path(self.folder, content["step"])
        if not self.folder.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.folder))
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, content)
        self._saved = content["step"]
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink()
        return path

    def checkpoints(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return checkpoints_in(self.folder)

    @property
    def saved_step(self) -> int | None:
        """The step of the newest checkpoint; None before the first."""
        return saved_step_in(self.folder)

    def _restore(self) -> dict[str, Any] | None:
        """Take up weights, moments, step and metrics of the newest checkpoint, if there is one."""
        self.notes += notes_on(self.folder)
        content = load_newest_checkpoint(self.folder, self.experiment.device)
        if content is None:
            return None
        try:
            self.experiment.set_state(content)
        except RuntimeError as error:
            raise CheckpointError(
                f"checkpoint {self.checkpoints()[-1]} does not fit the configuration in "
                f"{self.folder}: {CONFIG} has been changed since, or the memory's code has"
            ) from error
        self.step = self._saved = content["step"]
        self._window_loss, self._window_steps = content["window"]
        self._read_metrics(content)
        return content

    def _read_metrics(self, content: Mapping[str, Any]) -> None:
        """Read the rows that there were when a checkpoint was saved."""
        seal, path = content.get("metrics"), self.metrics.path
        if seal is None:
            self.metrics.read(content["step"])
            if path.exists():
                self.notes.append(f"{path} {UNCHECKED}")
        elif seal["rows"] and not path.exists():
            self.notes.append(f"{path} is not there: the rows up to step {self.step} are lost")
        else:
            try:
                self.metrics.read_sealed(seal)
            except DamagedFileError as error:
                raise DamagedFileError(f"{error}; {self._without_metrics()}") from error

    def _without_metrics(self) -> str:
        """How to go on where the rows that the newest checkpoint has are damaged."""
        *before, newest = self.checkpoints()
        for path in reversed(before):
            with suppress(CheckpointError, DamagedFileError, KeyError):
                self.metrics.read_sealed(load_checkpoint(path)["metrics"])
                return (
                    f"those up to {path.name} are whole: remove {newest.name} to go on from there, "
                    f"or {METRICS} to go on without its rows"
                )
        return f"remove {METRICS} to go on without its rows"

    def facts(self) -> Row:
        """Facts of a run that a summary has beside its metrics."""
        experiment, config = self.experiment, self.experiment.config
        return {
            "memory": config.memory,
            "prior": config.prior,
            "posterior": config.posterior,
            "writes": config.writes,
            "task": config.task,
            "task_options": {**config.task_options},
            "data": config.data,
            "seed": config.seed,
            "num_steps": self.step,
            "ranks": config.ranks,
            "curriculum": config.curriculum,
            "init_from": self.init_record,
            "parameters": experiment.num_parameters,
            "device": experiment.device.type,
        }

    @property
    def trained_with(self) -> Row | None:
        """The provenance in the summary; None without any.

        Raises:
            DamagedFileError: the summary is not as it was written.
        """
        summary = summary_in(self.folder)
        return None if summary is None else summary.get("provenance")

    def write_summary(self, seconds: float, steps_taken: int) -> Row:
        """Write and return ``summary.json``: the metrics of the model and what it was made with.

        Args:
            seconds: how long training took in this process, evaluations included.
            steps_taken: in this process.

        Raises:
            FolderInUseError: another process trains in the folder.
            TooLittleMemoryError: there is no room for the evaluation.
        """
        with self.holding_folder():
            speed, made, before = None, self._provenance, self._summary_before()
            if steps_taken:
                speed = steps_taken / seconds
            elif before is not None:  # a finished run, resumed: keep what is said of its training
                speed, made = before.get("steps_per_second"), before.get("provenance", made)
            # Otherwise it was killed between its last checkpoint and its summary.
            with (
                fitting_in_memory(TO_LOWER_IN_AN_EVALUATION),
                pyro.validation_enabled(False),  # it costs more than the mathematics
            ):
                summary = {
                    **self.facts(),
                    **assess(self.experiment),
                    "metrics": self.metrics.seal,
                    "steps_per_second": speed,
                    "provenance": made or provenance(self.experiment.device),
                }
            write_sealed(self.folder / SUMMARY, summary)
        return summary

    def _summary_before(self) -> Row | None:
        try:
            return summary_in(self.folder)
        except DamagedFileError:  # told of when the run was resumed
            return None


def _refuse_taken(folder: Path) -> None:
    if not folder.exists() or is_half_made(folder):
        return
    if any(path.name != LOCK for path in folder.iterdir()):
        raise FolderTakenError(
            f"output: got {folder}, must be empty or new; --resume {folder} continues the run in it"
        )
