"""Checks of arguments that memories and tasks share."""

from __future__ import annotations

from numbers import Integral

__all__ = ["check_positive"]


def check_positive(owner: str, **sizes: int) -> None:
    """Refuse sizes that are no whole number of at least 1, with a sentence naming the argument.

    Raises:
        ValueError: so they are.
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{owner}: {name} must be a whole number of at least 1, got {size!r}")
