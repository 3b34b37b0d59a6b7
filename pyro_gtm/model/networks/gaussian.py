"""The heads that make diagonal Gaussians over latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_gtm.internals.products import Linear

__all__ = [
    "MIN_SCALE",
    "GateHead",
    "GaussianHead",
    "Parameters",
    "Prototypes",
    "residual_gaussian",
]

MIN_SCALE = 1e-4
"""Least standard deviation of any latent."""

Parameters = tuple[Tensor, Tensor]
"""Location and scale of a diagonal Gaussian, ``(*batch, latent_dim)`` each."""


class GaussianHead(nn.Module):
    """Location and scale of z_t: f_z^μ, f_z^σ of the prior, f_q^μ, f_q^σ of the posterior.

    Source: Gemici et al. 2017, equations 7 and 8; one hidden layer of rectified units.  The
    posterior's hidden layer adds what it sees of the frame (``features``) before the nonlinearity:
    the same network as one on ``[Ψ, x_t]``, with the part that needs no recurrence computed for
    all frames at once by the encoder.

    Args:
        context_dim: size of the context Ψ; 0 for a head that sees features alone.
        hidden_dim: width of the hidden layer, and size of ``features``.
        latent_dim: size of z.
    """

    def __init__(self, context_dim: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.hidden = Linear(context_dim, hidden_dim) if context_dim else None
        self.parameters_of = Linear(hidden_dim, 2 * latent_dim)

    def forward(self, context: Tensor | None, features: Tensor | None = None) -> Parameters:
        """Location and scale, ``(*batch, latent_dim)`` each.

        Args:
            context: Ψ, ``(*batch, context_dim)``; None for a head that sees features alone.
            features: of the frame, ``(*batch, hidden_dim)``; None for a prior.
        """
        if self.hidden is None:
            assert features is not None
            hidden = features
        else:
            hidden = self.hidden(context)
            if features is not None:
                hidden = hidden + features
        location, raw = self.parameters_of(hidden.relu()).chunk(2, dim=-1)
        return location, F.softplus(raw) + MIN_SCALE


class GateHead(nn.Module):
    """Logits of how far each of R heads is trusted, of C prototypes and, last, of something new;
    one hidden layer of rectified units.

    It begins with odds of e² : 1 : 1 for something new, heads and prototypes, and all of a kind
    alike.

    Args:
        context_dim: size of the context Ψ.
        heads: R.
        prototypes: C.
        hidden_dim: width of the hidden layer.
    """

    def __init__(
        self, context_dim: int, heads: int, prototypes: int = 0, hidden_dim: int = 64
    ) -> None:
        super().__init__()
        last = Linear(hidden_dim, heads + prototypes + 1)
        self.layers = nn.Sequential(Linear(context_dim, hidden_dim), nn.ReLU(), last)
        with torch.no_grad():
            last.bias.zero_()
            last.bias[:heads] = -math.log(heads)
            last.bias[heads:-1] = -math.log(max(1, prototypes))
            last.bias[-1] = 2.0

    def forward(self, context: Tensor) -> Tensor:
        """``(*batch, context_dim) -> (*batch, R + C + 1)``."""
        logits: Tensor = self.layers(context)
        return logits


class Prototypes(nn.Module):
    """C diagonal Gaussians, learned.

    Called with no arguments, returns locations and scales, ``(C, Z)`` each.

    Args:
        count: C.
        latent_dim: Z.
    """

    def __init__(self, count: int, latent_dim: int) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.randn(count, latent_dim))
        self.raw_scale = nn.Parameter(torch.zeros(count, latent_dim))

    def forward(self) -> Parameters:
        return self.location, F.softplus(self.raw_scale) + MIN_SCALE


def residual_gaussian(prior: Parameters, residual: Parameters) -> Parameters:
    """A residual Gaussian: the posterior N(μ + Δμ, σ Δσ) for a prior N(μ, σ).

    Then KL(posterior || prior) = (Δμ² / σ² + Δσ² - 1) / 2 - log Δσ in each dimension: where the
    memory already knows what comes, the posterior has only to leave the prior alone.  One with an
    output of its own must agree with the prior by way of two separate networks, and long keeps
    log 2 / 2 nats for every dimension in use (docs/design.md derives it).

    Source: after the residual Gaussians of Vahdat and Kautz 2020 (arXiv 2007.03898), section 3.2,
    who scale the shift by σ.  Here it is not scaled: scaled, σ shrinks early in training, the
    signal in z with it, and the networks learn the frames at half the speed.

    Args:
        prior: μ and σ.
        residual: Δμ and Δσ > 0.
    """
    (location, scale), (shift, factor) = prior, residual
    return location + shift, (scale * factor).clamp(min=MIN_SCALE)
