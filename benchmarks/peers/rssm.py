"""A recurrent state-space model, hand-written.

Source: Hafner et al. 2019 (arXiv 1811.04551), section 3: a deterministic path through a GRU beside
the stochastic latent, and a decoder that sees both.

    h_t = GRU(h_{t-1}, [z_{t-1}, a_t])
    p(z_t | h_t)    q(z_t | h_t, x_t)    p(x_t | h_t, z_t)

a_t is the move into frame t.  Without its overshooting and its reward.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from peers.contestants import CONTESTANTS, LATENT_DIM, GaussianHead, HandWritten
from peers.walks import PatchWalk, Walks

STATE_DIM = 208
"""Of the GRU: as many parameters as the associative memory has for walks of 288 frames."""


class RecurrentStateSpace(HandWritten):
    """RSSM.

    Args:
        num_frames: unused: all steps are alike.
        num_given: unused.
    """

    name = "rssm"

    def __init__(self, num_frames: int, num_given: int) -> None:
        super().__init__(LATENT_DIM + STATE_DIM)
        self.recurrence = nn.GRUCell(LATENT_DIM + PatchWalk.control_dim, STATE_DIM)
        self.prior = GaussianHead(STATE_DIM)
        self.posterior = GaussianHead(STATE_DIM + self.encoder.feature_dim)
        self.ready()

    def negative_elbo(self, walks: Walks) -> Tensor:
        features = self.encoder(walks.frames)  # (T, B, F)
        batch = walks.frames.shape[1]
        state, z = torch.zeros(batch, STATE_DIM), torch.zeros(batch, LATENT_DIM)
        inputs, kls = [], []
        for control, feature in zip(walks.controls, features, strict=True):
            state = self.recurrence(torch.cat([z, control], -1), state)  # (B, STATE_DIM)
            posterior = self.posterior(torch.cat([state, feature], -1))
            z = posterior.rsample()  # (B, Z)
            kls.append(kl_divergence(posterior, self.prior(state)).sum(-1))
            inputs.append(torch.cat([state, z], -1))
        fit = self.log_likelihood(torch.stack(inputs), walks.frames)  # (T, B)
        return torch.stack(kls).sub(fit).mean()

    @torch.no_grad()
    def predict(self, walks: Walks, num_given: int) -> Tensor:
        features = self.encoder(walks.frames[:num_given])
        batch = walks.controls.shape[1]
        state, z = torch.zeros(batch, STATE_DIM), torch.zeros(batch, LATENT_DIM)
        predicted = []
        for t, control in enumerate(walks.controls):
            state = self.recurrence(torch.cat([z, control], -1), state)
            if t < num_given:
                z = self.posterior(torch.cat([state, features[t]], -1)).sample()
            else:
                z = self.prior(state).sample()
                predicted.append(self.likelihood(self.decoder(torch.cat([state, z], -1))).mean)
        return torch.stack(predicted)


CONTESTANTS[RecurrentStateSpace.name] = RecurrentStateSpace
