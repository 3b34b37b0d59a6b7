"""What a process gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

__all__ = ["Process", "Sample", "gaussian_entropy"]


class Sample(NamedTuple):
    """Series drawn from a process."""

    frames: Tensor
    """``(T, B, C)``, of float64."""

    there: Tensor
    """The frames that are observed, ``(T, B)`` of bool."""


class Process(ABC):
    """A process in discrete time with a few real channels."""

    num_steps: int
    """T of a series."""

    @abstractmethod
    def draw(self, count: int, seed: int) -> Sample:
        """So many series."""

    @abstractmethod
    def floors(self, sample: Sample) -> dict[str, float]:
        """What knowing the process makes of a sample, by name: nats an observed frame."""


def gaussian_entropy(scale: float, channels: int) -> float:
    """Of independent Gaussians of one standard deviation, in nats."""
    return channels * (math.log(scale) + 0.5 * math.log(2 * math.pi * math.e))
