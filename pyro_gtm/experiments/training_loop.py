"""The loop of a run: steps, logs, evaluations, checkpoints, until it ends or is told to stop."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast

import pyro

from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.machine import (
    TO_LOWER_IN_AN_EVALUATION,
    fitting_in_memory,
    steps_fitting_in_memory,
)
from pyro_gtm.experiments.metrics import recall_gap
from pyro_gtm.experiments.metrics_log import MetricsLog, Row
from pyro_gtm.experiments.signals import StopSignals, stop_signals
from pyro_gtm.infer.training import NonFiniteLossError, parameters_are_current, training_steps

__all__ = ["Interrupted", "Progress", "TrainingLoop", "each_while_it_can"]

Progress = Callable[[Row], None]


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


class TrainingLoop(ABC):
    """An experiment that is trained, its metrics, and where it stands.

    Args:
        experiment: to train.
        metrics: what is logged, and where.

    Attributes:
        step: the last step taken.
    """

    def __init__(self, experiment: Experiment, metrics: MetricsLog) -> None:
        self.experiment = experiment
        self.metrics = metrics
        self.step = 0
        self._window_loss = 0.0
        self._window_steps = 0

    @abstractmethod
    def save(self, content: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint, of the present state unless another is given."""

    def _content(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "step": self.step,
            "window": [self._window_loss, self._window_steps],
            "metrics": self.metrics.seal,
            **self.experiment.state(),
        }

    def train(
        self,
        progress: Progress = lambda row: None,
        on_signal: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to ``config.num_steps``, logging, evaluating and saving on the way.

        Args:
            progress: is given every row of metrics, and ``{"step": n, "loss": nats}`` each step;
                not again after an ``OSError``, as from a terminal that was closed.  Several
                listeners are one by :func:`each_while_it_can`.
            on_signal: is called at once, between any two instructions, when a signal asks to stop.

        Raises:
            Interrupted: on SIGINT, SIGTERM or SIGHUP, after a checkpoint: of the step in hand, or
                of that before the evaluation in hand, which is made again when the run goes on.
            KeyboardInterrupt: on a SIGINT after that, at once.
            NonFiniteLossError: the loss or gradient is NaN or infinite, or the loss on held-out
                sequences; the last checkpoint stays.
            TooLittleMemoryError: there is no room for a step or an evaluation; the last checkpoint
                stays.
            OSError: a file cannot be written; the last checkpoint stays.
        """
        config, experiment = self.experiment.config, self.experiment
        rate = experiment.learning_rate
        tell = _while_it_can(progress)
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
                tell(row)

            if self._lacks_its_evaluation():
                log(self._evaluate(stop))
                self.save()
            if experiment.curriculum:
                experiment.curriculum.begin(self.step + 1)
            for step, loss in steps_fitting_in_memory(steps):
                self.step = step
                per_frame = loss / experiment.frames_drawn
                self._window_loss += per_frame
                self._window_steps += 1
                tell({"step": step, "loss": per_frame})
                finished = step == config.num_steps
                if step % config.log_every == 0 or finished:
                    log(self._training_row())
                # Once: a signal from here on stops in the evaluation, or after the next step.  With
                # steps captured, those of a block are taken before the first comes out here.
                if self._is_asked_to_stop(stop) and parameters_are_current(experiment.svi):
                    self._stop(self._content(), stop)
                if step % config.eval_every == 0 or finished:
                    log(self._evaluate(stop))
                if experiment.curriculum:
                    experiment.curriculum.begin(step + 1)
                if step % config.save_every == 0 or finished:
                    self.save()

    @contextmanager
    def stopping_at_once(self) -> Iterator[None]:
        """Within it, after the last checkpoint, a signal ends what is drawn or judged, at once.

        Raises:
            Interrupted: on SIGINT, SIGTERM or SIGHUP.
        """

        def stop(number: int) -> NoReturn:
            raise Interrupted(self.step, number)

        with stop_signals() as signals, signals.acting_at_once(stop):
            yield

    def _is_asked_to_stop(self, signals: StopSignals) -> bool:
        """Whether a signal has come, of those received."""
        return bool(signals)

    def _stop(self, content: dict[str, Any], signals: StopSignals) -> NoReturn:
        self.save(content)
        raise Interrupted(content["step"], signals[0])

    def _evaluate(self, signals: StopSignals) -> Row:
        """The row of an evaluation, which may take long: a signal does not wait for its end."""
        content = self._content()
        with signals.acting_at_once(lambda number: self._stop(content, signals)):
            return self._evaluation_row()

    def _lacks_its_evaluation(self) -> bool:
        """Whether the run was stopped in an evaluation, or has its last step sooner than before."""
        config, step = self.experiment.config, self.step
        due = step > 0 and (step % config.eval_every == 0 or step == config.num_steps)
        return due and all(row["step"] != step for row in self.split("test"))

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
        with fitting_in_memory(TO_LOWER_IN_AN_EVALUATION), pyro.validation_enabled(False):
            batch = self.experiment.held_out()
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


def each_while_it_can(*listeners: Progress) -> Progress:
    """Listeners as one, of which each is let be after an ``OSError`` of its own, the others not."""
    tells = [_while_it_can(listener) for listener in listeners]

    def tell(row: Row) -> None:
        for each in tells:
            each(row)

    return tell


def _while_it_can(progress: Progress) -> Progress:
    """A callback that is let be after its first ``OSError``: a run outlives its terminal."""
    broken = False

    def tell(row: Row) -> None:
        nonlocal broken
        if not broken:
            try:
                progress(row)
            except OSError:
                broken = True

    return tell
