"""Sizes of a model, in PyTorch and in JAX."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    latent_dim: int
    width: int
    """Of the MLPs."""
    hidden_dim: int
    """Of the LSTM."""
    slots: int
    heads: int
