"""The time of steps in turns, and the memory that one needs."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

# The profiler would tell on stderr when it starts and stops.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

WARM_UP = 4  # the fourth captures, where steps are captured
Times = dict[str, list[float]]

Step = Callable[[Tensor], float]
"""Frames ``(T, B, 1, 28, 28)`` to the loss in nats; weights and optimiser have moved on."""


class Contestant(Protocol):
    """A gradient step, and what is asked of it."""

    def prepare(self, frames: Tensor) -> Any:
        """A batch on the device, as the contestant wants it; not timed."""

    def step(self, batch: Any) -> float:
        """The loss in nats, returned when nothing is left to wait for."""

    def peak(self, batch: Any, before: int) -> int:
        """Bytes that a step needs beside weights, moments and frames.

        To be asked once, before any step; some are taken.

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
        """What PyTorch's allocator has given out, at its highest; libraries' own buffers aside.

        What a contestant keeps from step to step, such as gradients, is included.
        """
        weights = sum(weight.nbytes for weight in self.module.parameters())
        if batch.is_cuda:
            torch.cuda.reset_peak_memory_stats(batch.device)
            self._warm_up(batch)
            return torch.cuda.max_memory_allocated(batch.device) - before - 3 * weights
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self._warm_up(batch)
        return highest(allocations(profiler)) - 2 * weights  # which were there before

    def _warm_up(self, batch: Tensor) -> None:
        for _ in range(WARM_UP):
            self.step(batch)


def allocated(device: torch.device) -> int:
    """Bytes that PyTorch has given out; 0 on the CPU, where only the profiler knows."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def allocations(profiler: profile) -> list[int]:
    """Bytes allocated (above zero) and freed (below) on the CPU, in order."""
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events: list[Any] = profiler.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())]


def highest(changes: list[int]) -> int:
    """Of the running sums, 0 at first."""
    level = top = 0
    for change in changes:
        level += change
        top = max(top, level)
    return top


def time_in_turns(
    contestants: Mapping[str, Contestant],
    draw: Callable[[], Tensor],
    turns: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Seconds of every step: all contestants one step each, ``turns`` times, after some to warm.

    In another order in each turn: who follows another's threads and caches pays for them.
    """
    order = random.Random(0)
    times: Times = {name: [] for name in contestants}
    for turn in range(-WARM_UP, turns):
        frames = draw()
        for name, contestant in order.sample(list(contestants.items()), len(contestants)):
            batch = contestant.prepare(frames)
            begun = clock()
            contestant.step(batch)
            if turn >= 0:
                times[name].append(clock() - begun)
    return times


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios turn by turn, which a drift of the machine leaves alone."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
