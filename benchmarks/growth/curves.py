"""Measurements of one memory while one size grows, and their table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

from growth.sequences import GROWING, Cost, Point
from pyro_gtm.memory.registry import memory_class

Measured = Literal["seconds", "bytes"]
UNITS: dict[Measured, tuple[str, float]] = {"seconds": ("ms", 1e3), "bytes": ("MiB", 2.0**-20)}
"""Name of the unit shown, and how many of them make one of :class:`Cost`."""


class Curve(NamedTuple):
    """One memory while one size grows."""

    memory: str
    grown: str
    points: list[Point]
    costs: list[Cost]

    @property
    def values(self) -> list[int]:
        """Those of the size that grows."""
        return [point.sizes[self.grown] for point in self.points]

    def shown(self, measured: Measured) -> list[float]:
        """In the unit shown."""
        return [getattr(cost, measured) * UNITS[measured][1] for cost in self.costs]

    def exponents(self, measured: Measured) -> list[float]:
        """log(growth of cost) / log(growth of size), from each size to the next."""
        grown = zip(pairwise(self.shown(measured)), pairwise(self.values), strict=True)
        return [math.log(b / a) / math.log(n / m) for (a, b), (m, n) in grown]

    @property
    def expected(self) -> str:
        """The exponent by mathematics, of time and of memory; "-" for a memory not of ours.

        ``to p``: from below, as what grows outweighs what does not.
        """
        if self.grown == "num_steps":
            return "1"
        if self.grown == "batch_size":
            return "to 1"
        if not memory_class(self.memory).__module__.startswith("pyro_gtm."):
            return "-"
        if self.grown == "heads":
            return "at most 1"
        return "to 2" if self.memory == "dnc" else "to 1"


def curves_of(points: Sequence[Point], costs: Sequence[Cost]) -> list[Curve]:
    """One for each memory and each size that it has."""
    measured = zip(points, costs, strict=True)
    groups = groupby(measured, key=lambda pair: (pair[0].memory, pair[0].grown))
    return [Curve(*key, *map(list, zip(*group, strict=True))) for key, group in groups]


def table(curves: Sequence[Curve], grown: str, measured: Measured) -> str:
    """Costs of a sequence, the exponent of the last two sizes and the one expected."""
    curves = [curve for curve in curves if curve.grown == grown]
    values = "".join(f"{value:>10}" for value in curves[0].values)
    title = f"{GROWING[grown]}, {UNITS[measured][0]}"
    lines = [f"{title:18}{values}{'exponent':>11}{'expected':>12}"]
    for curve in curves:
        costs = "".join(f"{cost:>10.1f}" for cost in curve.shown(measured))
        exponent = curve.exponents(measured)[-1]
        lines.append(f"{curve.memory:18}{costs}{exponent:>11.2f}{curve.expected:>12}")
    return "\n".join(lines)
