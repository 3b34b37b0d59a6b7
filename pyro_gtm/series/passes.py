"""Long series, seen a window at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from pyro_gtm.series.model import Frames

__all__ = ["Copies", "Pass", "check_room", "passes", "repeated"]

MOST_NUMBERS = 2**29
"""Greatest size of all samples, 4 GiB."""

NUMBERS_AT_ONCE = 2**24
"""Greatest size of what a memory may hold of all series and samples at once."""


class Copies(NamedTuple):
    """Series side by side, once for each of several samples."""

    frames: Tensor
    """``(W, count * N, *event)``."""

    mask: Tensor
    """``(W, count * N)`` of bool."""

    controls: Tensor | None
    """``(W', count * N, K)``."""

    numbers: slice
    """Those of the samples."""


class Pass(NamedTuple):
    """A window of all series, of which the later part is new."""

    frames: Tensor
    """``(W, N, *event)``."""

    mask: Tensor
    """``(W, N)`` of bool."""

    controls: Tensor | None
    """``(W, N, K)``."""

    new: int
    """The first step of the window that no earlier window had; the steps before it are context."""

    kept: slice
    """The new steps, in the series."""

    def repeated(self, num_samples: int, size_of_one: int) -> Iterator[Copies]:
        """See :func:`repeated`."""
        return repeated(self.frames, self.mask, self.controls, num_samples, size_of_one)


def passes(batch: Frames, window: int) -> Iterator[Pass]:
    """Windows that overlap by half: every step but the first ones has half a window before it."""
    steps = len(batch.frames)
    start = done = 0
    while done < steps:
        stop = min(start + window, steps)
        here = slice(start, stop)
        controls = None if batch.controls is None else batch.controls[here]
        yield Pass(batch.frames[here], batch.mask[here], controls, done - start, slice(done, stop))
        done = stop
        start = stop - window // 2


def check_room(verb: str, shape: Sequence[int], what: str) -> None:
    """Refuse more samples than may be held.

    Raises:
        ValueError: they are more.
    """
    size = math.prod(shape)
    if size > MOST_NUMBERS:
        raise ValueError(
            f"{verb}: {what} given, which makes {size:,} numbers; at most {MOST_NUMBERS:,} are "
            "allowed"
        )


def repeated(
    frames: Tensor, mask: Tensor, controls: Tensor | None, num_samples: int, size_of_one: int
) -> Iterator[Copies]:
    """Series once for each sample, as many at once as keep within memory.

    Args:
        frames, mask, controls: of the series.
        num_samples: S.
        size_of_one: numbers held for one series, ``model.size_of_one``.
    """
    at_once = max(1, NUMBERS_AT_ONCE // max(1, size_of_one * frames.shape[1]))
    for first in range(0, num_samples, at_once):
        count = min(at_once, num_samples - first)
        yield Copies(
            frames.repeat(1, count, *[1] * (frames.dim() - 2)),
            mask.repeat(1, count),
            None if controls is None else controls.repeat(1, count, 1),
            slice(first, first + count),
        )
