"""Image sets as plain tensors, and how grey images are made binary.

The paper's numbers fit a Bernoulli likelihood on binary digits; it does not say how they were
binarised. Every mode here fixes the pixels ONCE per image: a frame that a task repeats is then
bit-identical, so that a model which remembers it perfectly can predict it perfectly.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BINARISATIONS = ("threshold", "sampled", "none")


class MissingDataError(RuntimeError):
    """The data cannot be had; the message says how to get it."""


class ImageSet(NamedTuple):
    """Labelled images on one device."""

    images: Tensor
    """Intensities in [0, 1]: ``(N, C, H, W)`` of float."""

    labels: Tensor
    """The class of each image: ``(N,)`` of int64."""

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """The shape ``(C, H, W)`` of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with both tensors on ``device``."""
        return ImageSet(self.images.to(device), self.labels.to(device))


class ImageSplits(NamedTuple):
    """Two image sets that share no image: one to learn from, one to be judged on."""

    train: ImageSet
    test: ImageSet


def with_shifts(images: ImageSet, radius: int) -> ImageSet:
    """Every image in all its shifts, (2 radius + 1)^2 N of them.

    Ink that leaves at one side does not come back at the other.  The images keep their order
    within a shift, and the unshifted ones come first.

    Args:
        images: N images, ``(N, C, H, W)``.
        radius: the most pixels that an image is shifted each way, at least 0.

    Raises:
        ValueError: ``radius`` is negative.
    """
    if radius < 0:
        raise ValueError(f"radius: got {radius}, must be a non-negative integer")
    height, width = images.images.shape[-2:]
    padded = torch.nn.functional.pad(images.images, (radius,) * 4)
    offsets = sorted(product(range(-radius, radius + 1), repeat=2), key=lambda at: at != (0, 0))
    shifted = [
        padded[..., radius - down : radius - down + height, radius - right : radius - right + width]
        for down, right in offsets
    ]
    return ImageSet(torch.cat(shifted), images.labels.repeat(len(offsets)))


def prepare(
    images_uint8: npt.NDArray[np.uint8], labels: npt.NDArray[Any], binarise: str, seed: int
) -> ImageSet:
    """Turn grey levels 0..255 into an :class:`ImageSet` on the CPU.

    Args:
        images_uint8: ``(N, H, W)``, or ``(N, C, H, W)``, of uint8.
        labels: ``(N,)`` of integers.
        binarise: ``"threshold"`` makes a pixel 1 where its level is at least 128 (intensity 0.5);
            ``"sampled"`` draws each pixel once from a Bernoulli of its intensity, level / 255;
            ``"none"`` keeps the intensity.
        seed: fixes the draws of ``"sampled"``; the other two modes draw nothing.

    Raises:
        ValueError: ``binarise`` is unknown, levels are not uint8, or a shape does not fit.
    """
    if images_uint8.dtype != np.uint8 or images_uint8.ndim not in (3, 4):
        raise ValueError(
            f"images_uint8: got {images_uint8.dtype} of shape {images_uint8.shape}, must be "
            "uint8 of shape (N, H, W) or (N, C, H, W)"
        )
    if labels.shape != images_uint8.shape[:1]:
        raise ValueError(
            f"labels: got shape {labels.shape}, must be {images_uint8.shape[:1]}, a label for "
            "each image"
        )
    levels = torch.tensor(images_uint8)
    if levels.ndim == 3:
        levels = levels.unsqueeze(1)

    if binarise == "threshold":
        images = (levels >= 128).float()
    elif binarise == "sampled":
        # Always drawn on the CPU: a seed then means the same pixels on every machine.
        generator = torch.Generator().manual_seed(seed)
        images = torch.bernoulli(levels.float().div_(255), generator=generator)
    elif binarise == "none":
        images = levels.float().div_(255)
    else:
        allowed = ", ".join(map(repr, BINARISATIONS))
        raise ValueError(f"binarise: got {binarise!r}, must be one of {allowed}")
    return ImageSet(images, torch.tensor(labels, dtype=torch.int64))
