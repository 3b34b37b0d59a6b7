"""The networks around a memory, and the negative bound of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from handwritten.memories import MEMORIES

Pair = tuple[Tensor, Tensor]  # location and scale


class Networks(nn.Module):
    """All networks of the model, for frames of ``pixels`` numbers.

    ``corrects``: the posterior's network gives a correction of the prior.
    """

    def __init__(
        self,
        memory: str,
        *,
        corrects: bool,
        pixels: int,
        latent: int,
        width: int,
        hidden: int,
        slots: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.corrects = corrects
        self.latent = latent
        self.memory = MEMORIES[memory](latent, hidden, slots, heads)
        context = self.memory.context_dim
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width))
        self.prior = nn.Sequential(
            nn.Linear(context, width), nn.ReLU(), nn.Linear(width, 2 * latent)
        )
        self.posterior_in = nn.Linear(context, width)
        self.posterior_out = nn.Linear(width, 2 * latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent + context, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, pixels),
        )

    def infer(self, features: Tensor, context: Tensor) -> Pair:
        loc, raw = self.posterior_out((features + self.posterior_in(context)).relu()).chunk(2, -1)
        return loc, F.softplus(raw) + 1e-4

    def correct(self, prior: Pair, correction: Pair) -> Pair:
        return prior[0] + correction[0], (prior[1] * correction[1]).clamp(min=1e-4)

    def predict(self, context: Tensor) -> Pair:
        loc, raw = self.prior(context).chunk(2, -1)
        return loc, F.softplus(raw) + 1e-4

    def decode(self, z: Tensor, context: Tensor) -> Tensor:
        return self.decoder(torch.cat([z, context], -1))


def negative_bound(networks: Networks, frames: Tensor) -> Tensor:
    """In nats, summed over sequences and frames, the KL in closed form; frames ``(T, B, pixels)``.

    The encoder runs once before the loop, the decoder once after it; so does the prior, unless the
    posterior corrects it.
    """
    features = networks.encoder(frames)
    state = networks.memory.start(frames.shape[1])
    z = frames.new_zeros(frames.shape[1], networks.latent)
    contexts, latents, posteriors, priors = [], [], [], []
    for feature in features:
        context, state = networks.memory(state, z)
        loc, scale = networks.infer(feature, context)
        if networks.corrects:
            priors.append(networks.predict(context))
            loc, scale = networks.correct(priors[-1], (loc, scale))
        z = loc + scale * torch.randn_like(scale)
        contexts.append(context)
        latents.append(z)
        posteriors.append((loc, scale))
    contexts_, latents_ = torch.stack(contexts), torch.stack(latents)
    posterior = Normal(*map(torch.stack, zip(*posteriors, strict=True)), validate_args=False)
    parameters = (
        map(torch.stack, zip(*priors, strict=True)) if priors else networks.predict(contexts_)
    )
    prior = Normal(*parameters, validate_args=False)
    logits = networks.decode(latents_, contexts_)
    reconstruction = F.binary_cross_entropy_with_logits(logits, frames, reduction="sum")
    return reconstruction + kl_divergence(posterior, prior).sum()
