"""Read weights by lag of a positional memory."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pyro_gtm.experiments.plotting.arrays import (
    Array,
    ArrayLike,
    as_array,
    as_share,
    importance_of_frames,
    when_recalled,
)
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import BLUE, GREY, STYLE, TICKS, frame_axis, mark_recall


def attention_over_time(
    read_weights: ArrayLike, predictable: ArrayLike, gates: ArrayLike | None = None
) -> Figure:
    """Read weights by lag of each head of a positional memory, frame by frame, in one sequence.

    Slot 0 holds the latest latent and is drawn at lag 1; slots no latent can have reached in T
    steps are not drawn.  Above the dotted line nothing was written yet.

    Args:
        read_weights: the attention, each row a distribution over slots, ``(T, R, L)``; as recorded
            by ``record_memory`` under ``read_weights``, for one sequence or averaged over many.
        predictable: the recall phase, ``(T,)`` of bool or share.
        gates: the share of each element read that is let through, ``(T, R, W)``; their mean over W
            is drawn below the attention.

    Raises:
        ValueError: a shape does not fit.
    """
    weights = as_array(read_weights)
    if weights.ndim != 3 or 0 in weights.shape:
        raise ValueError(f"read_weights: got shape {weights.shape}, must be (T, R, L)")
    num_frames, heads, slots = weights.shape
    share = as_share(predictable, num_frames)
    weights = weights[:, :, : min(slots, num_frames)]
    openness: Array | None = None
    if gates is not None:
        openness = as_array(gates)
        if openness.ndim != 3 or openness.shape[:2] != (num_frames, heads) or 0 in openness.shape:
            raise ValueError(
                f"gates: got shape {openness.shape}, must be (T, R, W) = "
                f"({num_frames}, {heads}, any)"
            )
        openness = openness.mean(-1)  # (T, R)

    columns = min(heads, 3)
    lines = -(-heads // columns)
    parts = [1.0] if openness is None else [1.0, 0.25]
    width = min(max(0.2 * num_frames, 3.0), 4.2)
    with mpl.rc_context(STYLE):
        figure = Picture(
            figsize=(width * columns + 0.9, 3.2 * sum(parts) * lines), layout="constrained"
        )
        grid = figure.add_gridspec(lines * len(parts), columns, height_ratios=parts * lines)
        panels = []
        for head in range(heads):
            line, column = divmod(head, columns)
            axes = figure.add_subplot(grid[line * len(parts), column])
            panels.append(axes)
            image = _attention_panel(axes, weights[:, head], share)
            if head == 0 and width * weights.shape[-1] >= 1.2 * num_frames:  # else it has no room
                axes.text(
                    0.02,
                    0.98,
                    "not yet written",
                    transform=axes.transAxes,
                    fontsize=7.5,
                    color=GREY,
                    va="top",
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
                )
            gate = None if openness is None else openness[:, head]
            axes.set_title(f"head {head + 1}: {_finding(weights[:, head], share, gate)}", pad=22)
            if column == 0:
                axes.set_ylabel("lag (steps)")
            if gate is None:
                frame_axis(axes, num_frames)
                continue
            axes.tick_params(labelbottom=False)
            below = figure.add_subplot(grid[line * len(parts) + 1, column], sharex=axes)
            _gate_panel(below, gate, share)
            if column == 0:
                below.set_ylabel("mean gate")
            frame_axis(below, num_frames)
        bar = figure.colorbar(image, ax=panels, label="read weight", shrink=0.8, aspect=25)
        bar.ax.spines["outline"].set_visible(False)
        bar.ax.tick_params(**TICKS)
    return figure


def _attention_panel(axes: Axes, weights: Array, share: Array) -> AxesImage:
    """The weights ``(T, slots)`` of one head, upwards by lag."""
    num_frames, slots = weights.shape
    image = axes.imshow(
        weights.T,
        cmap="Blues",
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        extent=(-0.5, num_frames - 0.5, 0.5, slots + 0.5),
        interpolation="nearest",
    )
    # At frame t there are t latents: a stair that rises by one each frame.
    edges = np.arange(num_frames + 1) - 0.5
    axes.stairs(np.arange(num_frames) + 0.5, edges, baseline=None, color=GREY, linestyle=":")
    mark_recall(axes, share, filled=False)
    axes.set_ylim(0.5, slots + 0.5)
    step = 1 if slots <= 6 else 5 if slots <= 30 else 10
    axes.set_yticks([1, *(k for k in range(step, slots + 1, step) if k > 1)])
    axes.tick_params(**TICKS)
    return image


def _gate_panel(axes: Axes, gate: Array, share: Array) -> None:
    """The mean gate ``(T,)`` of one head."""
    axes.plot(np.arange(len(gate)), gate, color=BLUE, marker="o", markersize=2.5, linewidth=1.2)
    mark_recall(axes, share, labelled=False)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 1])
    axes.tick_params(**TICKS)


def _finding(weights: Array, share: Array, gate: Array | None) -> str:
    """The reads of a head in words; shapes ``(T, slots)``, ``(T,)``, ``(T,)``."""
    when, importance = when_recalled(share), importance_of_frames(share)
    mean = importance @ weights  # (slots,)
    slot = int(mean.argmax())
    opened = "" if gate is None else f", gate {importance @ gate:.2f}"
    if mean[slot] < 0.5:
        return f"no fixed lag {when}\nmean weight at most {mean[slot]:.2f}{opened}"
    return f"lag {slot + 1} {when}\nmean weight {mean[slot]:.2f}{opened}"
