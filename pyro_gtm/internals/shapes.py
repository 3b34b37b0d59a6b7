"""Shapes of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions.util import broadcast_shape

__all__ = ["broadcast_shapes"]


def broadcast_shapes(*shapes: Sequence[int]) -> torch.Size:
    """``torch.broadcast_shapes``, without the import of SymPy for which its first call waits.

    Raises:
        ValueError: the shapes do not go together.
    """
    return torch.Size(broadcast_shape(*shapes))
