"""Figures, drawn from recorded arrays and never from models.

The first three are the figures of Gemici et al. 2017 (arXiv 1702.04649): learning curves and the KL
of each frame (Figure 4) and sequences beside what a model makes of them (Figure 19).  The fourth
shows where a positional memory looks.

- Arrays are NumPy arrays or torch tensors on any device; time comes first; frames and steps are
  counted from 0; bounds and KL divergences are in nats.
- ``predictable`` says which frames a perfect memory can predict from those before: bool, or the
  share of sequences, in [0, 1], in which that is so.  Such frames are the recall phase, and are
  marked in one colour in every figure.
- Every function returns a :class:`matplotlib.figure.Figure` that no global state knows of: it needs
  no display and no closing.  A wrong shape raises a ValueError that names the argument.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.rcsetup import cycler
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from torch import Tensor

from pyro_gtm.files import write_atomically

__all__ = ["attention_over_time", "frame_strips", "kl_per_frame", "save", "training_curves"]

Array: TypeAlias = NDArray[Any]
ArrayLike: TypeAlias = Array | Tensor

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


# ------------------------------------------------------------------------------------------------
# Learning curves
# ------------------------------------------------------------------------------------------------


def training_curves(
    metrics: Sequence[Mapping[str, float]], evaluations: Sequence[Mapping[str, float]]
) -> Figure:
    """The negative bound and the KL in the recall phase, in nats, against the training step.

    The left panel ends above where the curves are after the first tenth of the steps, and says so
    if that leaves something out.  The right panel has a logarithmic axis where its values span a
    factor of ten or more.  Values that are not finite are left out.

    Args:
        metrics: rows of training, with ``step`` and ``negative_elbo_per_frame``.
        evaluations: rows of held-out sequences, with ``step``, ``negative_elbo_per_frame``,
            ``recall_kl`` and ``last_frame_kl``; may be empty.

    Raises:
        ValueError: a row lacks one of these, or there are no rows at all.
    """
    name = "training_curves"
    if not metrics and not evaluations:
        raise ValueError(f"{name}: metrics and evaluations are both empty, so nothing can be drawn")
    bound = "negative_elbo_per_frame"
    trained = _columns(name, "metrics", metrics, ("step", bound))
    held_out = _columns(
        name, "evaluations", evaluations, ("step", bound, "recall_kl", "last_frame_kl")
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.5), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12)  # type: ignore[union-attr,call-arg]
        left, right = figure.subplots(1, 2)
        _bound_panel(left, trained["step"], trained[bound], held_out["step"], held_out[bound])
        _recall_panel(right, held_out["step"], held_out["recall_kl"], held_out["last_frame_kl"])
        for axes in (left, right):
            axes.set_xlabel("training step")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(_whole_numbers(6))
            axes.tick_params(**TICKS)
        right.set_xlim(left.get_xlim())
    return figure


def _bound_panel(
    axes: Axes, trained_at: Array, trained: Array, held_out_at: Array, held_out: Array
) -> None:
    """Two lines, training and held-out; all arguments ``(rows,)``."""
    if len(trained):
        (line,) = axes.plot(trained_at, trained, color=SKY, label="training", linewidth=1.0)
        line.set_marker("o" if len(trained) == 1 else "None")
    if len(held_out):
        axes.plot(held_out_at, held_out, color=BLUE, label="held-out", **_markers(len(held_out)))
    axes.set_title(
        "Negative bound" + (_latest("held-out", held_out) or _latest("training", trained))
    )
    axes.set_ylabel("negative bound (nats per frame)")
    _leave_out_the_fall(
        axes, np.concatenate([trained_at, held_out_at]), np.concatenate([trained, held_out])
    )
    axes.legend(loc="lower left")  # a bound falls: that corner is free


def _recall_panel(axes: Axes, steps: Array, recall: Array, last: Array) -> None:
    """Two lines, the whole recall phase and its last frame; all arguments ``(rows,)``."""
    axes.set_title("KL in the recall phase" + _latest("held-out", recall))
    axes.set_ylabel("KL (nats per frame)")
    if not len(steps):
        axes.text(
            0.5,
            0.5,
            "no held-out evaluation yet",
            transform=axes.transAxes,
            ha="center",
            color=GREY,
        )
        axes.set_yticks([])
        return
    axes.plot(steps, recall, color=ORANGE, label="recall phase, mean", **_markers(len(steps)))
    axes.plot(
        steps, last, color=VERMILION, label="last frame", linestyle="--", **_markers(len(steps))
    )
    values = np.concatenate([recall, last])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() >= 10 * values.min():
        _plain_log_axis(axes, values.min(), values.max())
    else:
        _from_zero(axes, values)
    axes.legend(loc="best")


def _latest(whose: str, values: Array) -> str:
    """The last of some values ``(rows,)`` for a title, or nothing."""
    return f", {whose}: {_nats(values[-1])}" if len(values) and np.isfinite(values[-1]) else ""


def _markers(count: int) -> dict[str, Any]:
    """Points on a line that has few, none on one that has many."""
    return {"marker": "o" if count <= 40 else "None"}


def _leave_out_the_fall(axes: Axes, steps: Array, values: Array) -> None:
    """Keep a first fall of hundreds of nats from flattening the rest of the curves."""
    steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
    later = values[steps > steps.min() + 0.1 * np.ptp(steps)] if len(steps) else values
    if len(values) < 20 or not len(later):
        return
    low, high = values.min(), later.max()
    room = max(0.08 * (high - low), 0.02 * abs(high), 1e-6)
    if values.max() > high + max(high - low, room):
        axes.set_ylim(low - room, high + room)
        below = steps[values > high + room].max()
        axes.set_title(
            f"↑ off scale until step {EngFormatter(sep='')(below)}",
            loc="right",
            fontsize=8,
            color=GREY,
        )


def _plain_log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis with ticks at 1, 2, 5 or 1, 3 or 1 alone, written as plain numbers."""
    decades = np.log10(high / low)
    subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


