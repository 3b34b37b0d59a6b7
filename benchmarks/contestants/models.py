"""The networks of all contestants: the library's, the hand-written, and weights from one to other.

Frames are binary, ``(T, B, 1, 28, 28)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

import pyro_gtm as gtm
from common.memories import build_memory
from handwritten import Networks, Sizes
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder

EVENT = (1, 28, 28)
PIXELS = 784


class Product(NamedTuple):
    """A program of this library, and its memory."""

    program: gtm.GenerativeTemporalModel
    memory: gtm.MemoryModule

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"program": self.program, "memory": self.memory})

    def weights(self) -> dict[str, Tensor]:
        return dict(self.modules().named_parameters())


def build_product(name: str, sizes: Sizes) -> Product:
    """With the library's default posterior.

    Raises:
        ValueError: the memory refuses its sizes.
    """
    memory = build_memory(name, **sizes._asdict())
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=sizes.latent_dim,
        encoder=MLPEncoder(EVENT, sizes.width, feature_dim=sizes.width),
        decoder=MLPDecoder(sizes.latent_dim + memory.context_dim, sizes.width, EVENT),
        likelihood=gtm.BernoulliLikelihood(EVENT),
    )
    return Product(program, memory)


RENAMED = {  # beginnings of names that are others in the hand-written networks, and those
    "program.encoder.layers.": "encoder.",
    "program.prior_head.hidden.": "prior.0.",
    "program.prior_head.parameters_of.": "prior.2.",
    "program.posterior_head.hidden.": "posterior_in.",
    "program.posterior_head.parameters_of.": "posterior_out.",
    "program.decoder.layers.": "decoder.",
    "memory.initial_read_weights.logits": "memory.starts",
}


def as_hand_written(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of :class:`Product`, or their gradients, by the names of the hand-written networks.

    All but ``memory.cell.bias_hh``: ``nn.LSTMCell`` has two biases where the library has one.
    """
    renamed = {}
    for name, tensor in weights.items():
        if name == "memory.controller.gates.weight":
            hidden = len(tensor) // 4
            renamed["memory.cell.weight_ih"] = tensor[:, :-hidden]
            renamed["memory.cell.weight_hh"] = tensor[:, -hidden:]
        elif name == "memory.controller.gates.bias":
            renamed["memory.cell.bias_ih"] = tensor
        else:
            ours = next((beginning for beginning in RENAMED if name.startswith(beginning)), "")
            renamed[RENAMED.get(ours, "") + name.removeprefix(ours)] = tensor
    return renamed


def copy_weights(product: Product, networks: Networks) -> None:
    """Make the hand-written networks compute what the library's do."""
    weights = as_hand_written(product.weights())
    weights["memory.cell.bias_hh"] = torch.zeros_like(weights["memory.cell.bias_ih"])
    networks.load_state_dict(weights)
