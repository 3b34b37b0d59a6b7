"""The interface of a contestant, and the times of contestants that take turns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from common.measure import peak_allocated

WARM_UP = 4  # the fourth captures, where steps are captured
OPERATORS = 12  # of a profile, are shown

Step = Callable[[Tensor], float]
"""Frames ``(T, B, 1, 28, 28)`` to the loss in nats; weights and optimiser have moved on."""


class Contestant(Protocol):
    """A gradient step, and what is asked of it."""

    def prepare(self, frames: Tensor) -> Any:
        """A batch on the device, as the contestant wants it; not timed."""

    def step(self, batch: Any) -> float:
        """The loss in nats, returned when nothing is left to wait for."""

    def peak(self, batch: Any, before: int) -> int:
        """Bytes that a step needs beside weights, moments and frames; asked before any step.

        Args:
            batch: what :meth:`prepare` gave.
            before: :func:`allocated` before the contestant was built.
        """


class TorchContestant:
    """A step in PyTorch that trains ``module``."""

    def __init__(self, step: Step, module: nn.Module) -> None:
        self.module = module
        self._step = step

    def prepare(self, frames: Tensor) -> Tensor:
        return frames

    def step(self, batch: Tensor) -> float:
        loss = self._step(batch)
        if batch.is_cuda:
            torch.cuda.synchronize(batch.device)
        return loss

    def peak(self, batch: Tensor, before: int) -> int:
        """The most that PyTorch's allocator has given out; libraries' own buffers aside.

        What a contestant keeps from step to step, such as gradients, is included.
        """
        weights = sum(weight.nbytes for weight in self.module.parameters())
        if batch.is_cuda:
            torch.cuda.reset_peak_memory_stats(batch.device)
            for _ in range(WARM_UP):
                self.step(batch)
            return torch.cuda.max_memory_allocated(batch.device) - before - 3 * weights
        # Only the second step meets what the first leaves behind, moments above all.
        return peak_allocated(lambda: self.step(batch), times=2) - 2 * weights

    def profile(self, batch: Tensor) -> str:
        """PyTorch's table of a step, the operators that take longest by themselves first."""
        activities = [ProfilerActivity.CPU] + batch.is_cuda * [ProfilerActivity.CUDA]
        with profile(activities=activities) as profiler:
            self.step(batch)
        order = f"self_{batch.device.type}_time_total"
        return str(profiler.key_averages().table(sort_by=order, row_limit=OPERATORS))


def allocated(device: torch.device) -> int:
    """Bytes that PyTorch has given out; 0 on the CPU, where only the profiler knows."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def time_in_turns(
    contestants: Mapping[str, Contestant],
    draw: Callable[[], Tensor],
    turns: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every step: all contestants one step each, ``turns`` times, after some to warm.

    In another order in each turn: who follows another's threads and caches pays for them.
    """
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-WARM_UP, turns):
        frames = draw()
        for name, contestant in order.sample(list(contestants.items()), len(contestants)):
            batch = contestant.prepare(frames)
            begun = clock()
            contestant.step(batch)
            if turn >= 0:
                times[name].append(clock() - begun)
    return times
