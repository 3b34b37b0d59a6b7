"""The machine: which device there is, and what fits in its memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from pyro_gtm.tasks import Task

__all__ = [
    "TO_LOWER_IN_AN_EVALUATION",
    "TO_LOWER_IN_A_STEP",
    "TooLittleMemoryError",
    "bytes_of_memory",
    "check_fits",
    "fitting_in_memory",
    "pick_device",
    "steps_fitting_in_memory",
]

TO_LOWER_IN_A_STEP = "batch_size, the frames of a sequence, the slots of the memory or hidden_dim"
TO_LOWER_IN_AN_EVALUATION = f"eval_sequences or, if that is not enough, {TO_LOWER_IN_A_STEP}"


class TooLittleMemoryError(RuntimeError):
    """The device's memory does not hold what was begun: the sentence says what to lower."""


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one and the CPU otherwise.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    refusal = ValueError(
        f"device: got {name!r}, must be auto, cpu or a CUDA device that PyTorch finds here"
    )
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise refusal from error
    if device.type not in ("cpu", "cuda"):  # others' random numbers cannot be saved and resumed
        raise refusal
    return device


def check_fits(task: Task, sequences: int) -> None:
    """Refuse more frames than the machine could hold, before they are made.

    Raises:
        ValueError: the frames alone take more memory than there is.
    """
    needed = 4 * math.prod(task.event_shape) * task.num_steps * sequences
    available = bytes_of_memory(task.device)
    if available is not None and needed > available:
        raise ValueError(
            f"{sequences} sequences of {task.num_steps} frames take {needed / 2**30:,.0f} GiB, and "
            f"this machine has {available / 2**30:,.0f} GiB: choose fewer sequences "
            "(batch_size, eval_sequences), or smaller ones (a shorter list, another task option)"
        )


def bytes_of_memory(device: torch.device) -> int | None:
    """Bytes of memory, None where the standard library does not tell (Windows)."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


@contextmanager
def fitting_in_memory(to_lower: str) -> Iterator[None]:
    """Within it, an allocation that fails is told of with what to lower.

    Args:
        to_lower: settings that the need depends on.

    Raises:
        TooLittleMemoryError: in the place of PyTorch's and Python's own errors.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_of_memory(error):
            raise
        where = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        raise TooLittleMemoryError(
            f"the memory of {where} does not suffice: lower {to_lower}"
        ) from error


Item = TypeVar("Item")


def steps_fitting_in_memory(steps: Iterator[Item]) -> Iterator[Item]:
    """The same steps; one that does not fit is told of as :func:`fitting_in_memory` does."""
    while True:
        with fitting_in_memory(TO_LOWER_IN_A_STEP):
            try:
                item = next(steps)
            except StopIteration:
                return
        yield item


def _is_of_memory(error: BaseException) -> bool:
    """PyTorch's CPU allocator has no class of its own for it."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or "can't allocate memory" in str(error)
