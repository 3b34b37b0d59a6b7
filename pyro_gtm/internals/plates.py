"""The plates around a program, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import get_plates

from pyro_gtm.internals.shapes import broadcast_shapes

__all__ = ["plate_shape", "refuse_plate_at", "refusing_wide_masks"]


def plate_shape() -> torch.Size:
    """The batch shape of a sample site in the plates around, seen from inside all of them."""
    frames = [frame for frame in get_plates() if frame.vectorized]
    shape = [1] * max((-frame.dim for frame in frames if frame.dim is not None), default=0)
    for frame in frames:
        if frame.dim is not None:
            shape[frame.dim] = frame.size
    return torch.Size(shape)


def refuse_plate_at(dim: int, owner: str) -> None:
    """Refuse a plate of the user's where a program's own is to be.

    Raises:
        ValueError: the sentence names it.
    """
    for frame in get_plates():
        if frame.vectorized and frame.dim == dim:
            raise ValueError(
                f"{owner}: the plate {frame.name!r} around it is at dim {dim}, which belongs to "
                f"the plate of the sequences; give yours dim={dim - 1} or further left"
            )


@contextmanager
def refusing_wide_masks(plate: AbstractContextManager[Any], owner: str) -> Iterator[None]:
    """A plate, within which ``poutine.mask`` and ``scale`` must fit the sites' batch shapes."""
    with plate, _WideMasks(owner):
        yield


class _WideMasks(Messenger):
    """A check of each site's mask and scale, which Pyro would broadcast its density to."""

    def __init__(self, owner: str) -> None:
        super().__init__()
        self.owner = owner

    def _pyro_post_sample(self, msg: Any) -> None:
        batch_shape = msg["fn"].batch_shape
        for name in ("mask", "scale"):
            tensor = msg[name]
            if not isinstance(tensor, torch.Tensor) or tensor.dim() == 0:
                continue
            try:
                wide = broadcast_shapes(batch_shape, tensor.shape) != batch_shape
            except ValueError:
                wide = True
            if wide:
                raise ValueError(
                    f"{self.owner}: poutine.{name} of shape {tuple(tensor.shape)} around the site "
                    f"{msg['name']!r}, whose batch shape is {tuple(batch_shape)}: one number a "
                    "sequence is allowed, (B,); frames are masked by the program's argument mask, "
                    "and single steps in the layout 'per_step'"
                )
