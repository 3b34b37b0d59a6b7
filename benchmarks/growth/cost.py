"""Time and peak memory of a sequence."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from contestants.measure import allocations, highest
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import pyro_gtm as gtm
from growth.sizes import Grid, Key, build_memory, sizes_of

LEAST_TURNS = 3  # of the longest runs

Run = Callable[[], float]
"""Does a sequence; the seconds of the processor that it took."""


class Cost(NamedTuple):
    """Of a sequence, forward and backward."""

    seconds: float
    """Median, of processor time: on one thread, what a clock shows on an idle machine."""

    bytes: int
    """Most that PyTorch has given out at once, weights and latents aside."""


def sequence(memory: gtm.MemoryModule, num_steps: int, batch_size: int) -> Run:
    """A sequence of the memory alone, forward and backward."""
    latents = torch.randn(num_steps, batch_size, memory.latent_dim, requires_grad=True)

    def run() -> float:
        memory.zero_grad(set_to_none=True)
        latents.grad = None
        begun = time.process_time()
        state = memory.initial_state((batch_size,))
        contexts: list[Tensor] = []
        for latent in latents:
            state, context, _ = memory.step(state, latent)
            contexts.append(context)
        torch.stack(contexts).square().mean().backward()
        return time.process_time() - begun

    return run


def build_runs(memories: Sequence[str], grid: Grid, **options: int) -> dict[Key, Run]:
    """A sequence to be measured for every memory at every size, each once.

    Args:
        memories: some of ``gtm.memory_names()``.
        grid: what each size grows through.
        **options: of the memories; each is given those it knows.

    Raises:
        ValueError: a memory refuses its options.
    """
    return {
        (name, sizes): sequence(
            build_memory(name, sizes, **options), sizes.num_steps, sizes.batch_size
        )
        for name in memories
        for grown in grid
        for sizes in sizes_of(name, grown, grid)
    }


def peak(run: Run) -> int:
    """Bytes at the highest, above what was there before.  Of a first run: its gradients count."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    return highest(allocations(profiler))


def measure(
    runs: Mapping[Key, Run],
    turns: int,
    limit: float,
    report: Callable[[str], None] = lambda line: None,
) -> dict[Key, Cost]:
    """Each run once for its memory, which warms, and then in turns for its time.

    Args:
        runs: what to measure; none was run before.
        turns: of each run, at most.
        limit: seconds of all turns of a run, after which it sits out, but for ``LEAST_TURNS``.
        report: told of each round.
    """
    peaks = {key: peak(run) for key, run in runs.items()}
    report("peak memory measured")
    times: dict[Key, list[float]] = {key: [] for key in runs}
    for turn in range(turns):
        taking_part = [key for key in runs if turn < LEAST_TURNS or sum(times[key]) < limit]
        for key in taking_part:
            times[key].append(runs[key]())
        report(f"turn {turn + 1} of {turns}: {len(taking_part)} sequences")
    return {key: Cost(statistics.median(times[key]), peaks[key]) for key in runs}
