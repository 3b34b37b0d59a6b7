"""Ours: one program, and the memory it is given."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import pyro_gtm as gtm
from music.contestants import Bound, Contestant
from pyro_gtm.experiments.chorales import ChoraleModel
from pyro_gtm.experiments.pieces import Pieces
from pyro_gtm.infer import importance_weighted_bound


class Ours(Contestant):
    """A :class:`ChoraleModel`.

    Args:
        name: of the memory.
        **options: of the model.
    """

    batch_size = 16

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.reads = name != "vrnn" and options.get("reads", True)
        self.chorales = ChoraleModel(name, **options)

    @property
    def networks(self) -> nn.Module:
        return self.chorales.networks

    def step(self, frames: Tensor, used: float) -> float:
        return self.chorales.step(frames, used)

    def lesioned(self, pieces: Pieces) -> Bound | None:
        if not self.reads:  # of the vrnn, what is zeroed would be its state
            return None
        with gtm.lesion_memory():
            return self.bound(pieces)

    def log_weights(self, pieces: Pieces, particles: int) -> Tensor:
        return importance_weighted_bound(
            self.chorales.guide, pieces.frames, lengths=pieces.lengths, num_particles=particles
        )

    def terms(self, pieces: Pieces) -> tuple[Tensor, Tensor]:
        return self.chorales.terms(pieces)
