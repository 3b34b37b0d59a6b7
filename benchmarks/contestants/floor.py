"""The least time that a step can take: its arithmetic and its traffic, at this machine's best.

Counted on the hand-written step, so that it follows any memory.

- Operations: two for each multiply-add of every matrix product, forward and backward, as
  ``torch.utils.flop_counter`` counts them.  Everything elementwise is left out.
- Traffic: for each weight 11 numbers (read forward and backward; the gradient written, read for
  its norm and by Adam; weight and two moments read and written), the frames read three times (by
  the encoder, by its backward, by the likelihood) and what autograd keeps for the backward pass
  written once and read once.  Where caches hold much of it, a step can be faster than this.

The two can overlap, so the floor is the longer one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from handwritten import Networks, negative_bound
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

TOUCHES_OF_WEIGHTS = 11
TOUCHES_OF_FRAMES = 3
TOUCHES_OF_KEPT = 2
REPEATS = 7


class Work(NamedTuple):
    """Of one step."""

    operations: int
    """Two for each multiply-add."""
    weights: int
    """Bytes."""
    frames: int
    """Bytes."""
    kept: int
    """Bytes that are kept for the backward pass."""

    @property
    def traffic(self) -> int:
        """Bytes to and from memory."""
        return (
            TOUCHES_OF_WEIGHTS * self.weights
            + TOUCHES_OF_FRAMES * self.frames
            + TOUCHES_OF_KEPT * self.kept
        )


class Machine(NamedTuple):
    """What it can do, measured."""

    operations: float
    """A second, in large products of float32 matrices."""
    bandwidth: float
    """Bytes a second, read and written, in a large copy."""


class Floor(NamedTuple):
    """In seconds."""

    arithmetic: float
    traffic: float

    @property
    def least(self) -> float:
        return max(self)


def count(networks: Networks, frames: Tensor) -> Work:
    """The work of a step; frames ``(T, B, pixels)``.  Leaves no gradients."""
    weights = list(networks.parameters())
    kept: dict[int, int] = {}
    known = {tensor.untyped_storage().data_ptr() for tensor in [*weights, frames]}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = negative_bound(networks, frames)
        torch.autograd.grad(loss, weights)
    return Work(
        operations=counter.get_total_flops(),
        weights=sum(weight.nbytes for weight in weights),
        frames=frames.nbytes,
        kept=sum(kept.values()),
    )


def best_time(work: Callable[[], object], device: torch.device) -> float:
    """Seconds, of a few repeats."""

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    for _ in range(REPEATS):
        synchronise()
        begun = time.perf_counter()
        work()
        synchronise()
        times.append(time.perf_counter() - begun)
    return min(times)


def measure(device: torch.device) -> Machine:
    """With the threads and the precision that PyTorch is set to now."""
    large = device.type == "cuda"
    size = 8192 if large else 1536
    left, right = torch.randn(2, size, size, device=device)
    out = torch.empty_like(left)
    source = torch.zeros(2**28 if large else 2**25, device=device)
    target = torch.empty_like(source)
    return Machine(
        operations=2 * size**3 / best_time(lambda: torch.mm(left, right, out=out), device),
        bandwidth=2 * source.nbytes / best_time(lambda: target.copy_(source), device),
    )


def floor(work: Work, machine: Machine) -> Floor:
    return Floor(work.operations / machine.operations, work.traffic / machine.bandwidth)
