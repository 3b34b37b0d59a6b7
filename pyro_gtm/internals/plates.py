"""The shape that the plates around give to what is drawn in them."""

from __future__ import annotations

import torch
from pyro.poutine.runtime import get_plates

__all__ = ["plate_shape"]


def plate_shape() -> torch.Size:
    """The batch shape of a sample site in the plates around, seen from inside all of them."""
    frames = [frame for frame in get_plates() if frame.vectorized]
    shape = [1] * max((-frame.dim for frame in frames if frame.dim is not None), default=0)
    for frame in frames:
        if frame.dim is not None:
            shape[frame.dim] = frame.size
    return torch.Size(shape)
