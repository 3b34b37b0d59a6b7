"""Checks of arguments that memories and tasks share."""

from __future__ import annotations

from numbers import Integral

__all__ = ["check_positive", "check_whole"]


def check_positive(owner: str, **sizes: int) -> None:
    """Refuse sizes that are no whole number of at least 1, with a sentence naming the argument.

    Raises:
        ValueError: so they are.
    """
    for name, size in sizes.items():
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{owner}: {name} must be a whole number of at least 1, got {size!r}")


def check_whole(owner: str, **numbers: int) -> None:
    """Refuse what is no whole number of at least 0, with a sentence naming the argument.

    Raises:
        ValueError: so it is.
    """
    for name, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or number < 0:
            raise ValueError(
                f"{owner}: {name} must be a whole number of at least 0, got {number!r}"
            )
