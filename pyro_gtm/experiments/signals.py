"""Signals that ask a run or a comparison to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["StopSignals", "stop_signals"]

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class StopSignals(list[int]):
    """The numbers of the signals that have come."""

    def __init__(self) -> None:
        super().__init__()
        self._act: Callable[[int], None] | None = None

    @contextmanager
    def acting_at_once(self, act: Callable[[int], None]) -> Iterator[None]:
        """Within it, the first signal is answered between any two instructions.

        Args:
            act: is given its number, also where it came before; is to raise what ends the block.
        """
        self._act = act
        try:
            self._answer()
            yield
        finally:
            self._act = None

    def _answer(self) -> None:
        if self and self._act is not None:
            act, self._act = self._act, None
            act(self[0])


@contextmanager
def stop_signals(on_signal: Callable[[], None] = lambda: None) -> Iterator[StopSignals]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying of the first; a second SIGINT does kill.

    A SIGHUP that is ignored, as under ``nohup``, stays so.

    Args:
        on_signal: is called at once, between any two instructions, for each signal; what it cannot
            write, to a terminal that was closed, is let be.
    """
    received = StopSignals()

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(OSError):
            on_signal()
        received._answer()

    caught = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    if signal.getsignal(caught[-1]) is signal.SIG_IGN and caught[-1] != signal.SIGINT:
        caught.pop()
    try:
        before = {number: signal.signal(number, note) for number in caught}
    except ValueError:  # not in the main thread, where alone signals can be handled
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
