"""The networks around a memory, and the negative ELBO of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from handwritten.memories import MEMORIES, Sizes

Pair = tuple[Tensor, Tensor]  # location and scale


def as_pair(emitted: Tensor) -> Pair:
    loc, raw_scale = emitted.chunk(2, -1)
    return loc, F.softplus(raw_scale) + 1e-4


class Networks(nn.Module):
    """All networks of the model, for frames of ``pixels`` numbers."""

    def __init__(self, memory: str, pixels: int, sizes: Sizes) -> None:
        super().__init__()
        self.memory = MEMORIES[memory](sizes)
        self.latent_dim, width = sizes.latent_dim, sizes.width
        context = self.memory.context_dim
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width))
        self.prior = nn.Sequential(
            nn.Linear(context, width), nn.ReLU(), nn.Linear(width, 2 * self.latent_dim)
        )
        self.posterior_in = nn.Linear(context, width)
        self.posterior_out = nn.Linear(width, 2 * self.latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(self.latent_dim + context, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, pixels),
        )

    def predict(self, context: Tensor) -> Pair:
        return as_pair(self.prior(context))

    def infer(self, feature: Tensor, context: Tensor) -> tuple[Pair, Pair]:
        """Posterior, a residual Gaussian, and prior."""
        prior = self.predict(context)
        residual = as_pair(self.posterior_out((feature + self.posterior_in(context)).relu()))
        return (prior[0] + residual[0], (prior[1] * residual[1]).clamp(min=1e-4)), prior

    def decode(self, z: Tensor, context: Tensor) -> Tensor:
        return self.decoder(torch.cat([z, context], -1))

    def unroll(self, inputs: Tensor, draw: Callable[[int, Tensor, Tensor], Tensor]) -> None:
        """Run the memory along ``(T, B, ...)``; ``draw`` gives z_t of t, the input, the context."""
        state = self.memory.start(inputs.shape[1])
        z = inputs.new_zeros(inputs.shape[1], self.latent_dim)
        for t, seen in enumerate(inputs):
            context, state = self.memory(state, z)
            z = draw(t, seen, context)


def negative_elbo(networks: Networks, frames: Tensor) -> Tensor:
    """In nats, summed over sequences and frames, the KL in closed form; frames ``(T, B, pixels)``.

    The encoder runs once before the loop, the decoder once after it.
    """
    steps: list[tuple[Tensor, ...]] = []

    def draw(_: int, feature: Tensor, context: Tensor) -> Tensor:
        posterior, prior = networks.infer(feature, context)
        z = posterior[0] + posterior[1] * torch.randn_like(posterior[1])
        steps.append((z, context, *posterior, *prior))
        return z

    networks.unroll(networks.encoder(frames), draw)
    z, contexts, *parameters = map(torch.stack, zip(*steps, strict=True))
    posterior = Normal(*parameters[:2], validate_args=False)
    prior = Normal(*parameters[2:], validate_args=False)
    logits = networks.decode(z, contexts)
    reconstruction = F.binary_cross_entropy_with_logits(logits, frames, reduction="sum")
    return reconstruction + kl_divergence(posterior, prior).sum()
