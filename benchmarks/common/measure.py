"""Peak memory, and ratios of times."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

# The profiler would tell on stderr when it starts and stops.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def peak_allocated(run: Callable[[], object], times: int = 1) -> int:
    """Most bytes that PyTorch has given out at once on the CPU, above what was there before.

    Each run has a profile of its own: one of millions of events takes gigabytes.
    """
    level = top = 0
    for _ in range(times):
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            run()
        assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
        events: list[Any] = profiler.profiler.kineto_results.events()
        changes = [event for event in events if event.name() == "[memory]"]
        for event in sorted(changes, key=lambda event: event.start_ns()):
            level += event.nbytes()
            top = max(top, level)
    return top


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios turn by turn, which a drift of the machine leaves alone."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
