"""Measurements of one memory while one size grows, as table and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from growth.cost import Cost
from growth.sizes import GROWING, Grid, Key, Sizes, expected, sizes_of

Measured = Literal["seconds", "bytes"]
UNITS: dict[Measured, tuple[str, float]] = {"seconds": ("ms", 1e3), "bytes": ("MiB", 2.0**-20)}
"""Name of the unit shown, and how many of them make one of :class:`Cost`."""


class Curve(NamedTuple):
    """One memory while one size grows."""

    memory: str
    grown: str
    sizes: list[Sizes]
    costs: list[Cost]

    @property
    def values(self) -> list[int]:
        """Those of the size that grows."""
        return [getattr(sizes, self.grown) for sizes in self.sizes]

    def shown(self, measured: Measured) -> list[float]:
        """In the unit shown."""
        return [getattr(cost, measured) * UNITS[measured][1] for cost in self.costs]

    def exponents(self, measured: Measured) -> list[float]:
        """log(growth of cost) / log(growth of size), from each size to the next."""
        values, costs = self.values, self.shown(measured)
        return [
            math.log(costs[i + 1] / costs[i]) / math.log(values[i + 1] / values[i])
            for i in range(len(values) - 1)
        ]


def curves_of(memories: Sequence[str], grid: Grid, costs: Mapping[Key, Cost]) -> list[Curve]:
    """One for each memory and each size that it has."""
    curves = []
    for grown in grid:
        for name in memories:
            sizes = sizes_of(name, grown, grid)
            if sizes:
                curves.append(Curve(name, grown, sizes, [costs[name, each] for each in sizes]))
    return curves


COLUMNS = ["ms_a_sequence", "ms_a_step", "peak_mib"]
EXPONENTS = ["exponent_of_time", "exponent_of_memory", "expected"]


def curves_as_csv(curves: Iterable[Curve], **constants: int) -> bytes:
    """One row a size; exponents are those of the step from the row before."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["memory", "grown", *Sizes._fields, *constants, *COLUMNS, *EXPONENTS])
    for curve in curves:
        exponents = [
            ["", *(f"{exponent:.3f}" for exponent in curve.exponents(each))] for each in UNITS
        ]
        rows = zip(
            curve.sizes, curve.shown("seconds"), curve.shown("bytes"), *exponents, strict=True
        )
        for sizes, ms, mib, of_time, of_memory in rows:
            row = [curve.memory, curve.grown, *sizes, *constants.values()]
            numbers = [f"{ms:.4f}", f"{ms / sizes.num_steps:.4f}", f"{mib:.4f}"]
            by_mathematics = expected(curve.memory, curve.grown) if of_time else ""
            writer.writerow([*row, *numbers, of_time, of_memory, by_mathematics])
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
        by_mathematics = expected(curve.memory, grown)
        lines.append(f"{curve.memory:18}{costs}{exponent:>11.2f}{by_mathematics:>12}")
    return "\n".join(lines)
