"""A run: a folder that can be interrupted at any moment and continued exactly.

A checkpoint holds every RNG state beside the weights and the optimiser's moments, so a resumed run
writes the same metrics, bit for bit on one CPU machine, as one that was never interrupted, given
the same number of threads: it decides in which order PyTorch adds up.  Times are not among the
metrics for that reason: speed is in the summary.

What lies where in the folder: :mod:`pyro_gtm.experiments.run_folder`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
    save_checkpoint,
    saved_step_in,
)
from pyro_gtm.experiments.config import MAY_CHANGE, Config
from pyro_gtm.experiments.config_fields import flat
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.metrics import assess
from pyro_gtm.experiments.metrics_log import MetricsLog, Row
from pyro_gtm.experiments.provenance import provenance
from pyro_gtm.experiments.run_folder import (
    CONFIG,
    FIGURES,
    INIT_RECORD,
    METRICS,
    SUMMARY,
    FolderTakenError,
    RunError,
    config_in,
    newest_weights_in,
    refusing_folder,
)
from pyro_gtm.experiments.training_loop import Interrupted, Progress, TrainingLoop
from pyro_gtm.internals.files import write_atomically

__all__ = ["FolderTakenError", "Interrupted", "Run", "RunError"]

KEPT_CHECKPOINTS = 2


class Run(TrainingLoop):
    """A run folder and the experiment in it.

    Make one with :meth:`start`, :meth:`resume` or :meth:`load`.
    """

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        super().__init__(experiment, MetricsLog(folder / METRICS))
        self.folder = folder
        self.exact = True
        """Whether a resumed run goes on with the very random numbers it would have had."""
        self._provenance: Row | None = None  # of the steps that this process takes

    @classmethod
    def start(cls, folder: Path, config: Config) -> Run:
        """Begin a run in ``folder``, which must be empty or not exist yet.

        Everything is built before the folder is, so a refused configuration leaves nothing.  A run
        that takes weights from another saves them at once, and does not need the other any more.

        Raises:
            FolderTakenError: the folder holds something.
            RunError: it cannot be written, or there are no weights in ``config.init_from`` that
                fit.
            CheckpointError: the newest checkpoint in ``config.init_from`` is damaged.
            ValueError, MissingDataError: see :func:`pyro_gtm.experiments.build.build_experiment`.
        """
        taken = FolderTakenError(
            f"output: got {folder}, must be empty or new; --resume {folder} continues the run in it"
        )
        with refusing_folder(folder):
            if folder.exists() and any(folder.iterdir()):
                raise taken
        source = None if config.init_from is None else newest_weights_in(Path(config.init_from))
        run = cls(folder, build_experiment(config))
        record = None if source is None else run._take_weights(source)
        with refusing_folder(folder):
            try:
                (folder / "checkpoints").mkdir(parents=True)
            except FileExistsError:  # another run has begun in it meanwhile
                raise taken from None
            (folder / FIGURES).mkdir()
            if record is not None:
                write_atomically(
                    folder / INIT_RECORD, (json.dumps(record, indent=2) + "\n").encode()
                )
                run.save()
            write_atomically(folder / CONFIG, config.to_json().encode())
        return run

    @classmethod
    def resume(cls, folder: Path, **overrides: Any) -> Run:
        """Continue the run in ``folder`` from its newest checkpoint, or from the beginning.

        Args:
            folder: a run folder.
            **overrides: settings the caller wants; only those in ``MAY_CHANGE`` may differ from
                those the run was started with.  On another kind of device the run goes on with
                other random numbers (:attr:`exact` is then False).

        Raises:
            RunError: the folder holds no run, or one with another configuration.
            CheckpointError: its newest checkpoint is damaged, or of another configuration.
        """
        config = config_in(folder)
        started_with = flat(asdict(config))
        for name, wanted in flat(overrides).items():
            same = name in started_with and started_with[name] == wanted
            if name not in MAY_CHANGE and not same:
                had = repr(started_with[name]) if name in started_with else "left out"
                raise RunError(f"{name}: got {wanted!r}, must be {had} as in the run in {folder}")
        allowed = {name: value for name, value in overrides.items() if name in MAY_CHANGE}
        config = replace(config, **allowed)
        run = cls(folder, build_experiment(config))
        state = run._restore()
        if state is not None and "optimizer" not in state:
            raise RunError(
                f"{folder} holds weights without the state of training, as exported: --init-from "
                "takes them, nothing goes on from them"
            )
        if state is not None:
            run.exact = run.experiment.set_rng_state(state, config.seed + run.step)
        if run.step > config.num_steps:
            raise RunError(
                f"num_steps: got {config.num_steps}, must be at least {run.step}, the steps that "
                f"the run in {folder} has taken"
            )
        write_atomically(folder / CONFIG, config.to_json().encode())
        return run

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
        """
        config = replace(config_in(folder), device=device)
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
        return json.loads(path.read_text()) if path.exists() else None

    def train(
        self,
        progress: Progress = lambda row: None,
        on_signal: Callable[[], None] = lambda: None,
    ) -> None:
        """As :meth:`TrainingLoop.train`, and note what the steps are taken with."""
        self._provenance = provenance(self.experiment.device)  # of the code before it can change
        super().train(progress, on_signal)

    def save(self) -> Path:
        """Write a checkpoint and drop all but the newest two."""
        path = checkpoint_path(self.folder, self.step)
        path.parent.mkdir(exist_ok=True)
        window = [self._window_loss, self._window_steps]
        save_checkpoint(path, {"step": self.step, "window": window, **self.experiment.state()})
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
        paths = self.checkpoints()
        if not paths:
            return None
        try:
            content = load_checkpoint(paths[-1], self.experiment.device)
        except CheckpointError as error:
            rest = (
                f"; {paths[-2].name} before it is kept: remove the damaged file to go on from there"
                if len(paths) > 1
                else ""
            )
            raise CheckpointError(f"{error}{rest}") from error
        try:
            self.experiment.set_state(content)
        except RuntimeError as error:
            raise CheckpointError(
                f"checkpoint {paths[-1]} does not fit the configuration in {self.folder}: "
                "config.json has been changed since, or the memory's code has"
            ) from error
        self.step = content["step"]
        self._window_loss, self._window_steps = content["window"]
        self.metrics.read(self.step)
        return content

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
            "curriculum": config.curriculum,
            "init_from": self.init_record,
            "parameters": experiment.num_parameters,
            "device": experiment.device.type,
        }

    @property
    def trained_with(self) -> Row | None:
        """The provenance in the summary; None without any."""
        summary = self._written_summary()
        return None if summary is None else summary.get("provenance")

    def _written_summary(self) -> Row | None:
        path = self.folder / SUMMARY
        return json.loads(path.read_text()) if path.exists() else None

    def write_summary(self, seconds: float, steps_taken: int) -> Row:
        """Write and return ``summary.json``: the metrics of the model and what it was made with.

        Args:
            seconds: how long training took in this process, evaluations included.
            steps_taken: in this process.
        """
        speed, made, before = None, self._provenance, self._written_summary()
        if steps_taken:
            speed = steps_taken / seconds
        elif before is not None:  # a finished run, resumed: keep what is said of its training
            speed, made = before["steps_per_second"], before.get("provenance", made)
        # Otherwise it was killed between its last checkpoint and its summary.
        with pyro.validation_enabled(False):  # it costs more than the mathematics
            summary = {
                **self.facts(),
                **assess(self.experiment),
                "steps_per_second": speed,
                "provenance": made or provenance(self.experiment.device),
            }
        write_atomically(self.folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
        return summary