# ------------------------------------------------------------------------------------------------
# KL of each frame
# ------------------------------------------------------------------------------------------------


def kl_per_frame(
    curves: Mapping[str, ArrayLike],
    predictable: ArrayLike,
    spread: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """KL[q(z_t) ‖ p(z_t)] of each frame, in nats: the error of a model's prediction.

    Args:
        curves: for each name (a memory, say) the KL of each frame, ``(T,)``.
        predictable: the recall phase, ``(T,)`` of bool or share.
        spread: for some of the names half the height of a band round the curve, in nats, ``(T,)``;
            of what (runs, sequences) is for the caller to say.

    Raises:
        ValueError: a shape does not fit, or ``spread`` has a name that ``curves`` lacks.
    """
    name = "kl_per_frame"
    if not curves:
        raise ValueError(f"{name}: curves is empty, so nothing can be drawn")
    share = _share(name, predictable)
    lines = {
        label: _shaped(name, f"curves[{label!r}]", c, share.shape) for label, c in curves.items()
    }
    bands = {}
    for label, band in (spread or {}).items():
        if label not in lines:
            raise ValueError(f"{name}: spread has {label!r}, which curves does not have")
        bands[label] = _shaped(name, f"spread[{label!r}]", band, share.shape)

    num_frames = len(share)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(min(5.5 + 0.06 * num_frames, 8.5), 3.6), layout="constrained")
        axes = figure.add_subplot()
        for label, curve in lines.items():
            (line,) = axes.plot(np.arange(num_frames), curve, label=label)
            if label in bands:
                axes.fill_between(
                    np.arange(num_frames),
                    curve - bands[label],
                    curve + bands[label],
                    color=line.get_color(),
                    alpha=0.18,
                    linewidth=0,
                )
        _mark_recall(axes, share)
        axes.set_title(_kl_title(lines, share), pad=18)
        axes.set_ylabel("KL (nats)")
        _from_zero(axes, *lines.values(), *(lines[label] + bands[label] for label in bands))
        _frame_axis(axes, num_frames)
        if len(lines) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _kl_title(lines: Mapping[str, Array], share: Array) -> str:
    """The means of the recall phase, where it is the same for all sequences."""
    recall = share > 0
    if not recall.any() or _graded(share):
        return "KL of each frame" if len(lines) > 1 else f"KL of each frame, {next(iter(lines))}"
    means = {label: curve[recall].mean() for label, curve in lines.items()}
    best, worst = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    title = f"KL in the recall phase: {best} {_nats(means[best])} a frame"
    return title if best == worst else f"{title}, {worst} {_nats(means[worst])}"


