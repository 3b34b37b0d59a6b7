"""The sizes that grow, and the time and peak memory of a sequence."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

import pyro_gtm as gtm
from common.measure import peak_allocated
from common.memories import build_memory, options_of

GROWING = {
    "num_steps": "steps T",
    "slots": "slots N",
    "heads": "heads R",
    "batch_size": "sequences B",
}
LEAST_TURNS = 3  # of the longest runs
LIMIT = 5.0  # seconds of all turns of a run, after which it sits out

Grid = Mapping[str, Sequence[int]]
"""The values of each of ``GROWING``."""

Run = Callable[[], float]
"""Does a sequence; the seconds of the processor that it took."""


class Point(NamedTuple):
    """A memory at some sizes, of which one grows and the others are the least of their lists."""

    memory: str
    grown: str
    sizes: dict[str, int]
    """Those of ``GROWING`` that the memory has."""


class Cost(NamedTuple):
    """Of a sequence, forward and backward."""

    seconds: float
    """Median, of processor time: on one thread, what a clock shows on an idle machine."""
    bytes: int
    """Most that PyTorch has given out at once, weights and latents aside."""


def points_of(memories: Sequence[str], grid: Grid) -> list[Point]:
    """Those of a memory while one of its sizes grows follow each other."""
    points = []
    for grown in grid:
        for memory in memories:
            known = options_of(memory) | {"num_steps", "batch_size"}
            least = {name: values[0] for name, values in grid.items() if name in known}
            if grown in least:
                points += [Point(memory, grown, {**least, grown: size}) for size in grid[grown]]
    return points


def sequence(memory: gtm.MemoryModule, num_steps: int, batch_size: int) -> Run:
    """A sequence of the memory alone, forward and backward."""
    latents = torch.randn(num_steps, batch_size, memory.latent_dim, requires_grad=True)

    def run() -> float:
        memory.zero_grad(set_to_none=True)
        latents.grad = None
        begun = time.process_time()
        state = memory.initial_state((batch_size,))
        contexts = []
        for latent in latents:
            state, context, _ = memory.step(state, latent)
            contexts.append(context)
        torch.stack(contexts).square().mean().backward()
        return time.process_time() - begun

    return run


def build_run(point: Point, **options: int) -> Run:
    """The sequence of a point; its memory is given those of the options that it knows.

    Raises:
        ValueError: the memory refuses its options.
    """
    memory = build_memory(point.memory, **options, **point.sizes)
    return sequence(memory, point.sizes["num_steps"], point.sizes["batch_size"])


def measure(
    runs: Sequence[Run], turns: int, report: Callable[[str], None] = lambda line: None
) -> list[Cost]:
    """Each run once for its memory, which warms, and then in turns for its time.

    Args:
        runs: none was run before, so that gradients count as memory.
        turns: of each run, at most.
        report: told of each round.
    """
    peaks = [peak_allocated(run) for run in runs]
    report("peak memory measured")
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(turns):
        taking_part = [
            (run, own)
            for run, own in zip(runs, times, strict=True)
            if turn < LEAST_TURNS or sum(own) < LIMIT
        ]
        for run, own in taking_part:
            own.append(run())
        report(f"turn {turn + 1} of {turns}: {len(taking_part)} sequences")
    return [Cost(statistics.median(own), peak) for own, peak in zip(times, peaks, strict=True)]
