"""Writing files so that a crash leaves either the old one or the new one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["check_writable_folder", "make_writable_folder", "write_atomically"]


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


def check_writable_folder(folder: Path, argument: str) -> None:
    """Refuse a folder that could not be made or written to, and make none.

    Args:
        folder: that is to be written to later.
        argument: whose value it is, for the error.

    Raises:
        ValueError: it cannot be made, or written to.
    """
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{argument}: got {folder}, cannot be written to: {reason}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` into ``path``, or leave ``path`` as it was."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
