"""The least time that a step can take: its arithmetic and its traffic, at this machine's best.

Counted on the hand-written step, so that it follows any memory.

- Operations: two for each multiply-add of every matrix product, forward and backward, as
  ``torch.utils.flop_counter`` counts them.  Everything elementwise is left out.
- Traffic: for each weight 11 numbers (read forward and backward; the gradient written, read for
  its norm and by Adam; weight and two moments read and written), the frames read three times (by
  the encoder, by its backward, by the likelihood) and what autograd keeps for the backward pass
  written once and read once.  Where caches hold much of it, a step can be faster than this.

The two can overlap, so the roofline is the longer one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from handwritten import Networks, negative_elbo

REPEATS = 7


class Work(NamedTuple):
    """Of one step."""

    operations: int
    """Two for each multiply-add."""
    traffic: int
    """Bytes to and from memory."""


class Machine(NamedTuple):
    """Its best, measured."""

    operations: float
    """A second, in large products of float32 matrices."""
    bandwidth: float
    """Bytes a second, read and written, in a large copy."""


def count(networks: Networks, frames: Tensor) -> Work:
    """The work of a step; frames ``(T, B, pixels)``.  Leaves no gradients."""
    weights = list(networks.parameters())
    known = {tensor.untyped_storage().data_ptr() for tensor in [*weights, frames]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = negative_elbo(networks, frames)
        torch.autograd.grad(loss, weights)
    traffic = 11 * sum(weight.nbytes for weight in weights) + 3 * frames.nbytes
    return Work(counter.get_total_flops(), traffic + 2 * sum(kept.values()))


def best_time(work: Callable[[], object], device: torch.device) -> float:
    """Seconds, of a few repeats."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    times = []
    for _ in range(REPEATS):
        begun = now()
        work()
        times.append(now() - begun)
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


def least_time(work: Work, machine: Machine) -> float:
    """Seconds."""
    return max(work.operations / machine.operations, work.traffic / machine.bandwidth)
