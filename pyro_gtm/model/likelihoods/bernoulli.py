"""Binary elements."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor

from pyro_gtm.model.likelihoods.base import Likelihood, register_likelihood

__all__ = ["BernoulliLikelihood"]


@register_likelihood("bernoulli")
class BernoulliLikelihood(Likelihood):
    """Independent binary pixels; the decoder's outputs are logits.  For binarised images."""

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.event_shape

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=parameters).to_event(len(self.event_shape))