# ------------------------------------------------------------------------------------------------
# Frames
# ------------------------------------------------------------------------------------------------

# Inches in the figure of frames.
FRAME, GAP, PHASE_GAP, ROW_LABEL, MARGIN = 0.36, 0.03, 0.16, 1.12, 0.15
FRAMES_A_LINE = 30


def frame_strips(
    given: ArrayLike,
    reconstructed: ArrayLike,
    generated: ArrayLike,
    predictable: ArrayLike,
    num_given: int,
    num_sequences: int = 3,
) -> Figure:
    """Sequences beside their reconstruction and beside what is generated from their beginning.

    Each sequence has three rows.  In the last, frames the model was given are faded and those it
    generated are outlined.  The recall phase stands apart, on a coloured ground.  Sequences of more
    than 30 frames run over several lines.  Every image carries the gid ``row/sequence/frame``.

    Args:
        given: the sequences, floats in [0, 1] (values outside
            are clipped) or bools, ``(T, B, C, H, W)``, C 1 (grey) or 3 (RGB).
        reconstructed: the means of p(x_t | z_t, Ψ_t) with z_t from the posterior; same shape.
        generated: the first ``num_given`` frames as given, the others generated; same shape.
        predictable: the recall phase, ``(T,)`` of bool or share; any share above 0 is marked.
        num_given: n, how many frames were given before generation, 0 <= n <= T.
        num_sequences: how many sequences are shown, at most; the first ones of the batch.

    Raises:
        ValueError: a shape, a type or a number does not fit.
    """
    name = "frame_strips"
    shape = tuple(given.shape)
    if len(shape) != 5 or 0 in shape or shape[2] not in (1, 3):
        raise ValueError(f"{name}: given must be (T, B, C, H, W) with C = 1 or 3, got {shape}")
    if num_sequences < 1:
        raise ValueError(f"{name}: num_sequences must be at least 1, got {num_sequences}")
    num_frames = shape[0]
    if not 0 <= num_given <= num_frames:
        raise ValueError(f"{name}: num_given must be from 0 to T = {num_frames}, got {num_given}")
    rows = {
        label: _intensities(name, label, frames, shape, num_sequences)
        for label, frames in (
            ("given", given),
            ("reconstructed", reconstructed),
            ("generated", generated),
        )
    }
    recall = _share(name, predictable, num_frames) > 0
    num_sequences = min(num_sequences, shape[1])

    lines = np.array_split(np.arange(num_frames), -(-num_frames // FRAMES_A_LINE))
    height = FRAME * shape[3] / shape[4]
    block = 0.3 + 3 * (height + GAP)  # frame numbers, then three rows
    top = 0.85
    x_of = [_frame_lefts(recall[line]) for line in lines]
    size = (
        max(max(x[-1] for x in x_of) + FRAME + MARGIN, 6.2),
        top + num_sequences * (len(lines) * (block + 0.06) + 0.18),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        axes = figure.add_axes((0, 0, 1, 1))  # in inches from the upper left corner
        axes.set_axis_off()
        _strip_heading(axes, num_frames, num_given, bool(recall.any()))
        y = top
        for sequence in range(num_sequences):
            for line, lefts in zip(lines, x_of, strict=True):
                _strip_block(axes, y, lefts, line, sequence, rows, recall, num_given, height)
                y += block + 0.06
            y += 0.18
        axes.set_aspect("auto")
        axes.set_xlim(0, size[0])
        axes.set_ylim(size[1], 0)
    return figure


def _intensities(
    function: str, argument: str, frames: ArrayLike, shape: tuple[int, ...], num_sequences: int
) -> Array:
    """The first sequences of ``(T, B, C, H, W)``, as floats; copies no more than these."""
    if tuple(frames.shape) != shape:
        raise ValueError(
            f"{function}: {argument} must have the shape {shape}, got {tuple(frames.shape)}"
        )
    pixels = _array(frames[:, :num_sequences])
    if pixels.dtype.kind not in "fb":
        raise ValueError(
            f"{function}: {argument} must hold floats in [0, 1] or bools, got {pixels.dtype}"
        )
    return pixels.astype(np.float32) if pixels.dtype.itemsize < 4 else pixels


def _frame_lefts(recall: Array) -> list[float]:
    """Where each frame of a line begins, with a gap round the recall phase."""
    lefts = [ROW_LABEL]
    for before, after in itertools.pairwise(recall):
        lefts.append(lefts[-1] + FRAME + GAP + (PHASE_GAP if before != after else 0.0))
    return lefts


def _strip_heading(axes: Axes, num_frames: int, num_given: int, any_recall: bool) -> None:
    """The title, and a key of the marks that are used."""
    title = "Sequences as given and reconstructed"
    if num_given < num_frames:
        title += f", and as generated from frame {num_given} on"
    axes.text(MARGIN, 0.2, title, fontsize=9.5, va="center")
    keys: list[tuple[str, dict[str, Any]]] = []
    if any_recall:
        keys.append(("recall phase", {"facecolor": RECALL_FILL, "edgecolor": "none"}))
    if num_given > 0:
        keys.append(("given, not generated", {"facecolor": "#C9C9C9", "edgecolor": "none"}))
    if num_given < num_frames:
        keys.append(("generated", {"facecolor": "none", "edgecolor": VERMILION, "linewidth": 1.6}))
    x = MARGIN
    for label, look in keys:
        axes.add_patch(Rectangle((x, 0.44), 0.22, 0.16, **look))
        axes.text(x + 0.3, 0.52, label, fontsize=8.5, va="center")
        x += 0.55 + 0.075 * len(label)


def _strip_block(
    axes: Axes,
    y: float,
    lefts: Sequence[float],
    line: Array,
    sequence: int,
    rows: Mapping[str, Array],
    recall: Array,
    num_given: int,
    height: float,
) -> None:
    """One line of one sequence: frame numbers, and three rows of images."""
    tops = [y + 0.25 + row * (height + GAP) for row in range(3)]
    for first, last, _ in _runs(recall[line].astype(float)):
        axes.add_patch(
            Rectangle(
                (lefts[first] - 0.06, y),
                lefts[last] - lefts[first] + FRAME + 0.12,
                tops[-1] + height + 0.06 - y,
                facecolor=RECALL_FILL,
                edgecolor="none",
                zorder=-1,  # images have 0
                gid=f"recall/{sequence}/{line[first]}-{line[last]}",
            )
        )
    if line[0] == 0:
        axes.text(
            MARGIN, y + 0.14, f"sequence {sequence}", fontsize=8.5, va="center", fontweight="bold"
        )
    for left, t in zip(lefts, line, strict=True):
        axes.text(left + FRAME / 2, y + 0.14, str(t), fontsize=7.5, ha="center", va="center")
    for (label, frames), row_top in zip(rows.items(), tops, strict=True):
        axes.text(MARGIN, row_top + height / 2, label, fontsize=8.5, va="center")
        for left, t in zip(lefts, line, strict=True):
            faded = label == "generated" and t < num_given
            _image(
                axes,
                frames[t, sequence],
                extent=(left, left + FRAME, row_top + height, row_top),
                alpha=0.3 if faded else 1.0,
                gid=f"{label}/{sequence}/{t}",
            )
    is_generated = line >= num_given
    for first, last, _ in _runs(np.where(is_generated, 1.0 + recall[line], 0.0)):
        axes.add_patch(
            Rectangle(
                (lefts[first], tops[-1]),
                lefts[last] - lefts[first] + FRAME,
                height,
                facecolor="none",
                edgecolor=VERMILION,
                linewidth=1.6,
                zorder=3,
                gid=f"generated/{sequence}/{line[first]}-{line[last]}",
            )
        )


def _image(
    axes: Axes, frame: Array, extent: tuple[float, float, float, float], alpha: float, gid: str
) -> AxesImage:
    """A frame ``(C, H, W)`` of intensities in [0, 1]: black is 0."""
    pixels = frame[0] if len(frame) == 1 else np.clip(np.moveaxis(frame, 0, -1), 0, 1)
    return axes.imshow(
        pixels,
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=extent,
        alpha=alpha,
        gid=gid,
        aspect="auto",
        interpolation="nearest",
    )


# ------------------------------------------------------------------------------------------------
# Attention
# ------------------------------------------------------------------------------------------------


def attention_over_time(
    read_weights: ArrayLike, predictable: ArrayLike, gates: ArrayLike | None = None
) -> Figure:
    """How far back each head of a positional memory looks, frame by frame, in one sequence.

    Slot 0 holds the latest latent and is drawn as 1 step ago; slots no latent can have reached in T
    steps are not drawn.  Above the dotted line nothing was written yet.

    Args:
        read_weights: the attention, each row a distribution over slots, ``(T, R, L)``; as recorded
            by ``record_memory`` under ``read_weights``, for one sequence or averaged over many.
        predictable: the recall phase, ``(T,)`` of bool or share.
        gates: how much of each element read is let through, in [0, 1], ``(T, R, W)``; their mean
            over W is drawn below the attention.

    Raises:
        ValueError: a shape does not fit.
    """
    name = "attention_over_time"
    weights = _array(read_weights)
    if weights.ndim != 3 or 0 in weights.shape:
        raise ValueError(f"{name}: read_weights must be (T, R, L), got {weights.shape}")
    num_frames, heads, slots = weights.shape
    share = _share(name, predictable, num_frames)
    weights = weights[:, :, : min(slots, num_frames)]
    openness: Array | None = None
    if gates is not None:
        openness = _array(gates)
        if openness.ndim != 3 or openness.shape[:2] != (num_frames, heads) or 0 in openness.shape:
            raise ValueError(
                f"{name}: gates must be (T, R, W) = ({num_frames}, {heads}, any), "
                f"got {openness.shape}"
            )
        openness = openness.mean(-1)  # (T, R)

    columns = min(heads, 3)
    lines = -(-heads // columns)
    parts = [1.0] if openness is None else [1.0, 0.25]
    width = min(max(0.2 * num_frames, 3.0), 4.2)
    with mpl.rc_context(STYLE):
        figure = Figure(
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
            axes.set_title(
                f"head {head + 1}: {_where_it_looks(weights[:, head], share, gate)}", pad=22
            )
            if column == 0:
                axes.set_ylabel("steps ago")
            if gate is None:
                _frame_axis(axes, num_frames)
                continue
            axes.tick_params(labelbottom=False)
            below = figure.add_subplot(grid[line * len(parts) + 1, column], sharex=axes)
            _gate_panel(below, gate, share)
            if column == 0:
                below.set_ylabel("mean gate")
            _frame_axis(below, num_frames)
        bar = figure.colorbar(image, ax=panels, label="read weight", shrink=0.8, aspect=25)
        bar.outline.set_visible(False)
        bar.ax.tick_params(**TICKS)
    return figure


def _attention_panel(axes: Axes, weights: Array, share: Array) -> AxesImage:
    """The weights ``(T, slots)`` of one head, upwards in steps ago."""
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
    _mark_recall(axes, share, filled=False)
    axes.set_ylim(0.5, slots + 0.5)
    step = 1 if slots <= 6 else 5 if slots <= 30 else 10
    axes.set_yticks([1, *(k for k in range(step, slots + 1, step) if k > 1)])
    axes.tick_params(**TICKS)
    return image


def _gate_panel(axes: Axes, gate: Array, share: Array) -> None:
    """The mean gate ``(T,)`` of one head."""
    axes.plot(np.arange(len(gate)), gate, color=BLUE, marker="o", markersize=2.5, linewidth=1.2)
    _mark_recall(axes, share, labelled=False)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 1])
    axes.tick_params(**TICKS)


def _where_it_looks(weights: Array, share: Array, gate: Array | None) -> str:
    """What a head does in the recall phase (or throughout, if there is none), in words.

    Shapes ``(T, slots)``, ``(T,)``, ``(T,)``.
    """
    when = (
        "throughout" if not share.any() else "where predictable" if _graded(share) else "in recall"
    )
    importance = share / share.sum() if share.any() else np.full(len(share), 1 / len(share))
    mean = importance @ weights  # (slots,)
    slot = int(mean.argmax())
    opened = "" if gate is None else f", gate {importance @ gate:.2f}"
    if mean[slot] < 0.5:
        return f"no fixed lag {when}\nmean weight at most {mean[slot]:.2f}{opened}"
    steps = f"{slot + 1} step{'s' if slot else ''} back"
    return f"{steps} {when}\nmean weight {mean[slot]:.2f}{opened}"


# ------------------------------------------------------------------------------------------------
# Files
# ------------------------------------------------------------------------------------------------


def save(figure: Figure, path: Path, dpi: float = 150) -> None:
    """Write a PNG file, whole or not at all; the folder must exist.

    Args:
        figure: what to write.
        path: the file, replaced if there is one.
        dpi: pixels an inch.

    Raises:
        OSError: the file cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    write_atomically(path, content.getvalue())


# ------------------------------------------------------------------------------------------------
# What the figures share
# ------------------------------------------------------------------------------------------------


def _mark_recall(axes: Axes, share: Array, filled: bool = True, labelled: bool = True) -> None:
    """Mark the recall phase, deeper where more sequences are in it; name it above the axes.

    Over an image it is not filled: a bar lies above the axes, and a frame round a phase that is the
    same for all sequences.
    """
    runs = _runs(share)
    graded = _graded(share)
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


def _graded(share: Array) -> bool:
    """Whether a frame is predictable in some sequences and not in others."""
    return bool(np.any((share > 0) & (share < 1)))


def _from_zero(axes: Axes, *values: Array) -> None:
    """A y axis from just below 0 (or the least value) to just above the largest."""
    finite = np.concatenate(values)
    finite = finite[np.isfinite(finite)]
    if len(finite):
        top = 1.08 * max(finite.max(), 1e-3)
        axes.set_ylim(min(1.08 * finite.min(), -0.03 * top), top)  # room for a marker at 0


def _whole_numbers(most: int) -> MaxNLocator:
    return MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def _nats(value: float) -> str:
    """A number of nats, to the digits that mean something."""
    return f"{value:.{0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2}f} nats"


def _frame_axis(axes: Axes, num_frames: int) -> None:
    axes.set_xlim(-0.5, num_frames - 0.5)
    axes.set_xlabel("frame")
    axes.xaxis.set_major_locator(_whole_numbers(8))
    axes.tick_params(**TICKS)


def _runs(values: Array) -> list[tuple[int, int, float]]:
    """First index, last index and value of each run of one value above 0 in ``(T,)``."""
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [
        (first, end - 1, float(values[first]))
        for first, end in itertools.pairwise(starts)
        if values[first] > 0
    ]


def _array(value: ArrayLike) -> Array:
    """A NumPy array of whatever holds numbers, a tensor with gradients on a GPU included."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)


def _shaped(function: str, argument: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = _array(value)
    if array.shape != shape:
        raise ValueError(f"{function}: {argument} must have the shape {shape}, got {array.shape}")
    return array


def _share(function: str, predictable: ArrayLike, num_frames: int | None = None) -> Array:
    """``predictable`` as shares, ``(T,)`` of float."""
    array = _array(predictable).astype(float)
    expected = "(T,)" if num_frames is None else f"(T,) = ({num_frames},)"
    if array.ndim != 1 or not len(array) or num_frames not in (None, len(array)):
        raise ValueError(f"{function}: predictable must be {expected}, got {array.shape}")
    if not np.all((array >= 0) & (array <= 1)):
        raise ValueError(f"{function}: predictable must be bool or shares from 0 to 1")
    return array


def _columns(
    function: str, argument: str, rows: Sequence[Mapping[str, float]], keys: Sequence[str]
) -> dict[str, Array]:
    """Each key's values over the rows, ``(rows,)``."""
    for index, row in enumerate(rows):
        for key in keys:
            if key not in row:
                raise ValueError(f"{function}: {argument}[{index}] lacks {key!r}")
    return {key: np.array([row[key] for row in rows], dtype=float) for key in keys}
