"""Positive parameters kept between bounds, smoothly, so that gradients stay finite."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["check_bounds", "check_most", "log_within", "within"]


def within(raw: Tensor, low: float, high: float) -> Tensor:
    """low (high / low)^sigmoid(raw): from ``low`` to ``high``, their geometric mean at 0."""
    return low * (math.log(high / low) * raw.sigmoid()).exp()


def log_within(raw: Tensor, most: float) -> Tensor:
    """c tanh(raw / c) with c = log(most): a logarithm that is ``raw`` near 0, from -c to c."""
    bound = math.log(most)
    return bound * (raw / bound).tanh()


def check_bounds(owner: str, names: str, low: float, high: float) -> None:
    """Refuse bounds of a positive number that leave nothing between them.

    Args:
        owner: whose they are.
        names: what follows ``min_`` and ``max_``.
        low, high: the bounds.

    Raises:
        ValueError: so they do.
    """
    if not 0 < low < high < math.inf:
        raise ValueError(
            f"{owner}: min_{names} and max_{names} must satisfy 0 < min_{names} < max_{names}, "
            f"got {low} and {high}"
        )


def check_most(owner: str, **bounds: float) -> None:
    """Refuse a greatest value, whose reciprocal is the least, that is not above 1.

    Raises:
        ValueError: so it is.
    """
    for name, bound in bounds.items():
        if not 1 < bound < math.inf:
            raise ValueError(f"{owner}: {name} must be a finite number above 1, got {bound!r}")
