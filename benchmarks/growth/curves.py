"""Measurements of one memory while one size grows, as table and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
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


def curves_as_csv(curves: Iterable[Curve], **constants: int) -> bytes:
    """One row a size; exponents are those of the step from the row before."""
    rows: list[dict[str, object]] = []
    for curve in curves:
        exponents = [["", *curve.exponents(measured)] for measured in UNITS]
        columns = zip(
            curve.points, curve.shown("seconds"), curve.shown("bytes"), *exponents, strict=True
        )
        for point, ms, mib, of_time, of_memory in columns:
            rows.append(
                {"memory": curve.memory, "grown": curve.grown}
                | {size: point.sizes.get(size) for size in GROWING}
                | constants
                | {
                    "ms_a_sequence": ms,
                    "ms_a_step": ms / point.sizes["num_steps"],
                    "peak_mib": mib,
                    "exponent_of_time": of_time,
                    "exponent_of_memory": of_memory,
                    "expected": curve.expected,
                }
            )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


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
