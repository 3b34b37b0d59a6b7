"""What every contestant has, and how it is trained and judged."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import pyro
import torch
from torch import Tensor, nn

from pyro_gtm.experiments.pieces import Excerpts, Pieces


class Bound(NamedTuple):
    """The two terms of the negative ELBO, nats a step: sums over all steps, divided by them."""

    kl: float
    reconstruction: float

    @property
    def negative_elbo(self) -> float:
        return self.kl + self.reconstruction


class Contestant(ABC):
    """A model of pieces."""

    name: str
    batch_size: ClassVar[int]

    @property
    @abstractmethod
    def networks(self) -> nn.Module:
        """All that is trained."""

    @abstractmethod
    def step(self, frames: Tensor, used: float) -> float:
        """Take a training step; its loss, in nats a step.

        Args:
            frames: ``(T, B, 88)``.
            used: the share of the time that is used up, of one.
        """

    @abstractmethod
    def terms(self, pieces: Pieces) -> tuple[Tensor, Tensor]:
        """KL and reconstruction of each piece, in nats: ``(N,)`` each."""

    def bound(self, pieces: Pieces) -> Bound:
        """The negative ELBO of pieces, from one sample, without dropout."""
        with self._judged():
            kl, reconstruction = self.terms(pieces)
        return Bound(*((part.sum() / pieces.num_steps).item() for part in (kl, reconstruction)))

    def lesioned(self, pieces: Pieces) -> Bound | None:
        """The same with all reads of the memory zeroed; None where there is none to read."""
        return None

    @abstractmethod
    def log_weights(self, pieces: Pieces, particles: int) -> Tensor:
        """log 1/K ∑_k p(x, z_k) / q(z_k | x) of each piece, in nats: ``(N,)``."""

    def importance_weighted(self, pieces: Pieces, particles: int) -> float:
        """The negative importance-weighted bound, nats a step.

        Source: Burda et al. 2016 (arXiv 1509.00519), equation 8.
        """
        with self._judged():
            return -(self.log_weights(pieces, particles).sum() / pieces.num_steps).item()

    @contextmanager
    def _judged(self) -> Iterator[None]:
        self.networks.eval()
        try:
            with torch.no_grad(), pyro.validation_enabled(False):
                yield
        finally:
            self.networks.train()

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        return sum(p.numel() for p in self.networks.parameters())


class Point(NamedTuple):
    """A contestant on its way."""

    minutes: float
    updates: int
    train: float
    """Mean loss since the point before, nats a step; of an annealed bound where the KL is."""

    valid: float
    test: float


class Course(NamedTuple):
    """What a contestant came to."""

    points: list[Point]
    best: Point
    """The one with the least bound of the validation part, whose weights the contestant has."""

    test: Bound
    minutes: float
    """Of the processor, without evaluations."""


def train(
    contestant: Contestant,
    parts: dict[str, Pieces],
    excerpts: Excerpts,
    minutes: float,
    evaluations: int = 20,
    tell: Callable[[Point], Any] = lambda point: None,
) -> Course:
    """Train for some minutes of the processor, and keep what the validation part likes best.

    Evaluations do not count as time.  The bound of the test part is logged at every one of them,
    and chooses nothing.

    Args:
        contestant: fresh.
        parts: ``valid`` and ``test``.
        excerpts: of ``train``.
        minutes: of the processor.
        evaluations: how many, at even distances, the last at the end.
        tell: is called with each point.
    """
    points: list[Point] = []
    losses: list[float] = []
    best: tuple[Point, Bound, dict[str, Any]] | None = None
    used, updates, began = 0.0, 0, time.process_time()
    with pyro.validation_enabled(False):
        while used < 1:
            losses.append(contestant.step(excerpts.draw(), used))
            updates += 1
            spent = (time.process_time() - began) / 60
            used = spent / minutes
            if used < (len(points) + 1) / evaluations and used < 1:
                continue
            paused = time.process_time()
            valid, test = (contestant.bound(parts[name]) for name in ("valid", "test"))
            mean = sum(losses) / len(losses)
            point = Point(spent, updates, mean, valid.negative_elbo, test.negative_elbo)
            losses.clear()
            points.append(point)
            tell(point)
            if best is None or point.valid < best[0].valid:
                best = point, test, copy.deepcopy(contestant.networks.state_dict())
            began += time.process_time() - paused
    assert best is not None
    point, test, weights = best
    contestant.networks.load_state_dict(weights)
    return Course(points, point, test, spent)
