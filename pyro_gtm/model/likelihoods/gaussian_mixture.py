"""Real elements that may be at one of several places."""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.model.likelihoods.base import Likelihood, register_likelihood
from pyro_gtm.model.likelihoods.bounds import check_bounds, within

__all__ = ["GaussianMixtureLikelihood"]


@register_likelihood("gaussian_mixture")
class GaussianMixtureLikelihood(Likelihood):
    """Independent elements, each of a mixture of Gaussians: for values with several likely places,
    where the latents alone would have to say which.

    The first event dimension of the decoder's output is 3K times the frame's: K logits, then K
    means, then K raw scales s, scale = min_scale (max_scale / min_scale)^sigmoid(s).  The means are
    counted from places spread evenly over [-max_scale / 2, max_scale / 2], so that no two
    components begin alike.  The mean is the mixture's; the mode is the likeliest of the components'
    means, which is close to the mixture's where they lie apart.

    Args:
        event_shape: shape of a frame.
        components: K >= 2.
        min_scale: least standard deviation of a component, in units of the data.
        max_scale: greatest standard deviation.

    Raises:
        ValueError: less than two components, or impossible scales.
    """

    has_units = True

    def __init__(
        self,
        event_shape: Sequence[int],
        components: int = 3,
        min_scale: float = 0.05,
        max_scale: float = 1.0,
    ) -> None:
        super().__init__(event_shape)
        check_positive("GaussianMixtureLikelihood", components=components)
        if components < 2:
            raise ValueError(
                f"GaussianMixtureLikelihood: components must be at least 2, got {components}"
            )
        check_bounds("GaussianMixtureLikelihood", "scale", min_scale, max_scale)
        self.components = components
        self.min_scale = min_scale
        self.max_scale = max_scale

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.stacked_shape(3 * self.components)

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        first = -len(self.event_shape)
        logits, means, raw = (
            part.unflatten(first, (self.components, -1)).movedim(first - 1, -1)
            for part in parameters.chunk(3, dim=first)
        )  # (*batch, *event_shape, K) each
        half = self.max_scale / 2
        means = means + torch.linspace(-half, half, self.components).to(means)
        scales = within(raw, self.min_scale, self.max_scale)
        elements = _Mixture(dist.Categorical(logits=logits), dist.Normal(means, scales))
        return elements.to_event(len(self.event_shape))


class _Mixture(dist.MixtureSameFamily):
    """With a mode, which PyTorch's has not."""

    @property
    def mode(self) -> Tensor:
        means: Tensor = self.component_distribution.mean.movedim(-1, 0)  # (K, *batch, *event)
        best = self.log_prob(means).argmax(0, keepdim=True)
        return means.gather(0, best).squeeze(0)
