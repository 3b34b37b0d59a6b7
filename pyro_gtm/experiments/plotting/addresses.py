"""Addresses under a mixture prior: which write each frame was expected, and found, to be."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting.arrays import (
    Array,
    ArrayLike,
    as_array,
    as_repeats,
    as_shaped,
    as_share,
    earlier_same,
)
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import (
    BLUE,
    STYLE,
    TICKS,
    frame_axis,
    mark_recall,
    ring_same,
    stair,
)

GAP = 1
"""Rows between the writes and something new."""


def addresses_over_time(
    weights: ArrayLike,
    responsibilities: ArrayLike,
    predictable: ArrayLike,
    repeats: ArrayLike,
    rest: str = "new",
) -> Figure:
    """Weights of a mixture prior over what was written before, and who turned out responsible.

    On the left is w, which was known before the frame; on the right are the responsibilities of the
    posterior's sample for it.  The maps are of the first sequence, by the frame that was written,
    with something new as a row above all others, and rings where just the same frame was shown.
    Above the dotted stair nothing was written yet.  Below are the weight and the responsibility of
    the right address, the mean over sequences: of all slots that hold the same frame or, where the
    frame is new, of something new.

    Args:
        weights: w, ``(T, B, T + 1)``, the last column something new.
        responsibilities: p(address | z), ``(T, B, T + 1)``.
        predictable: the recall phase, ``(T, B)`` of bool.
        repeats: the earlier step whose frame is shown again, -1 for a new one: ``(T, B)`` of
            integers.
        rest: what the last column is called.

    Raises:
        ValueError: a shape does not fit, or a step that is not earlier.
    """
    shares = as_array(weights)
    if shares.ndim != 3 or 0 in shares.shape or shares.shape[2] != len(shares) + 1:
        raise ValueError(f"weights: got shape {shares.shape}, must be (T, B, T + 1)")
    num_frames, sequences, _ = shares.shape
    found = as_shaped("responsibilities", responsibilities, shares.shape)
    recalled = as_shaped("predictable", predictable, (num_frames, sequences))
    again = as_repeats(repeats, (num_frames, sequences))
    same = earlier_same(again)  # (T, B, T)
    right = np.concatenate([same, again[..., None] < 0], 2)  # (T, B, T + 1)
    looked_up = recalled & (again >= 0)

    shown = {
        "weight w, before the frame is seen": shares,
        "responsibility, once it is seen": found,
    }
    side = min(max(0.13 * num_frames, 2.8), 3.4)
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(2 * side + 1.7, side + 2.1), layout="constrained")
        finding = _finding((shares * right).sum(2), looked_up)
        figure.suptitle(finding, x=0.01, ha="left", fontsize=11)
        grid = figure.add_gridspec(2, 2, height_ratios=[1.0, 0.26])
        maps = []
        for column, (name, values) in enumerate(shown.items()):
            axes = figure.add_subplot(grid[0, column])
            maps.append(axes)
            _map(axes, values[:, 0], as_share(recalled[:, 0]), same[:, 0], rest)
            axes.set_title(name, pad=22)
            below = figure.add_subplot(grid[1, column], sharex=axes)
            mean = (values * right).sum(2).mean(1)  # (T,)
            below.plot(np.arange(num_frames), mean, color=BLUE, markersize=2.5, gid="right mean")
            mark_recall(below, as_share(recalled.mean(1)), labelled=False)
            below.set_ylim(-0.05, 1.05)
            below.set_yticks([0, 1])
            frame_axis(below, num_frames)
            axes.tick_params(labelbottom=False)
            if column == 0:
                axes.set_ylabel("frame written (○: the same)")
                below.set_ylabel("right\naddress,\nmean", fontsize=8.5)
        bar = figure.colorbar(
            maps[0].images[0],
            ax=maps,
            label="share",
            ticks=(0, 0.05, 0.2, 0.4, 0.6, 0.8, 1),
            format="%g",
            shrink=0.8,
            aspect=25,
        )
        bar.ax.spines["outline"].set_visible(False)
        bar.ax.tick_params(**TICKS)
    return figure


def _map(axes: Axes, values: Array, share: Array, same: Array, rest: str) -> None:
    """Shares ``(T, T + 1)`` of the first sequence, the writes upwards, something new above them."""
    num_frames = len(values)
    gap = np.full((num_frames, GAP), np.nan)
    rows = np.concatenate([values[:, :-1], gap, values[:, -1:]], axis=1)  # (T, T + GAP + 1)
    new = num_frames + GAP
    axes.imshow(
        rows.T,
        cmap="Blues",
        norm=PowerNorm(0.5, 0, 1),  # small shares are seen too
        origin="lower",
        aspect="auto",
        extent=(-0.5, num_frames - 0.5, -0.5, new + 0.5),
        interpolation="nearest",
    )
    stair(axes, num_frames)
    ring_same(axes, same)
    mark_recall(axes, share, filled=False)
    axes.set_ylim(-0.5, new + 0.5)
    step = 1 if num_frames <= 6 else 5 if num_frames <= 30 else 10
    ticks = [*range(0, num_frames, step)]
    axes.set_yticks([*ticks, new], [*map(str, ticks), rest])
    axes.tick_params(**TICKS)


def _finding(right: Array, looked_up: Array) -> str:
    """The weight of the right slot in words; both ``(T, B)``."""
    sequences = right.shape[1]
    of = "one sequence" if sequences == 1 else f"{sequences} sequences"
    if not looked_up.any():
        return f"Addresses, {of}: no frame is shown again"
    mean = right[looked_up].mean()
    return f"Where a frame is shown again, its slots have weight {mean:.2f} on average ({of})"
