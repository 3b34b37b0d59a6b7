"""Signals that ask a run or a comparison to stop."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["StopSignals", "stop_signals"]

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
WAITS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds from one answer to the next, where the block has not ended by then; also a ``finally``
within it has so long for what it does."""


class StopSignals(list[int]):
    """The numbers of the signals that have come.

    Args:
        on_signal: is called for each.
    """

    def __init__(self, on_signal: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_signal = on_signal
        self._act: Callable[[int], None] | None = None
        self._answer: Exception | None = None
        self._again = False

    @contextmanager
    def acting_at_once(self, act: Callable[[int], None]) -> Iterator[None]:
        """Within it, the first signal is answered between any two instructions.

        What ``act`` raises ends the block, whatever happens to it on its way out.  Python drops an
        exception that is raised while an object is destroyed, and libraries written in other
        languages may raise one of their own in its place.  So any other error that leaves the block
        after the answer is replaced by it, a block that goes on is answered again after two
        seconds, then after four and so on, and one that comes to its end raises the answer there.

        Args:
            act: is given its number, also where it came before; is to raise what ends the block.
        """
        try:
            self._act = act
            self._respond()
            yield
        except Exception as error:
            if self._answer is not None and error is not self._answer:
                raise self._answer from error
            raise
        else:
            if self._answer is not None:
                raise self._answer
        finally:
            self._act = self._answer = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handler of the signals; of :meth:`_insist` too, which sends a SIGINT."""
        if self._again:
            self._again = False
            if self._answer is not None:
                raise self._answer
            return
        if self and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self.append(number)
        with suppress(OSError):
            self._on_signal()
        self._respond()

    def _respond(self) -> None:
        if self and self._act is not None:
            act, self._act = self._act, None
            try:
                act(self[0])
            except Exception as answer:
                self._answer = answer
                # Without the locks of threading.Thread, in one of which the signal may have come;
                # where there is no room for a thread, the answer is given once.
                with suppress(RuntimeError):
                    _thread.start_new_thread(self._insist, ())
                raise

    def _insist(self) -> None:
        """Have the answer given again, for as long as its block has not ended."""
        for wait in WAITS:
            time.sleep(wait)
            if self._answer is None or signal.getsignal(signal.SIGINT) != self.handle:
                return
            self._again = True
            if sys.platform == "win32":
                _thread.interrupt_main()
            else:  # wakes it, too, where it waits
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@contextmanager
def stop_signals(on_signal: Callable[[], None] = lambda: None) -> Iterator[StopSignals]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying of the first; a second SIGINT does kill.

    A SIGHUP that is ignored, as under ``nohup``, stays so.

    Args:
        on_signal: is called at once, between any two instructions, for each signal; what it cannot
            write, to a terminal that was closed, is let be.
    """
    received = StopSignals(on_signal)
    caught = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    if signal.getsignal(caught[-1]) is signal.SIG_IGN and caught[-1] != signal.SIGINT:
        caught.pop()
    try:
        before = {number: signal.signal(number, received.handle) for number in caught}
    except ValueError:  # not in the main thread, where alone signals can be handled
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
