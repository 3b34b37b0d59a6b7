"""What every contestant has: a training step, a prediction, and how large it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from peers.walks import EVENT, Walks
from pyro_gtm.model.likelihoods import GaussianLikelihood
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder

LATENT_DIM = 16
HIDDEN_DIM = 128
LEARNING_RATE = 2e-3
CLIP_NORM = 10.0
LEAST_SCALE = 1e-3


class Contestant(ABC):
    """A model of walks; all have the same encoder, decoder, likelihood, latent and optimiser."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Trainable numbers."""

    @abstractmethod
    def step(self, walks: Walks) -> float:
        """Take a training step; the negative ELBO, in nats a frame."""

    @abstractmethod
    def predict(self, walks: Walks, num_given: int) -> Tensor:
        """The frames after the given ones, ``(T - num_given, B, 3, 8, 8)``: their means given one
        sampled path of latents.  None of the walk's frames after the given ones is looked at."""


CONTESTANTS: dict[str, Callable[[int, int], Contestant]] = {}
"""By name, made with the greatest number of frames, and of those given in training."""


class HandWritten(Contestant, nn.Module):
    """One of plain PyTorch, with the encoder and decoder that all have.

    Args:
        decoder_input_dim: what the decoder sees.
    """

    def __init__(self, decoder_input_dim: int) -> None:
        nn.Module.__init__(self)
        self.likelihood = GaussianLikelihood(EVENT)
        self.encoder = MLPEncoder(EVENT, HIDDEN_DIM, HIDDEN_DIM)
        self.decoder = MLPDecoder(decoder_input_dim, HIDDEN_DIM, self.likelihood.parameter_shape)

    def ready(self) -> None:
        """Make the optimiser, when all networks are there."""
        self.optimizer = torch.optim.Adam(self.parameters(), LEARNING_RATE)

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @abstractmethod
    def negative_elbo(self, walks: Walks) -> Tensor:
        """The mean over sequences, nats a frame: ``()``."""

    def step(self, walks: Walks) -> float:
        self.optimizer.zero_grad()
        loss = self.negative_elbo(walks)
        (loss * len(walks.frames)).backward()
        nn.utils.clip_grad_norm_(self.parameters(), CLIP_NORM)
        self.optimizer.step()
        return loss.item()

    def log_likelihood(self, inputs: Tensor, frames: Tensor) -> Tensor:
        """``(*batch, input_dim)`` and frames to ``(*batch,)``."""
        return self.likelihood(self.decoder(inputs)).log_prob(frames)


class GaussianHead(nn.Module):
    """Location and scale of a diagonal Gaussian over z.

    Args:
        input_dim: size of what it is a function of.
        output_dim: size of z.
    """

    def __init__(self, input_dim: int, output_dim: int = LATENT_DIM) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_dim, HIDDEN_DIM), nn.ReLU(), nn.Linear(HIDDEN_DIM, 2 * output_dim)
        )

    def forward(self, inputs: Tensor) -> torch.distributions.Normal:
        location, raw = self.layers(inputs).chunk(2, dim=-1)
        scale = nn.functional.softplus(raw) + LEAST_SCALE
        return torch.distributions.Normal(location, scale, validate_args=False)
