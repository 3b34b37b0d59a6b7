"""Signals that ask a run or a comparison to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_signals"]


@contextmanager
def stop_signals(on_signal: Callable[[], None]) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of the first; a second SIGINT does kill.

    Args:
        on_signal: is called at once, between any two instructions, for each signal.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        on_signal()

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where alone signals can be handled
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
