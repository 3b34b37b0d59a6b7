"""The machine: which device there is, and what fits in its memory."""

from __future__ import annotations

import math
import os

import torch

from pyro_gtm.tasks import Task

__all__ = ["bytes_of_memory", "check_fits", "pick_device"]


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
