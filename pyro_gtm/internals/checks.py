"""Checks of arguments that memories, models and tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

__all__ = ["check_choice", "check_not_negative", "check_positive"]


def check_positive(owner: str, **sizes: int) -> None:
    """Refuse sizes that are no positive integers, with a sentence naming the argument.

    Raises:
        ValueError: so they are.
    """
    for name, size in sizes.items():
        if not _is_integer(size) or size < 1:
            raise ValueError(f"{owner}: {name} must be a positive integer, got {size!r}")


def check_not_negative(owner: str, **numbers: int) -> None:
    """Refuse what is no integer of at least 0, with a sentence naming the argument.

    Raises:
        ValueError: so it is.
    """
    for name, number in numbers.items():
        if not _is_integer(number) or number < 0:
            raise ValueError(f"{owner}: {name} must be a non-negative integer, got {number!r}")


def check_choice(owner: str, name: str, given: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is none of those allowed, with a sentence naming the argument.

    Raises:
        ValueError: so it is.
    """
    if given not in allowed:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(allowed)}; got {given!r}")


def _is_integer(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
