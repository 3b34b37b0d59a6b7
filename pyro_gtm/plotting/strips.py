"""Sequences beside what a model makes of them, as rows of frames."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from pyro_gtm.plotting.arrays import Array, ArrayLike, as_array, as_share, runs_of
from pyro_gtm.plotting.style import RECALL_FILL, STYLE, VERMILION

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
    recall = as_share(name, predictable, num_frames) > 0
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
    pixels = as_array(frames[:, :num_sequences])
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
    for first, last, _ in runs_of(recall[line].astype(float)):
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
    for first, last, _ in runs_of(np.where(is_generated, 1.0 + recall[line], 0.0)):
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
