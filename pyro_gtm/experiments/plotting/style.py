"""Looks of all figures: colours, settings, axes, and the mark of the recall phase."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pyro_gtm.experiments.plotting.arrays import Array, is_graded, runs_of

# Okabe and Ito's colours, told apart by colour-blind readers too; without the pale yellow, and
# orange last, because it is close to the ground of the recall phase.
BLUE, VERMILION, GREEN, PURPLE, SKY, BLACK, ORANGE = COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#000000",
    "#E69F00",
)
GREY = "#6B6B6B"
RECALL_FILL = "#FBEBC8"
RECALL_TEXT = "#8A5A00"

ORACLE_LABEL = "oracle KL: perfect memory,\nnew frames at their mean"
ORACLE_LOOK: dict[str, Any] = {"color": GREY, "linestyle": "--", "marker": "None", "zorder": 2.5}
"""Drawn over the curves, which otherwise hide it where they reach it."""

STYLE: Any = {  # mypy would have each key a literal
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(marker=["o", "s", "^", "D", "v", "P", "X"]),
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": False,
}
# Given to each axes: ticks are made when a figure is drawn, after STYLE has gone out of force.
TICKS: dict[str, Any] = {"labelsize": 8.5, "color": GREY, "length": 3, "width": 0.8}


def mark_recall(axes: Axes, share: Array, filled: bool = True, labelled: bool = True) -> None:
    """Mark the recall phase, deeper where more sequences are in it; name it above the axes.

    Over an image it is not filled: a bar lies above the axes, and a frame round a phase that is the
    same for all sequences.
    """
    runs = runs_of(share)
    graded = is_graded(share)
    for first, last, value in runs:
        left, right = first - 0.5, last + 0.5
        look: dict[str, Any] = {"gid": f"recall/{first}-{last}", "linewidth": 0}
        if filled:
            axes.axvspan(left, right, color=RECALL_FILL, alpha=value, zorder=0, **look)
            continue
        axes.axvspan(left, right, 1.0, 1.025, color=ORANGE, alpha=value, clip_on=False, **look)
        if not graded:
            axes.axvspan(left, right, fill=False, edgecolor=ORANGE, linewidth=1.4, clip_on=False)
    if not runs or not labelled:
        return
    first, last, _ = max(runs, key=lambda run: run[1] - run[0])
    at_end = graded or last == len(share) - 1
    axes.annotate(
        "shade: share of sequences where predictable" if graded else "recall phase",
        (len(share) - 0.5 if at_end else (first + last) / 2, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3 if filled else 7),
        textcoords="offset points",
        ha="right" if at_end else "center",
        fontsize=8.5,
        color=RECALL_TEXT,
        annotation_clip=False,
    )


def ring_same(axes: Axes, same: Array) -> None:
    """Ring, in a map by frame, the earlier steps that showed just the same: ``(T, T)`` of bool."""
    steps, earlier = np.nonzero(same)
    if not len(steps):  # an empty line that is not clipped would upset the layout
        return
    axes.plot(
        steps,
        earlier,
        linestyle="None",
        marker="o",
        markersize=5.5,
        markeredgewidth=1.1,
        markerfacecolor="none",
        color=VERMILION,
        gid="same",
        clip_on=False,
    )


def stair(axes: Axes, num_frames: int) -> None:
    """A dotted line above which, at each frame, nothing was written yet."""
    edges = np.arange(num_frames + 1) - 0.5
    axes.stairs(edges[:-1], edges, baseline=None, color=GREY, linestyle=":")


def frame_axis(axes: Axes, num_frames: int) -> None:
    axes.set_xlim(-0.5, num_frames - 0.5)
    axes.set_xlabel("frame")
    axes.xaxis.set_major_locator(integer_ticks(8))
    axes.tick_params(**TICKS)


def draw_oracle_kl(axes: Axes, oracle_kl: Array) -> None:
    """The KL of each frame for a perfect memory, ``(T,)``."""
    axes.plot(
        np.arange(len(oracle_kl)), oracle_kl, label=ORACLE_LABEL, gid="oracle_kl", **ORACLE_LOOK
    )


def y_from_zero(axes: Axes, *values: Array) -> None:
    """A y axis from just below 0 (or the least value) to just above the largest."""
    finite = np.concatenate(values)
    finite = finite[np.isfinite(finite)]
    if len(finite):
        top = 1.08 * max(finite.max(), 1e-3)
        axes.set_ylim(min(1.08 * finite.min(), -0.03 * top), top)  # room for a marker at 0


def y_of_kl(axes: Axes, *values: Array) -> None:
    """A logarithmic y axis where the values span a factor of ten or more, else one from 0."""
    finite = np.concatenate(values)
    finite = finite[np.isfinite(finite)]
    if len(finite) and finite.min() > 0 and finite.max() >= 10 * finite.min():
        _plain_log_axis(axes, finite.min(), finite.max())
    else:
        y_from_zero(axes, finite)


def _plain_log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis with ticks at 1, 2, 5 or 1, 3 or 1 alone, written as plain numbers."""
    decades = np.log10(high / low)
    subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def integer_ticks(most: int) -> MaxNLocator:
    return MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def limits_without_fall(values: Array, later: Array) -> tuple[float, float] | None:
    """Limits of a y axis that a first fall of hundreds of nats does not flatten.

    Args:
        values: negative ELBOs in nats per frame, ``(n,)``.
        later: those of them after the first steps, ``(m,)``.

    Returns:
        None where the fall is small: less than a nat, or than what the later values span.
    """
    values, later = values[np.isfinite(values)], later[np.isfinite(later)]
    if not len(later):
        return None
    low, high = values.min(), later.max()
    if values.max() <= high + max(high - low, 1.0):
        return None
    room = max(0.08 * (high - low), 0.1)
    return low - room, high + room


def say_off_scale(axes: Axes, what: str) -> None:
    """A small line above the axes, at the right, on what lies beyond their upper limit."""
    axes.annotate(
        f"↑ {what}",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=GREY,
    )


def number(value: float) -> str:
    """A number of nats, to the digits that mean something."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")  # as the ticks have it


def nats(value: float) -> str:
    return f"{number(value)} nats"
