"""Counts that vary more than their mean."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
from torch import Tensor

from pyro_gtm.model.likelihoods.base import Likelihood, register_likelihood
from pyro_gtm.model.likelihoods.bounds import check_most, log_within

__all__ = ["NegativeBinomialLikelihood"]

MOST_TOTAL_COUNT = 1e3
"""Above it the family is Poisson's but for means of hundreds, and float32 loses the difference of
two log Γ."""


@register_likelihood("negative_binomial")
class NegativeBinomialLikelihood(Likelihood):
    """Independent counts 0, 1, 2, ..., of mean m and variance m + m² / r.

    The first event dimension of the decoder's output is twice the frame's: log means u, then log
    total counts v, both bounded: log m = c tanh(u / c) with c = log(max_mean), and log r likewise
    from -log 1000 to log 1000.  The logits of Pyro's ``NegativeBinomial`` are log m - log r.  The
    encoder is given log(1 + count).

    Args:
        event_shape: shape of a frame.
        max_mean: greatest mean; its reciprocal is the least.

    Raises:
        ValueError: an impossible mean.
    """

    def __init__(self, event_shape: Sequence[int], max_mean: float = 1e6) -> None:
        super().__init__(event_shape)
        check_most("NegativeBinomialLikelihood", max_mean=max_mean)
        self.max_mean = max_mean

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.stacked_shape(2)

    def features(self, frames: Tensor) -> Tensor:
        """log(1 + count): ``(*batch, *event_shape)``."""
        return frames.log1p()

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        raw_mean, raw_total = parameters.chunk(2, dim=-len(self.event_shape))
        log_mean = log_within(raw_mean, self.max_mean)
        log_total = log_within(raw_total, MOST_TOTAL_COUNT)
        counts = dist.NegativeBinomial(log_total.exp(), logits=log_mean - log_total)
        return counts.to_event(len(self.event_shape))
