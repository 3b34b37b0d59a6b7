"""What is said of a file that cannot be used."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MOST_BYTES", "DataFileError", "check_size"]

MOST_BYTES = 2**32
"""What the numbers of a file may take, 4 GiB: more is refused before memory is taken for it."""


class DataFileError(ValueError):
    """A file of series cannot be used: the sentence names it and says why."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"data: {path} {what}")


def check_size(path: Path, size: int, what: str = "its numbers") -> None:
    """Refuse what would take more memory than a series may.

    Raises:
        DataFileError: so it would.
    """
    if size > MOST_BYTES:
        raise DataFileError(
            path,
            f"is too large: {what} would take {size / 2**30:,.0f} GiB, at most "
            f"{MOST_BYTES / 2**30:.0f} GiB are allowed",
        )
