"""A run that several processes train together, of which the first one keeps the folder.

What a checkpoint of one process holds is here that of the first rank, and ``ranks`` beside it the
state of the noise of each, so that as many of them go on exactly.  Every rank takes the same path
through :meth:`Run.train`: what one waits for, another says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from pyro_gtm.experiments.build import build_experiment, seed_of_rank
from pyro_gtm.experiments.checkpoint_file import checkpoint_path, load_checkpoint
from pyro_gtm.experiments.config import Config
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.metrics_log import MetricsLog, Row
from pyro_gtm.experiments.run import Run
from pyro_gtm.experiments.signals import StopSignals
from pyro_gtm.experiments.training_loop import Progress
from pyro_gtm.infer.check_observations import InvalidFramesError
from pyro_gtm.infer.ranks import Ranks
from pyro_gtm.infer.training import NonFiniteLossError

__all__ = ["DistributedRun"]

LEFT_TO_EACH = ("device", "data_dir")
"""Settings that may differ from machine to machine."""


class DistributedRun(Run):
    """A run in each of the processes that train it; see :func:`pyro_gtm.infer.joined`.

    Only the first reads and writes in the folder, evaluates and logs.  All stop after the same
    step, whichever of them a signal reaches.
    """

    def __init__(self, folder: Path, experiment: Experiment) -> None:
        super().__init__(folder, experiment)
        self.ranks = experiment.ranks
        self._noise_states: list[dict[str, torch.Tensor]] = []
        if not self.ranks.first:
            self.metrics = _Unwritten(self.metrics.path)

    @classmethod
    def start(cls, folder: Path, config: Config) -> DistributedRun:
        """As :meth:`Run.start`; what goes wrong in one rank is raised in all.

        Raises:
            ValueError: the ranks were given different settings.
        """
        ranks = Ranks.here()
        _check_same(ranks.gather(asdict(config)))
        with ranks.failing_together():
            if ranks.first:
                run = cast(DistributedRun, super().start(folder, config))
            else:
                run = cls(folder, build_experiment(config))
        run._share_weights()  # some may be of another run, which the first has read
        return run

    @classmethod
    def resume(cls, folder: Path, **overrides: Any) -> DistributedRun:
        """As :meth:`Run.resume`; what goes wrong in one rank is raised in all."""
        ranks = Ranks.here()
        _check_same(ranks.gather(overrides))
        with ranks.failing_together():
            first = super().resume(folder, **overrides) if ranks.first else None
        config, content, rows = ranks.from_first(lambda: _saved(cast(Run, first)))
        with ranks.failing_together():
            if ranks.first:
                run = cast(DistributedRun, first)
            else:
                left = {name: overrides[name] for name in LEFT_TO_EACH if name in overrides}
                run = cls(folder, build_experiment(Config(**{**config, **left})))
                run.metrics.rows = rows
            if content is not None:
                run._take_up(content)
        return run

    def _take_up(self, content: dict[str, Any]) -> None:
        """Go on from a checkpoint, with the noise of this rank."""
        states = content.get("ranks")  # none before the first step, where it is as seeded
        own = states[self.ranks.rank] if states else self.experiment.noise_state()
        seed = self.experiment.config.seed + content["step"]
        if not self.ranks.first:
            self.experiment.set_state(content)
            self.step = self._saved = content["step"]
            seed = seed_of_rank(seed, self.ranks.rank)
        self.exact = self.experiment.set_rng_state({**content, **own}, seed)

    def _share_weights(self) -> None:
        modules = (self.experiment.program, self.experiment.memory)
        self.ranks.broadcast_([t for module in modules for t in module.state_dict().values()])

    def train(
        self,
        progress: Progress = lambda row: None,
        on_signal: Callable[[], None] = lambda: None,
    ) -> None:
        """As :meth:`Run.train`; a batch that has no density is told of by all ranks alike.

        Raises:
            LostRankError: another rank has ended, or does not answer; the last checkpoint stays.
        """
        try:
            super().train(progress, on_signal)
        except (NonFiniteLossError, InvalidFramesError) as error:  # in all, after the same step
            errors = self.ranks.gather(error)
            raise next(
                (e for e in errors if isinstance(e, InvalidFramesError)), errors[0]
            ) from None

    @contextmanager
    def holding_folder(self) -> Iterator[None]:
        """As :meth:`Run.holding_folder`, of the first rank; the others have no folder."""
        with super().holding_folder() if self.ranks.first else nullcontext():
            yield

    @property
    def saved_step(self) -> int | None:
        """The step of the newest checkpoint, as the first rank has it."""
        return super().saved_step if self.ranks.first else self._saved

    def _evaluate(self, signals: StopSignals) -> Row:
        """Without an end in its midst: a signal reaches one rank, and the others would wait."""
        return self._evaluation_row()

    def _is_asked_to_stop(self, signals: StopSignals) -> bool:
        number = self.ranks.greatest(signals[0] if signals else 0)
        if number and not signals:
            signals.append(number)
        return bool(number)

    def _evaluation_row(self) -> Row:
        evaluate, curriculum = super()._evaluation_row, self.experiment.curriculum
        if curriculum is None:
            return self.ranks.from_first(evaluate)
        row, curriculum.stage = self.ranks.from_first(lambda: (evaluate(), curriculum.stage))
        return row

    def save(self, content: dict[str, Any] | None = None) -> Path:
        """As :meth:`Run.save`, by the first rank."""
        content = self._content() if content is None else content
        if self.ranks.first:
            return super().save(content)
        self._saved = content["step"]
        return checkpoint_path(self.folder, content["step"])

    def _content(self) -> dict[str, Any]:
        if self.step:  # before, noise is as seeded
            self._noise_states = self.ranks.gather(self.experiment.noise_state())
        return {**super()._content(), "ranks": self._noise_states}


class _Unwritten(MetricsLog):
    """Rows of metrics in memory alone."""

    @contextmanager
    def appending(self) -> Iterator[Callable[[Row], None]]:
        yield self.rows.append


def _saved(run: Run) -> tuple[dict[str, Any], dict[str, Any] | None, list[Row]]:
    """What the other ranks need of a run that goes on: its settings, checkpoint and metrics."""
    paths = run.checkpoints()
    content = load_checkpoint(paths[-1]) if paths else None
    return asdict(run.experiment.config), content, run.metrics.rows


def _check_same(settings: list[dict[str, Any]]) -> None:
    """Refuse settings that differ from rank to rank."""
    first = settings[0]
    for rank, its in enumerate(settings):
        for name in sorted({*first, *its} - {*LEFT_TO_EACH}):
            if first.get(name) != its.get(name):
                raise ValueError(
                    f"{name}: got {json.dumps(its.get(name))} in process {rank}, must be "
                    f"{json.dumps(first.get(name))} as in the first"
                )
