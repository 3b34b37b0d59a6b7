"""The generative temporal model with spatial memory, hand-written.

Source: Fraccaro et al. 2018 (arXiv 1804.09401), sections 2 and 3.  Frames x_t are those of a
variational autoencoder with latent z_t; a position s_t moves with the action; what was seen is
stored as pairs of position and posterior.  After the given frames, the prior of z_t is made of the
posteriors stored near s_t:

    s_t = s_{t-1} + M a_t + noise                             q(s_t) = p(s_t), as in the paper
    p(z_t) = N(0, I)                                          while the walk is given
    p(z_t | s_t) = sum_k w_k q(z | x_k),  w_k ~ 1 / (|s_t - s_k|^2 + delta)      after that

over the K nearest.  Deviations: M is learned from the beginning for one-hot moves and has no gate;
all stored pairs are compared, where the paper's search is approximate; frames and likelihood are
those of the other contestants here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from peers.contestants import CONTESTANTS, LATENT_DIM, GaussianHead, HandWritten
from peers.walks import PatchWalk, Walks

NEAREST = 5  # K
DELTA = 1e-4
NOISE = 0.01  # of the position, relative to moves of about one
POSITION_DIM = 2


class SpatialMemory(HandWritten):
    """GTM-SM.

    Args:
        num_frames: unused: whatever is given is stored.
        num_given: frames that are given in training.
    """

    name = "gtm-sm"

    def __init__(self, num_frames: int, num_given: int) -> None:
        super().__init__(LATENT_DIM)
        self.num_given = num_given
        self.posterior = GaussianHead(self.encoder.feature_dim)
        self.moves = nn.Linear(PatchWalk.control_dim, POSITION_DIM, bias=False)  # M
        self.ready()

    def positions(self, controls: Tensor) -> Tensor:
        """``(T, B, 5)`` to ``(T, B, 2)``."""
        moves = self.moves(controls)
        return (moves + NOISE * torch.randn_like(moves)).cumsum(0)

    def recalled(self, positions: Tensor, num_given: int) -> tuple[Tensor, Tensor]:
        """The K nearest that are stored, for each step after the given ones.

        Returns:
            Their steps and log weights, ``(T - num_given, B, K)`` each.
        """
        stored, asked = positions[:num_given], positions[num_given:]
        squared = (asked.unsqueeze(1) - stored).square().sum(-1)  # (T - given, given, B)
        nearest, steps = squared.transpose(1, 2).topk(min(NEAREST, num_given), largest=False)
        return steps, torch.log_softmax(-torch.log(nearest + DELTA), dim=-1)

    def negative_elbo(self, walks: Walks) -> Tensor:
        posterior = self.posterior(self.encoder(walks.frames))
        z = posterior.rsample()  # (T, B, Z)
        given = self.num_given
        fit = self.log_likelihood(z, walks.frames)  # (T, B)
        start = Normal(torch.zeros_like(z[:given]), 1.0, validate_args=False)
        first = Normal(posterior.loc[:given], posterior.scale[:given], validate_args=False)
        kl_given = kl_divergence(first, start).sum(-1)  # (given, B)
        steps, log_weights = self.recalled(self.positions(walks.controls), given)
        chosen = steps.permute(0, 2, 1)  # (T - given, K, B)
        batch = torch.arange(z.shape[1])
        component = Normal(
            posterior.loc[chosen, batch], posterior.scale[chosen, batch], validate_args=False
        )  # (T - given, K, B, Z)
        log_density = component.log_prob(z[given:].unsqueeze(1)).sum(-1)  # (T - given, K, B)
        log_prior = (log_density + log_weights.permute(0, 2, 1)).logsumexp(1)  # (T - given, B)
        last = Normal(posterior.loc[given:], posterior.scale[given:], validate_args=False)
        kl_after = last.log_prob(z[given:]).sum(-1) - log_prior
        return torch.cat([kl_given, kl_after]).sub(fit).mean()

    @torch.no_grad()
    def predict(self, walks: Walks, num_given: int) -> Tensor:
        posterior = self.posterior(self.encoder(walks.frames[:num_given]))
        steps, log_weights = self.recalled(self.positions(walks.controls), num_given)
        pick = torch.distributions.Categorical(logits=log_weights).sample().unsqueeze(-1)
        chosen = steps.gather(-1, pick).squeeze(-1)  # (T - given, B)
        batch = torch.arange(chosen.shape[1])
        z = Normal(posterior.loc[chosen, batch], posterior.scale[chosen, batch]).sample()
        return self.likelihood(self.decoder(z)).mean


CONTESTANTS[SpatialMemory.name] = SpatialMemory
