"""Real elements."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
from torch import Tensor

from pyro_gtm.model.likelihoods.base import Likelihood, register_likelihood
from pyro_gtm.model.likelihoods.bounds import check_bounds, within

__all__ = ["GaussianLikelihood"]


@register_likelihood("gaussian")
class GaussianLikelihood(Likelihood):
    """Independent Gaussian pixels with a learned mean and a learned, bounded scale.

    The first event dimension of the decoder's output is twice the frame's: means, then raw
    scales s, with scale = min_scale (max_scale / min_scale)^sigmoid(s).  Bounds keep the density of
    a pixel that never changes from growing without limit.  The defaults are for images and other
    data from 0 to 1; of data that spreads wider than ``max_scale``, which an untrained model cannot
    but miss, either the units or ``max_scale`` should be others.

    Args:
        event_shape: shape of a frame.
        min_scale: least standard deviation, in units of the data.
        max_scale: greatest standard deviation.

    Raises:
        ValueError: impossible scales.
    """

    has_units = True

    def __init__(
        self, event_shape: Sequence[int], min_scale: float = 0.05, max_scale: float = 1.0
    ) -> None:
        super().__init__(event_shape)
        check_bounds("GaussianLikelihood", "scale", min_scale, max_scale)
        self.min_scale = min_scale
        self.max_scale = max_scale

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.stacked_shape(2)

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        mean, raw = parameters.chunk(2, dim=-len(self.event_shape))  # (*batch, *event_shape) each
        scale = within(raw, self.min_scale, self.max_scale)
        return dist.Normal(mean, scale).to_event(len(self.event_shape))
