"""Signals that ask a run or a comparison to stop."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["StopSignals", "stop_signals"]

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
PATIENCE = 1.0
"""Seconds after which an answer that has not ended its block was lost, and is given again."""


class StopSignals(list[int]):
    """The numbers of the signals that have come."""

    def __init__(self) -> None:
        super().__init__()
        self._act: Callable[[int], None] | None = None
        self._answer: Exception | None = None
        self._answered_at = 0.0
        self._again = False

    @contextmanager
    def acting_at_once(self, act: Callable[[int], None]) -> Iterator[None]:
        """Within it, the first signal is answered between any two instructions.

        What ``act`` raises ends the block whatever it meets on its way out.  An exception that
        comes from nowhere is lost where Python calls back, as in what is run when an object goes,
        and libraries written in another language may make an error of their own of it.  One that
        is lost is raised again a second later; any other error from then on, and the block's own
        end, become it.

        Args:
            act: is given its number, also where it came before; is to raise what ends the block.
        """
        left = threading.Event()
        watch = threading.Thread(target=self._watch, args=(left,), daemon=True)
        try:
            watch.start()
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
            left.set()
            watch.join()

    def _respond(self) -> None:
        """Act for the first signal; for a later one, of the watch, raise the same again."""
        if self._again:
            self._again = False
            if self._answer is not None:
                raise self._answer
        elif self and self._act is not None:
            act, self._act = self._act, None
            try:
                act(self[0])
            except Exception as answer:
                self._answer, self._answered_at = answer, time.monotonic()
                raise

    def _watch(self, left: threading.Event) -> None:
        """Until the block is left, see that an answer ends it."""
        while not left.wait(PATIENCE / 2):
            if self._answer is not None and time.monotonic() - self._answered_at > PATIENCE:
                self._answered_at, self._again = time.monotonic(), True
                _thread.interrupt_main(signal.SIGTERM)

    def _note(self, number: int, on_signal: Callable[[], None]) -> None:
        if not self._again:
            self.append(number)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with suppress(OSError):
                on_signal()
        self._respond()


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
        received._note(number, on_signal)

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
