"""One process at a time in a folder.

The lock is the operating system's, on the file ``lock`` in the folder (``flock``): it ends with the
process, however that ends.  The file says whose it is.  One that is left, and locked by nobody, is
of a process that was killed: it is taken over, with a note.

On a network file system the lock holds between machines as far as the file system's own locks do:
NFS (version 4, or 3 with its lock service), CIFS, GPFS and BeeGFS with locks turned on.  Mounted
with locks kept to each machine (``nolock``, ``local_lock``, ``localflock``), two machines do not
see each other's.  Where there are no locks at all, also on Windows, a note says so.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic, sleep

from pyro_gtm.internals.files import naming_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "LockedError", "is_locked", "locked_folder"]

LOCK = "lock"

POLL = 0.1
"""Seconds between two tries."""


class LockedError(RuntimeError):
    """Another process works in the folder: the sentence says which."""


@contextmanager
def locked_folder(folder: Path, wait: float = 0.0) -> Iterator[str | None]:
    """Within it, no other process, nor another part of this one, has the folder.

    Args:
        folder: which must be there.
        wait: seconds to wait for another to end.

    Yields:
        A note on how the lock was had, if there is something to say.

    Raises:
        LockedError: another has it.
        OSError: the folder cannot be written in.
    """
    # At least one more try: is_locked, in another process, has the lock for a moment.
    path, until = folder / LOCK, monotonic() + max(wait, POLL)
    while True:
        try:
            descriptor, lockable = _open_locked(path)
            break
        except BlockingIOError:
            if monotonic() >= until:
                raise LockedError(
                    f"{folder} is in use by {_owner(path) or 'another process'}: wait for its end, "
                    "or choose another folder"
                ) from None
            sleep(POLL)
    _held.add(descriptor)
    try:
        before = _owner(path)
        with naming_file(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _signature(), 0)
        if not lockable:
            yield f"{folder} lies where there are no locks: see that no other process trains in it"
        elif before is not None:
            yield (
                f"{folder} was left locked by {before}, which was killed or has lost the machine: "
                "the lock is taken over"
            )
        else:
            yield None
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            with suppress(OSError):  # the folder may be gone, or no longer be writable
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    path.unlink()
            os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a living process has the folder; nothing in it changes.

    Of a folder that lies where there are no locks, nothing is known: False.
    """
    path = folder / LOCK
    if fcntl is None or _owner(path) is None:
        return False
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


_held: set[int] = set()
"""Descriptors of the locks of this process."""


def _let_go() -> None:
    """Have no part in the locks of the process that this one is a fork of.

    It would hold them on when that one was killed.
    """
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _open_locked(path: Path) -> tuple[int, bool]:
    """A descriptor of the file with that name, locked; and whether there are locks here.

    Raises:
        BlockingIOError: another has it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lockable = _lock(descriptor)
            # Another may have ended between the two calls, and have taken the file away.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor, lockable
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return False
        raise
    return True


def _signature() -> bytes:
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": platform.node(), "since": started}).encode()


def _owner(path: Path) -> str | None:
    """Whose the lock is or was; None of a new one, or one that is being signed."""
    try:
        content = json.loads(path.read_bytes())
        return f"process {content['pid']} on {content['host']} since {content['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
