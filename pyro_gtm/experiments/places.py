"""Where the runs of a set are trained: each in a process of its own, on this machine or another."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context
from typing import Any, Protocol, cast

from pyro_gtm.experiments.metrics_log import Row

__all__ = ["Outcome", "Place", "Processes", "sigint_ignored"]

PROCESSES: Any = get_context("spawn")  # a fork would inherit PyTorch's threads, or a GPU

Outcome = tuple[str, Row]
"""The event that ended a run, ``"finished"`` or ``"failed"``, and what belongs to it."""


class Place(Protocol):
    """Where runs are trained."""

    begins: str
    """The event that is told of when a run is started."""

    def start(self, name: str, work: Callable[..., Outcome], *arguments: Any) -> None:
        """Have the work of a run done in a process of its own, and do not wait for it."""

    def ended(self, seconds: float) -> list[tuple[str, Outcome]]:
        """The runs that have ended since the last call, by name.

        Args:
            seconds: how long to wait for one at most.
        """

    def stop(self) -> None:
        """Ask all to save and end, by SIGTERM."""

    def close(self) -> None:
        """Leave nothing running."""


class Processes:
    """Processes of this machine."""

    begins = "begins"

    def __init__(self) -> None:
        self._running: dict[Any, tuple[str, Any]] = {}  # by the end of the pipe that tells of it

    def start(self, name: str, work: Callable[..., Outcome], *arguments: Any) -> None:
        """Start a process, with a pipe on which it will tell how it went."""
        ours, its = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=_tell, args=(its, work, *arguments), name=name)
        with sigint_ignored():
            process.start()
        its.close()  # so that the pipe ends with the process
        self._running[ours] = name, process

    def ended(self, seconds: float) -> list[tuple[str, Outcome]]:
        """Those that have told, or ended without a word."""
        ended = []
        for pipe in connection.wait(list(self._running), seconds):
            name, process = self._running.pop(pipe)
            ended.append((name, _outcome(cast(Any, pipe), process)))
        return ended

    def stop(self) -> None:
        """Ask all to save and end.

        Not by SIGINT, which a terminal has sent them too: two would end them at once.  A run in
        training saves; one before or after that has saved.
        """
        for _, process in self._running.values():
            process.terminate()

    def close(self) -> None:
        """Kill what there still is: nothing, but for an exception."""
        for _, process in self._running.values():
            process.kill()
            process.join()


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """A process begun within it ignores SIGINT: a Ctrl-C while it still imports would print a
    traceback of that.  In training it heeds the signal again, see
    :meth:`~pyro_gtm.experiments.run.Run.train`."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(pipe: Any, work: Callable[..., Outcome], *arguments: Any) -> None:
    """Do the work in a process of its own, and say on the pipe how it went."""
    outcome = work(*arguments)
    with suppress(OSError):  # a parent that was killed does not listen
        pipe.send(outcome)


def _outcome(pipe: Any, process: Any) -> Outcome:
    """The event that ended a run: as its process told, or that it ended without a word."""
    try:
        outcome = cast(Outcome, pipe.recv())
    except (EOFError, OSError):
        outcome = None
    pipe.close()
    process.join()
    if outcome is not None:
        return outcome
    if process.exitcode < 0:
        how = f"by signal {-process.exitcode}, perhaps for want of memory"
    else:
        how = f"with exit code {process.exitcode}"
    return "failed", {"reason": f"its process was ended {how}"}
