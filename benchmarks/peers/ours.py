"""Ours: the same networks round a memory of this package."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

import pyro_gtm as gtm
from peers.contestants import (
    CLIP_NORM,
    CONTESTANTS,
    HIDDEN_DIM,
    LATENT_DIM,
    LEARNING_RATE,
    Contestant,
)
from peers.walks import EVENT, PatchWalk, Walks
from pyro_gtm.infer import DeviceTrace_ELBO, FusedAdam, continue_frames
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder

STATE_DIM = 192
"""Of the LSTM: as many parameters as the associative memory has for walks of 288 frames."""


class Ours(Contestant):
    """A program with a memory.

    Args:
        memory: the memory.
        settings: of the program.
    """

    def __init__(self, name: str, memory: gtm.MemoryModule, **settings: Any) -> None:
        self.name = name  # type: ignore[misc]
        self.memory = memory
        likelihood = gtm.GaussianLikelihood(EVENT)
        self.program = gtm.GenerativeTemporalModel(
            context_dim=memory.context_dim,
            latent_dim=LATENT_DIM,
            encoder=MLPEncoder(EVENT, HIDDEN_DIM, HIDDEN_DIM),
            decoder=MLPDecoder(
                LATENT_DIM + memory.context_dim, HIDDEN_DIM, likelihood.parameter_shape
            ),
            likelihood=likelihood,
            **settings,
        )
        model = gtm.use_memory(memory, name=name)(self.program.model)
        optimizer = FusedAdam(lr=LEARNING_RATE, clip_norm=CLIP_NORM)
        self.svi = pyro.infer.SVI(model, gtm.FilteringGuide(model), optimizer, DeviceTrace_ELBO())

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for m in (self.program, self.memory) for p in m.parameters())

    def step(self, walks: Walks) -> float:
        loss = self.svi.step(walks.frames, walks.controls)
        return float(loss) / walks.frames.shape[:2].numel()

    @torch.no_grad()
    def predict(self, walks: Walks, num_given: int) -> Tensor:
        frames = continue_frames(
            self.program,
            self.memory,
            walks.frames[:num_given],
            num_steps=len(walks.controls),
            controls=walks.controls,
        )
        return frames[num_given:]


def associative(num_frames: int, num_given: int) -> Ours:
    """The associative memory with the mixture prior, of which all steps are taken at once."""
    memory = gtm.AssociativeMemory(LATENT_DIM, slots=num_frames, control_dim=PatchWalk.control_dim)
    return Ours(
        "associative",
        memory,
        prior="mixture",
        recall_heads=memory.read_shape[0],
        posterior="frame",
        writes="mean",
    )


def recurrent(num_frames: int, num_given: int) -> Ours:
    """The VRNN."""
    memory = gtm.RecurrentMemory(
        LATENT_DIM, hidden_dim=STATE_DIM, control_dim=PatchWalk.control_dim
    )
    return Ours("vrnn", memory)


CONTESTANTS["associative"] = associative
CONTESTANTS["vrnn"] = recurrent
