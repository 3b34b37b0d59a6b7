"""Likelihoods p(x_t | z_t, Ψ): from the decoder's output to a distribution over frames.

A likelihood says which shape it needs from the decoder (``parameter_shape``) and turns that output
into a distribution whose event is a whole frame, so a site's log-probability is in nats a frame.
To add one, write a class with ``@register_likelihood("name")`` above it.
"""

from __future__ import annotations

import math
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

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "GaussianLikelihood",
    "Likelihood",
    "point_estimate",
    "register_likelihood",
]


class Likelihood(ABC):
    """A family of distributions over frames of one shape.

    Args:
        event_shape: shape of a frame, such as ``(channels, height, width)``.
    """

    placeholder: float | Tensor = 0.0
    """A frame inside the support, or its every number, which takes the place of missing frames."""

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

    @cached_property
    def support(self) -> constraints.Constraint:
        """The frames that have a density, whatever the decoder's output."""
        return cast(constraints.Constraint, self(torch.zeros(self.parameter_shape)).support)


LIKELIHOODS: Registry[Likelihood] = Registry("likelihood")
"""The likelihoods by name."""

L = TypeVar("L", bound=type[Likelihood])


def register_likelihood(name: str) -> Callable[[L], L]:
    """Make a likelihood known under ``name``; its one required argument is ``event_shape``.

    Raises:
        ValueError: the name belongs to another class already.
    """
    return LIKELIHOODS.register(name)


@register_likelihood("bernoulli")
class BernoulliLikelihood(Likelihood):
    """Independent binary pixels; the decoder's outputs are logits.  For binarised images."""

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.event_shape

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=parameters).to_event(len(self.event_shape))


@register_likelihood("gaussian")
class GaussianLikelihood(Likelihood):
    """Independent Gaussian pixels with a learned mean and a learned, bounded scale.

    The first event dimension of the decoder's output is twice the frame's: means, then raw
    scales s, with scale = min_scale (max_scale / min_scale)^sigmoid(s).  Bounds keep the density of
    a pixel that never changes from growing without limit.

    Args:
        event_shape: shape of a frame.
        min_scale: least standard deviation, in units of the data.
        max_scale: greatest standard deviation.
    """

    def __init__(
        self, event_shape: Sequence[int], min_scale: float = 0.05, max_scale: float = 1.0
    ) -> None:
        super().__init__(event_shape)
        if not 0 < min_scale < max_scale:
            raise ValueError(
                "GaussianLikelihood: min_scale and max_scale must satisfy 0 < min_scale < "
                f"max_scale, got {min_scale} and {max_scale}"
            )
        self.min_scale = min_scale
        self.max_scale = max_scale

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return (2 * self.event_shape[0], *self.event_shape[1:])

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        mean, raw = parameters.chunk(2, dim=-len(self.event_shape))  # (*batch, *event_shape) each
        scale = self.min_scale * torch.exp(
            math.log(self.max_scale / self.min_scale) * raw.sigmoid()
        )
        return dist.Normal(mean, scale).to_event(len(self.event_shape))


def point_estimate(distribution: dist.TorchDistribution) -> Tensor:
    """The mean of a distribution and, where that is not finite, its mode: ``(*batch, *event)``.

    So a Categorical or a Cauchy likelihood, which have no mean, give their likeliest frame.

    Raises:
        ValueError: it has neither.
    """
    try:
        mean = distribution.mean
    except NotImplementedError:
        return _mode(distribution)
    if bool(mean.isfinite().all()):
        return mean
    return torch.where(mean.isfinite(), mean, _mode(distribution))


def _mode(distribution: dist.TorchDistribution) -> Tensor:
    try:
        return distribution.mode
    except NotImplementedError as error:
        raise ValueError(
            f"likelihood: {type(distribution).__name__} has neither a finite mean nor a mode; ask "
            "for samples instead (sample=True)"
        ) from error
