"""Curves as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from growth.curves import UNITS, Curve, Measured
from growth.sequences import GROWING, Grid
from pyro_gtm.experiments.plotting.style import COLOURS, STYLE, TICKS

LEAST_GAP = 0.06  # between the labels of two lines, as a share of the axis
TITLES: dict[Measured, str] = {"seconds": "time, ms", "bytes": "peak memory, MiB"}
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def draw_growth(curves: Sequence[Curve], grid: Grid) -> Figure:
    """A column for each size that grows, a row for time and one for memory.

    All axes are logarithmic; each line has its last exponent at its end.
    """
    names = list(dict.fromkeys(curve.memory for curve in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(grid) + 0.6, 6.6), layout="constrained")
        panels = figure.subplots(len(UNITS), len(grid), sharex="col", sharey="row", squeeze=False)
        for measured, row in zip(UNITS, panels, strict=True):
            row[0].set_ylabel(TITLES[measured])
            for axes, grown in zip(row, grid, strict=True):
                scale_axes(axes, grid[grown])
                for curve in own(curves, grown):
                    look = names.index(curve.memory) % len(COLOURS)  # the same in all panels
                    line = {"color": COLOURS[look], "marker": "os^DvPX"[look]}
                    axes.plot(curve.values, curve.shown(measured), label=curve.memory, **line)
        for above, below, grown in zip(*panels, grid, strict=True):
            held = [f"{GROWING[name][-1]} = {grid[name][0]}" for name in grid if name != grown]
            above.set_title(", ".join(held))
            below.set_xlabel(GROWING[grown])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
        for measured, row in zip(UNITS, panels, strict=True):  # when no limit moves any more
            for axes, grown in zip(row, grid, strict=True):
                label_exponents(axes, own(curves, grown), measured)
    return figure


def own(curves: Sequence[Curve], grown: str) -> list[Curve]:
    return [curve for curve in curves if curve.grown == grown]


def scale_axes(axes: Axes, values: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(**TICKS)


def label_exponents(axes: Axes, curves: Sequence[Curve], measured: Measured) -> None:
    """Write the last exponent at the end of each line, no two in the same place."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    lowest = -math.inf
    for curve in sorted(curves, key=lambda curve: curve.shown(measured)[-1]):
        height = max(math.log10(curve.shown(measured)[-1]), lowest)
        lowest = height + LEAST_GAP * (high - low)
        line = next(line for line in axes.lines if line.get_label() == curve.memory)
        axes.annotate(
            f"${GROWING[curve.grown][-1]}^{{{curve.exponents(measured)[-1]:.1f}}}$",
            (curve.values[-1], 10**height),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )
