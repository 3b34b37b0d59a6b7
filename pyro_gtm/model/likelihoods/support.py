"""Which values a likelihood gives a density, and how that is said."""

from __future__ import annotations

from typing import Any

__all__ = ["support_of_elements", "words_of_support"]


def support_of_elements(support: Any) -> Any:
    """The support of one element of a frame."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def words_of_support(support: Any) -> str:
    """The values that a support of one element allows."""
    kind = type(support).__name__.strip("_")
    if kind == "IntegerInterval":
        low, high = support.lower_bound, support.upper_bound
        few = high - low <= 3
        listed = range(low, high + 1) if few else (low, low + 1, "...", high)
        return f"{{{', '.join(map(str, listed))}}}"
    if kind == "IntegerGreaterThan":
        low = support.lower_bound
        return f"{{{low}, {low + 1}, {low + 2}, ...}}"
    return {"Boolean": "{0, 1}", "Real": "the real numbers"}.get(kind, str(support))
