"""Writing files so that a crash leaves either the old one or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "PARTIAL",
    "make_writable_folder",
    "naming_file",
    "write_atomically",
]

PARTIAL = ".partial"
"""Behind the name of a file that is being written; a kill leaves it there."""


def make_writable_folder(folder: Path, argument: str) -> None:
    """Make a folder that is to be written to later, and try it.

    Args:
        folder: with all above it, made where it is not there.
        argument: whose value it is, for the error.

    Raises:
        ValueError: it cannot be made, or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{argument}: got {folder}, cannot be written to: {reason}") from error


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Within it, an error of the operating system names the file, as that of a full disk does not.

    Raises:
        OSError: as within it, with ``filename``.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` into ``path``, or leave ``path`` as it was.

    Raises:
        OSError: it cannot be written; ``filename`` says what.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with naming_file(path), open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):  # the folder may be gone: the error above says more
            partial.unlink(missing_ok=True)
        raise
