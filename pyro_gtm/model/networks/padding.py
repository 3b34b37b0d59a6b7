"""The sizes of images, padded so that strides divide them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["image_shape", "margins", "padded"]


def image_shape(owner: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape of an image, which has three sizes.

    Raises:
        ValueError: it has not.
    """
    if len(shape) != 3:
        raise ValueError(
            f"{owner}: a convolution needs frames of shape (channels, height, width), "
            f"got {tuple(shape)}"
        )
    channels, height, width = shape
    return channels, height, width


def padded(size: int, multiple: int) -> int:
    """The least multiple that is no less than ``size``."""
    return multiple * -(-size // multiple)


def margins(size: int, multiple: int) -> tuple[int, int]:
    """What pads ``size`` to a multiple: so much before it, so much, or one more, behind it."""
    extra = padded(size, multiple) - size
    return extra // 2, extra - extra // 2
