"""What every likelihood is, and the likelihoods by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar, cast

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.internals.registry import Registry

__all__ = ["LIKELIHOODS", "Likelihood", "register_likelihood"]


class Likelihood(ABC):
    """A family of distributions over frames of one shape.

    Args:
        event_shape: shape of a frame, such as ``(channels, height, width)``.
    """

    placeholder: float | Tensor = 0.0
    """A frame inside the support, or its every number, which takes the place of missing frames."""

    has_units: bool = False
    """Whether a frame may be given in other units: numbers that :mod:`pyro_gtm.series` standardises
    before the likelihood sees them.  Not counts, bits and categories."""

    num_categories: int | None = None
    """How many categories a value is one of, 0, 1, ...; None where one value is greater than
    another.  Of categories shares are told, and neither means nor quantiles."""

    def __init__(self, event_shape: Sequence[int]) -> None:
        if not isinstance(event_shape, Sequence):
            raise TypeError(
                f"{type(self).__name__}: event_shape must be a tuple of sizes, got {event_shape!r}"
            )
        self.event_shape = tuple(event_shape)
        if not self.event_shape:
            raise ValueError(f"{type(self).__name__}: event_shape must have at least one size")
        for size in self.event_shape:
            check_positive(type(self).__name__, event_shape=size)

    @property
    @abstractmethod
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one frame."""

    @abstractmethod
    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        """The distribution for decoder outputs ``(*batch, *parameter_shape)``."""

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of what an encoder is given for one frame, by default the frame's."""
        return self.event_shape

    def features(self, frames: Tensor) -> Tensor:
        """What an encoder is given, by default the frames.

        Args:
            frames: ``(*batch, *event_shape)``.

        Returns:
            ``(*batch, *feature_shape)``.
        """
        return frames

    def fill(self, frames: Tensor, drawn: Tensor, observed: Tensor | None) -> Tensor:
        """Frames with what is missing taken from others.

        Args:
            frames, drawn: ``(*batch, *event_shape)``.
            observed: the frames that there are, ``(*batch)`` of bool; None for all.
        """
        if observed is None:
            return frames
        return torch.where(
            observed.reshape(*observed.shape, *[1] * len(self.event_shape)), frames, drawn
        )

    @cached_property
    def support(self) -> constraints.Constraint:
        """The frames that have a density, whatever the decoder's output."""
        return cast(constraints.Constraint, self(torch.zeros(self.parameter_shape)).support)

    def stacked_shape(self, count: int) -> tuple[int, ...]:
        """The event shape ``count`` times along its first dimension, as convolutions stack it."""
        first, *rest = self.event_shape
        return (count * first, *rest)


LIKELIHOODS: Registry[Likelihood] = Registry("likelihood")
"""The likelihoods by name."""

L = TypeVar("L", bound=type[Likelihood])


def register_likelihood(name: str) -> Callable[[L], L]:
    """Make a likelihood known under ``name``; its one required argument is ``event_shape``.

    Raises:
        ValueError: the name belongs to another class already.
    """
    return LIKELIHOODS.register(name)
