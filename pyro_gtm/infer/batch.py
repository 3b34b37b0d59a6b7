"""A batch of sequences, and how a program is called with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Batch", "Draw", "arguments"]


class Batch(NamedTuple):
    """A batch of sequences; a plain tuple of the same will do."""

    frames: Tensor
    """``(T, B, *event)``."""

    controls: Tensor | None = None
    """``(T, B, control_dim)``; None without."""

    mask: Tensor | None = None
    """The frames that there are, ``(T, B)`` of bool; None for all."""


Draw = Callable[[], tuple[Any, ...]]
"""Gives the next :class:`Batch`, or a tuple of its fields."""


def arguments(
    frames: Any, controls: Any = None, mask: Any = None, lengths: Any = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call of a program: one that takes no controls, mask or lengths is not told of None."""
    positional = (frames,) if controls is None else (frames, controls)
    named = {"mask": mask, "lengths": lengths}
    return positional, {name: value for name, value in named.items() if value is not None}
