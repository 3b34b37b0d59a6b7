"""Counts."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
from torch import Tensor

from pyro_gtm.model.likelihoods.base import Likelihood, register_likelihood
from pyro_gtm.model.likelihoods.bounds import check_most, log_within

__all__ = ["PoissonLikelihood"]


@register_likelihood("poisson")
class PoissonLikelihood(Likelihood):
    """Independent counts 0, 1, 2, ..., whose variance is their mean.

    The decoder's outputs are log rates u, bounded: log λ = c tanh(u / c) with c = log(max_rate).
    The encoder is given log(1 + count).

    Args:
        event_shape: shape of a frame.
        max_rate: greatest rate; its reciprocal is the least.

    Raises:
        ValueError: an impossible rate.
    """

    def __init__(self, event_shape: Sequence[int], max_rate: float = 1e6) -> None:
        super().__init__(event_shape)
        check_most("PoissonLikelihood", max_rate=max_rate)
        self.max_rate = max_rate

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.event_shape

    def features(self, frames: Tensor) -> Tensor:
        """log(1 + count): ``(*batch, *event_shape)``."""
        return frames.log1p()

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        rate = log_within(parameters, self.max_rate).exp()
        return dist.Poisson(rate).to_event(len(self.event_shape))
