"""Real elements with heavy tails."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
from torch import Tensor

from pyro_gtm.model.likelihoods.base import Likelihood, register_likelihood
from pyro_gtm.model.likelihoods.bounds import check_bounds, within

__all__ = ["StudentTLikelihood"]

LEAST_EXCESS, MOST_EXCESS = 0.1, 100.0
"""Of the degrees of freedom over 2: with the least the variance is 21 times the squared scale, with
the most it is a Gaussian's to 2 %."""


@register_likelihood("student_t")
class StudentTLikelihood(Likelihood):
    """Independent real elements with heavy tails: an outlier costs log |x|, not x².

    The first event dimension of the decoder's output is three times the frame's: locations, then
    raw scales s, then raw degrees of freedom d, with scale = min_scale (max_scale /
    min_scale)^sigmoid(s) and ν = 2 + 0.1 · 1000^sigmoid(d).  So ν is from 2.1 to 102, 5.2 for d =
    0, and there is always a variance, scale² ν / (ν - 2).

    Args:
        event_shape: shape of a frame.
        min_scale: least scale, in units of the data.
        max_scale: greatest scale.

    Raises:
        ValueError: impossible scales.
    """

    has_units = True

    def __init__(
        self, event_shape: Sequence[int], min_scale: float = 0.05, max_scale: float = 1.0
    ) -> None:
        super().__init__(event_shape)
        check_bounds("StudentTLikelihood", "scale", min_scale, max_scale)
        self.min_scale = min_scale
        self.max_scale = max_scale

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.stacked_shape(3)

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        # (*batch, *event_shape) each
        location, raw_scale, raw_df = parameters.chunk(3, dim=-len(self.event_shape))
        scale = within(raw_scale, self.min_scale, self.max_scale)
        df = 2.0 + within(raw_df, LEAST_EXCESS, MOST_EXCESS)
        return dist.StudentT(df, location, scale).to_event(len(self.event_shape))
