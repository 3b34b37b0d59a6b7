"""Arguments of the figures: arrays of either kind, and the recall phase as shares."""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[Any]
ArrayLike: TypeAlias = Array | Tensor


def as_array(value: ArrayLike) -> Array:
    """A NumPy array of anything that holds numbers, a tensor with gradients on a GPU included."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)


def as_share(predictable: ArrayLike, num_frames: int | None = None) -> Array:
    """``predictable`` as shares, ``(T,)`` of float."""
    array = as_array(predictable).astype(float)
    expected = "(T,)" if num_frames is None else f"(T,) = ({num_frames},)"
    if array.ndim != 1 or not len(array) or num_frames not in (None, len(array)):
        raise ValueError(f"predictable: got shape {array.shape}, must be {expected}")
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(
            f"predictable: got values from {array.min():g} to {array.max():g}, must be bool or "
            "shares from 0 to 1"
        )
    return array


def as_shaped(argument: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """A NumPy array that has this shape."""
    array = as_array(value)
    if array.shape != shape:
        raise ValueError(f"{argument}: got shape {array.shape}, must be {shape}")
    return array


def as_integers(argument: str, value: ArrayLike, shape: tuple[int, ...], least: int) -> Array:
    """A NumPy array of integers from ``least`` on, of this shape."""
    array = as_shaped(argument, value, shape)
    if array.dtype.kind not in "iu" or array.min() < least:
        got = f"{array.min()}" if array.dtype.kind in "iu" else f"{array.dtype}"
        raise ValueError(f"{argument}: got {got}, must be integers from {least} on")
    return array


def as_repeats(value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """For each step the earlier one whose frame is shown again, -1 for none: ``(T, ...)``."""
    repeats = as_integers("repeats", value, shape, -1)
    steps = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    if np.any(repeats >= steps):
        raise ValueError("repeats: got a step that is not earlier, must be earlier steps or -1")
    return repeats


def earlier_same(repeats: Array) -> Array:
    """Which earlier steps showed just the frame of each step: ``(T, ...)`` to bool
    ``(T, ..., T)``, the last dimension over the earlier steps."""
    first = np.array(repeats)
    for t, again in enumerate(repeats):  # of a repeat of a repeat, that of the latter
        earlier = np.take_along_axis(first, np.maximum(again, 0)[None], 0)[0]
        first[t] = np.where(again < 0, t, earlier)
    same = first[:, None] == first[None]  # (T, T, ...)
    steps = np.arange(len(first))
    earlier = (steps < steps[:, None]).reshape(len(first), -1, *[1] * (repeats.ndim - 1))
    return np.moveaxis(same & earlier, 1, -1)


def when_recalled(share: Array) -> str:
    """The recall phase in words, or all frames where there is none."""
    if not share.any():
        return "throughout"
    return "where predictable" if is_graded(share) else "in recall"


def importance_of_frames(share: Array) -> Array:
    """Weights that average over the recall phase, or over all frames where there is none."""
    return share / share.sum() if share.any() else np.full(len(share), 1 / len(share))


def is_graded(share: Array) -> bool:
    """True if a frame is predictable in some sequences and not in others."""
    return bool(np.any((share > 0) & (share < 1)))


def runs_of(values: Array) -> list[tuple[int, int, float]]:
    """First index, last index and value of each run of one value above 0 in ``(T,)``."""
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [
        (first, end - 1, float(values[first]))
        for first, end in itertools.pairwise(starts)
        if values[first] > 0
    ]
