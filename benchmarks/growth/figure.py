"""Curves as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from growth.curves import UNITS, Curve, Measured
from growth.sizes import GROWING, Grid
from pyro_gtm.experiments.plotting.style import COLOURS, STYLE, TICKS

LEAST_GAP = 0.06  # between the labels of two lines, as a share of the axis
TITLES: dict[Measured, str] = {"seconds": "time, ms", "bytes": "peak memory, MiB"}


def draw_growth(curves: Sequence[Curve], grid: Grid) -> Figure:
    """A column for each size that grows, a row for time and one for memory.

    All axes are logarithmic; each line has its last exponent at its end.
    """
    names = list(dict.fromkeys(curve.memory for curve in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(grid) + 0.6, 6.6), layout="constrained")
        panels = figure.subplots(len(UNITS), len(grid), sharex="col", sharey="row", squeeze=False)
        for measured, row in zip(UNITS, panels, strict=True):
            for axes, grown in zip(row, grid, strict=True):
                own = [curve for curve in curves if curve.grown == grown]
                draw_lines(axes, own, measured, names)
                scale_axes(axes, grid[grown])
            row[0].set_ylabel(TITLES[measured])
        for axes, grown in zip(panels[0], grid, strict=True):
            held = [f"{GROWING[name][-1]} = {grid[name][0]}" for name in grid if name != grown]
            axes.set_title(", ".join(held))
        for axes, grown in zip(panels[-1], grid, strict=True):
            axes.set_xlabel(GROWING[grown])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(names))
        for measured, row in zip(UNITS, panels, strict=True):  # when no limit moves any more
            for axes, grown in zip(row, grid, strict=True):
                label_exponents(axes, [c for c in curves if c.grown == grown], measured)
    return figure


def draw_lines(
    axes: Axes, curves: Sequence[Curve], measured: Measured, names: Sequence[str]
) -> None:
    """A line for each curve; a memory looks the same in all panels."""
    for curve in curves:
        look = names.index(curve.memory) % len(COLOURS)
        axes.plot(
            curve.values,
            curve.shown(measured),
            label=curve.memory,
            color=COLOURS[look],
            marker="os^DvPX"[look],
        )


def scale_axes(axes: Axes, values: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(**TICKS)


def label_exponents(axes: Axes, curves: Sequence[Curve], measured: Measured) -> None:
    """Write the last exponent at the end of each line, no two in the same place."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    curves = sorted(curves, key=lambda curve: curve.shown(measured)[-1])
    ends = [math.log10(curve.shown(measured)[-1]) for curve in curves]
    for curve, height in zip(curves, apart(ends, LEAST_GAP * (high - low)), strict=True):
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


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Growing heights, moved as little as makes each at least ``gap`` more than the one before.

    Least squares: those too near each other stand around their own mean.
    """
    groups: list[list[float]] = []  # of heights less i * gap, which must not fall
    for i, height in enumerate(heights):
        groups.append([height - i * gap])
        while len(groups) > 1 and mean(groups[-2]) >= mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    level = [mean(group) for group in groups for _ in group]
    return [height + i * gap for i, height in enumerate(level)]
