"""A run: a folder that can be interrupted at any moment and continued exactly.

::

    FOLDER/
      config.json     what was asked for, and what multiplies
      init_from.json  which weights were taken from another run, if any
      metrics.jsonl   one line for each log ("split": "train") and evaluation ("split": "test")
      checkpoints/    the last two, newest by its number of steps
      summary.json    the final figures
      figures/        *.png

A checkpoint holds every RNG state beside the weights and the optimiser's moments, so a resumed run
writes the same metrics, bit for bit on one CPU machine, as one that was never interrupted, given
the same number of threads: it decides in which order PyTorch adds up.  Times are not among the
metrics for that reason: speed is in the summary.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

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
from pyro_gtm.experiments.config import MAY_CHANGE, Config, read_config
from pyro_gtm.experiments.config_fields import flat
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.metrics import assess, recall_gap
from pyro_gtm.experiments.metrics_log import MetricsLog, Row
from pyro_gtm.experiments.provenance import provenance
from pyro_gtm.experiments.signals import stop_signals
from pyro_gtm.infer.training import NonFiniteLossError, parameters_are_current, training_steps
from pyro_gtm.internals.files import write_atomically

__all__ = ["FolderTakenError", "Interrupted", "Run", "RunError"]

Progress = Callable[[Row], None]

KEPT_CHECKPOINTS = 2

INIT_RECORD = "init_from.json"


class RunError(RuntimeError):
    """A run folder cannot be used as asked: one sentence says why."""


class FolderTakenError(RunError):
    """The folder of a new run holds something already."""


class Interrupted(Exception):
    """Training was asked to stop, and stopped with its state saved.

    Attributes:
        step: the last step taken.
        signal: the signal's number.
    """

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"interrupted after step {step}")
        self.step = step
        self.signal = signal_number


class Run:
    """A run folder and the experiment in it.

    Make one with :meth:`start`, :meth:`resume` or :meth:`load`.
    """

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        self.folder = folder
        self.experiment = experiment
        self.step = 0
        self.exact = True
        """Whether a resumed run goes on with the very random numbers it would have had."""
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        self._provenance: Row | None = None  # of the steps that this process takes
        self._window_loss = 0.0
        self._window_steps = 0

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
        with _refusing_folder(folder):
            if folder.exists() and any(folder.iterdir()):
                raise taken
        source = None if config.init_from is None else _newest_state(Path(config.init_from))
        run = cls(folder, build_experiment(config))
        record = None if source is None else run._take_weights(source)
        with _refusing_folder(folder):
            try:
                (folder / "checkpoints").mkdir(parents=True)
            except FileExistsError:  # another run has begun in it meanwhile
                raise taken from None
            (folder / "figures").mkdir()
            if record is not None:
                write_atomically(
                    folder / INIT_RECORD, (json.dumps(record, indent=2) + "\n").encode()
                )
                run.save()
            write_atomically(folder / "config.json", run.experiment.config.to_json().encode())
        return run

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
            CheckpointError: its newest checkpoint is damaged, or of another configuration.
        """
        config = _config_of(folder)
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
        write_atomically(folder / "config.json", run.experiment.config.to_json().encode())
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
        config = replace(_config_of(folder), device=device, ranks=1)
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
        """Train to ``config.num_steps``, logging, evaluating and saving on the way.

        Args:
            progress: is given every row of metrics, and ``{"step": n, "loss": nats}`` each step.
            on_signal: is called at once, between any two instructions, when a signal asks to stop.

        Raises:
            Interrupted: on SIGINT or SIGTERM, after the step in hand and a checkpoint.
            KeyboardInterrupt: on a SIGINT after that, at once.
            NonFiniteLossError: the loss or gradient is NaN or infinite, or the loss on held-out
                sequences; the last checkpoint stays.
        """
        config, experiment = self.experiment.config, self.experiment
        self._provenance = provenance(experiment.device)  # of the code before it can change
        rate = experiment.learning_rate
        with (
            stop_signals(on_signal) as stop,
            self.metrics.appending() as append,
            warnings.catch_warnings(),
            closing(
                training_steps(
                    experiment.svi,
                    experiment.draw,
                    num_steps=config.num_steps,
                    start=self.step,
                    kl_annealing=config.kl_annealing,
                    learning_rate=rate if rate.varies else None,
                    pause=lambda step: self._is_asked_to_stop(stop) or self._acts_at(step),
                )
            ) as steps,
        ):
            # Pyro warns of a loss that is NaN; here that is an error, with the step's number.
            warnings.filterwarnings("ignore", "Encountered NaN", UserWarning)

            def log(row: Row) -> None:
                append(row)
                progress(row)

            if experiment.curriculum:
                experiment.curriculum.begin(self.step + 1)
            for step, loss in steps:
                self.step = step
                per_frame = loss / experiment.frames_drawn
                self._window_loss += per_frame
                self._window_steps += 1
                progress({"step": step, "loss": per_frame})
                finished = step == config.num_steps
                # Once: a signal from here on stops after the next step.  With steps captured, those
                # of a block are taken before the first of them comes out here.
                stopping = self._is_asked_to_stop(stop) and parameters_are_current(experiment.svi)
                if step % config.log_every == 0 or finished:
                    log(self._training_row())
                if step % config.eval_every == 0 or finished:
                    log(self._evaluation_row())
                if experiment.curriculum:
                    experiment.curriculum.begin(step + 1)
                if step % config.save_every == 0 or finished or stopping:
                    self.save()
                if stopping and not finished:
                    raise Interrupted(step, stop[0])
            if not any(row["step"] == self.step for row in self.split("test")):
                log(self._evaluation_row())  # resumed with as many steps as were already taken

    def _is_asked_to_stop(self, signals: list[int]) -> bool:
        """Whether a signal has come, of those received."""
        return bool(signals)

    def _acts_at(self, step: int) -> bool:
        """Whether something is to be done after this step, with the weights it leaves."""
        config = self.experiment.config
        periods = (config.log_every, config.eval_every, config.save_every)
        return step == config.num_steps or any(step % period == 0 for period in periods)

    def _training_row(self) -> Row:
        config = self.experiment.config
        row = {
            "split": "train",
            "step": self.step,
            "negative_elbo_per_frame": self._window_loss / self._window_steps,
            "gradient_norm": self.experiment.optimizer.gradient_norm,
            "learning_rate": self.experiment.learning_rate(self.step),
        }
        if config.kl_annealing:
            row["kl_weight"] = min(1.0, self.step / config.kl_annealing)
        if self.experiment.curriculum:
            row["frames"] = self.experiment.curriculum.present.num_steps
        self._window_loss, self._window_steps = 0.0, 0
        return row

    def _evaluation_row(self) -> Row:
        batch = self.experiment.held_out()
        with pyro.validation_enabled(False):  # the check below names the step
            summary = self.experiment.evaluate(batch).summary(batch.predictable)
        loss = summary["negative_elbo_per_frame"]
        if not math.isfinite(cast(float, loss)):
            raise NonFiniteLossError(self.step, f"the loss on held-out sequences is {loss}")
        return {"split": "test", "step": self.step, **summary, **self._stage()}

    def _stage(self) -> Row:
        """How well the present size is learnt, where that decides on the next."""
        curriculum = self.experiment.curriculum
        if not curriculum or not curriculum.waits:
            return {}
        size = curriculum.present
        with pyro.validation_enabled(False):
            gap = recall_gap(self.experiment, size)
        # An evaluation out of turn is that of a last step, which more steps would not have.
        if self.step % self.experiment.config.eval_every == 0:
            curriculum.observe(gap)
        return {"stage_frames": size.num_steps, "stage_recall_kl": gap and gap.excess}

    def split(self, name: str) -> list[Row]:
        """The rows of metrics of one split, ``"train"`` or ``"test"``."""
        return self.metrics.split(name)

    def save(self) -> Path:
        """Write a checkpoint and drop all but the newest two."""
        path = checkpoint_path(self.folder, self.step)
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, self._content())
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink()
        return path

    def _content(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        window = [self._window_loss, self._window_steps]
        return {"step": self.step, "window": window, **self.experiment.state()}

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
            "ranks": config.ranks,
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
        path = self.folder / "summary.json"
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
        write_atomically(
            self.folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode()
        )
        return summary


def _config_of(folder: Path) -> Config:
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder} holds no run: there is no config.json in it")
    try:
        return read_config(folder / "config.json")
    except ValueError as error:
        raise RunError(str(error)) from error


def _newest_state(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of the run whose weights another takes."""
    try:
        _config_of(folder)
    except RunError as error:
        raise RunError(f"init_from: {error}") from error
    paths = checkpoints_in(folder)
    if not paths:
        raise RunError(f"init_from: got {folder}, must be a run with a checkpoint: it has none yet")
    try:
        return load_checkpoint(paths[-1])
    except CheckpointError as error:
        raise CheckpointError(f"init_from: {error}") from error


@contextmanager
def _refusing_folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"output: {folder} cannot be written: {error.strerror}") from error
