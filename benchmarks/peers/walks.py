"""Walks over an image of which only a patch is seen at a time.

Source: the image navigation of Fraccaro et al. 2018 (arXiv 1804.09401), section 4.1, which crops
8x8 patches of faces of 32x32 pixels.  Here the images are views of random rooms, and a move is of
half a patch, so that there are 7x7 places.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet, Rooms
from pyro_gtm.tasks import task_class

SIZE, PATCH, STRIDE = 32, 8, 4
PLACES = (SIZE - PATCH) // STRIDE + 1
"""To a side."""

EVENT = (3, PATCH, PATCH)
VIEWS_OF_A_ROOM = 3


class Walks(NamedTuple):
    """T steps of B walks, each over an image of its own."""

    frames: Tensor
    """Patches, intensities in [0, 1]: ``(T, B, 3, 8, 8)``."""

    controls: Tensor
    """The move into each patch, one-hot, as in the task ``mnist_map``: ``(T, B, 5)``."""

    since: Tensor
    """Steps since the same place was seen last, 0 where it never was: ``(T, B)`` of int64."""


class PatchWalk:
    """Walks over the images of one set.

    Args:
        num_images: views of rooms that are drawn first; no more come.
        num_frames: T.
        seed: of the rooms.
    """

    control_dim = 5

    def __init__(self, num_images: int, num_frames: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        rooms = -(-num_images // VIEWS_OF_A_ROOM)
        turn = Rooms().turn(VIEWS_OF_A_ROOM, rooms, degrees=120.0, size=SIZE, generator=generator)
        images = turn.frames.flatten(0, 1)[:num_images]  # (N, 3, 32, 32)
        patches = images.unfold(2, PATCH, STRIDE).unfold(3, PATCH, STRIDE)
        self.patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)  # (N, 49, 3, 8, 8)
        anything = ImageSet(torch.zeros(1, *EVENT), torch.zeros(1, dtype=torch.int64))
        self.grid = task_class("mnist_map")(
            anything, rows=PLACES, columns=PLACES, num_frames=num_frames
        )

    def sample(self, batch_size: int, generator: torch.Generator) -> Walks:
        """Draw walks, over images drawn with replacement."""
        place, action = self.grid.walk(batch_size, generator)  # (T, B) each
        image = torch.randint(len(self.patches), (batch_size,), generator=generator)
        return Walks(
            self.patches[image, place],
            torch.nn.functional.one_hot(action, self.control_dim).float(),
            steps_since(place),
        )


def steps_since(place: Tensor) -> Tensor:
    """How long ago each place was come to last, 0 for never: ``(T, B)`` to ``(T, B)``."""
    steps = torch.arange(len(place), device=place.device)
    same = place.unsqueeze(1) == place.unsqueeze(0)  # (T, T, B): now, then
    before = steps.unsqueeze(1) > steps  # (T, T)
    last = torch.where(same & before.unsqueeze(-1), steps.view(1, -1, 1), -1).amax(1)  # (T, B)
    return torch.where(last >= 0, steps.unsqueeze(1) - last, 0)
