"""The heads that make diagonal Gaussians over latents."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["GaussianHead"]


class GaussianHead(nn.Module):
    """Location and scale of z_t: f_z^μ, f_z^σ of the prior, f_q^μ, f_q^σ of the posterior.

    Source: Gemici et al. 2017, equations 7 and 8; one hidden layer of rectified units.  The
    posterior's hidden layer adds what it sees of the frame (``features``) before the nonlinearity:
    the same network as one on ``[Ψ, x_t]``, with the part that needs no recurrence computed for
    all frames at once by the encoder.  The context also reaches the location by a linear path,
    so that "the same as what I read" is there from the start.

    Args:
        context_dim: size of the context Ψ.
        hidden_dim: width of the hidden layer, and size of ``features``.
        latent_dim: size of z.
        min_scale: least standard deviation.
    """

    def __init__(
        self, context_dim: int, hidden_dim: int, latent_dim: int, min_scale: float = 1e-4
    ) -> None:
        super().__init__()
        self.min_scale = min_scale
        self.hidden = nn.Linear(context_dim, hidden_dim)
        self.parameters_of = nn.Linear(hidden_dim, 2 * latent_dim)

    def forward(self, context: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Location and scale, ``(*batch, latent_dim)`` each.

        Args:
            context: Ψ, ``(*batch, context_dim)``.
            features: of the frame, ``(*batch, hidden_dim)``; None for a prior.
        """
        hidden = self.hidden(context)
        if features is not None:
            hidden = hidden + features
        location, raw = self.parameters_of(hidden.relu()).chunk(2, dim=-1)
        return location, F.softplus(raw) + self.min_scale
