"""A view that turns on the spot: the second turn under the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyro_gtm.experiments.plotting.arrays import Array, ArrayLike, as_integers
from pyro_gtm.experiments.plotting.frames import (
    GAP,
    GENERATED,
    GENERATED_LOOK,
    GIVEN,
    KEY_HEIGHT,
    LABEL,
    MARGIN,
    NUMBER,
    RECALLED,
    Key,
    check_numbers,
    draw_key,
    intensities,
    lines_of_key,
    shape_of,
    sheet,
    show_frame,
)
from pyro_gtm.experiments.plotting.style import RECALL_FILL, STYLE

# Inches.
FRAME, ROW_LABEL, APART = 0.54, 1.0, 0.1
SEQUENCE, NUMBERS = 0.25, 0.19
"""Heights of the name of a sequence and of the numbers above frames."""
FRAMES_A_LINE = 20


def turn(
    truth: ArrayLike,
    generated: ArrayLike,
    repeats: ArrayLike,
    num_given: int,
    num_sequences: int = 2,
) -> Figure:
    """The second turn on the spot, as it is and as generated, under the first.

    Each sequence has a row of its first turn, and below it two of each later turn: as it is and as
    generated.  Every frame stands under that of the first turn with the nearest heading; where two
    of one turn have the same, that column is wider.  A later turn begins where the heading comes
    round to an earlier one.  Frames of the first turn that were generated too have a row of their
    own.  In rows of generated frames, those the model was given are faded and those it generated
    outlined.  First turns of more than 20 frames run over several lines.  Every image carries the
    gid ``row/sequence/frame``, row ``truth`` or ``generated``.

    Source: Gemici et al. 2017, Figures 17 and 28.

    Args:
        truth: the sequences, floats in [0, 1] (values outside are clipped) or bools,
            ``(T, B, 3, H, W)``.
        generated: the first ``num_given`` frames as given, the others generated; same shape.
        repeats: for each frame after the first turn the step of the first turn with the nearest
            heading, -1 for those of the first turn; integers ``(T,)``.
        num_given: the number of frames given before generation, 0 to T.
        num_sequences: the number of sequences shown, at most; the first ones of the batch.

    Raises:
        ValueError: a shape, a type or a number does not fit.
    """
    shape = shape_of("truth", truth, (3,))
    num_frames = shape[0]
    check_numbers(num_frames, num_given, num_sequences)
    rows = {
        label: intensities(label, frames, shape, num_sequences)
        for label, frames in (("truth", truth), ("generated", generated))
    }
    nearest = as_integers("repeats", repeats, (num_frames,), -1)
    first_turn = int((nearest >= 0).argmax()) if (nearest >= 0).any() else num_frames
    later = nearest[first_turn:]
    if not first_turn or np.any(later < 0) or np.any(later >= first_turn):
        raise ValueError(
            f"repeats: got {nearest.tolist()}, must be -1 throughout the first turn and a step of "
            "it from then on"
        )
    num_sequences = min(num_sequences, shape[1])
    places = _places(nearest, first_turn)
    columns = int(places.column.max()) + 1
    width = max(ROW_LABEL + columns * (FRAME + GAP) + MARGIN, 6.2)
    key = lines_of_key(_key(num_frames, first_turn, num_given), width - 2 * MARGIN)
    height = FRAME * shape[3] / shape[4]
    strips = [
        strip
        for line in range(int(places.line.max()) + 1)
        for number in range(int(places.turn.max()) + 1)
        if len(strip := np.flatnonzero((places.line == line) & (places.turn == number)))
    ]
    top = 0.5 + KEY_HEIGHT * len(key)
    with mpl.rc_context(STYLE):
        heights = [_height(strip, num_given, height) for strip in strips]
        figure, axes = sheet(width, top + num_sequences * (SEQUENCE + sum(heights)) + MARGIN)
        axes.text(MARGIN, 0.2, _title(num_frames, num_given), fontsize=9.5, va="center")
        draw_key(axes, key, 0.4)
        y = top
        for sequence in range(num_sequences):
            axes.text(
                MARGIN,
                y + SEQUENCE / 2,
                f"sequence {sequence}",
                fontsize=LABEL,
                va="center",
                fontweight="bold",
            )
            y += SEQUENCE
            for strip, strip_height in zip(strips, heights, strict=True):
                _show_strip(axes, y, strip, places, rows, sequence, num_given, height)
                y += strip_height
    return figure


class _Places(NamedTuple):
    """Places of the frames, ``(T,)`` each."""

    turn: Array
    line: Array
    column: Array
    """Counted from 0 in each line; the middle of two is a half."""


def _places(nearest: Array, first_turn: int) -> _Places:
    """Frames under the one of the first turn with the nearest heading, side by side where two are.

    Args:
        nearest: the step of the first turn with the nearest heading, ``(T,)``; -1 in it.
        first_turn: the number of its frames.
    """
    heading = np.where(nearest < 0, np.arange(len(nearest)), nearest)
    turn = np.cumsum(np.diff(heading, prepend=heading[0]) < 0)
    together = (heading == heading[:, None]) & (turn == turn[:, None])  # (T, T)
    before = np.tril(together, -1).sum(1)
    widths = np.ones(first_turn, int)
    np.maximum.at(widths, heading, together.sum(1))

    starts = np.cumsum(widths) - widths  # (first_turn,)
    lines = -(-widths.sum() // FRAMES_A_LINE)
    line = starts * lines // widths.sum()  # (first_turn,)
    starts = starts - starts[np.searchsorted(line, line)]
    column = starts[heading] + before + (widths[heading] - together.sum(1)) / 2
    return _Places(turn, line[heading], column)


def _title(num_frames: int, num_given: int) -> str:
    return (
        f"Later turns under the first, heading under heading: {num_given} frames given, "
        f"{num_frames - num_given} generated"
    )


def _key(num_frames: int, first_turn: int, num_given: int) -> list[Key]:
    """The marks that are used; frames are given within a row of generated ones alone."""
    used = (
        (RECALLED, first_turn < num_frames),
        (GIVEN, 0 < num_given < num_frames),
        (GENERATED, num_given < num_frames),
    )
    return [key for key, is_used in used if is_used]


def _height(strip: Array, num_given: int, height: float) -> float:
    rows = 2 if strip[-1] >= num_given else 1
    return NUMBERS + rows * (height + GAP) + APART


def _show_strip(
    axes: Axes,
    top: float,
    strip: Array,
    places: _Places,
    rows: Mapping[str, Array],
    sequence: int,
    num_given: int,
    height: float,
) -> None:
    """Some frames of one turn as they are and, if any of them was, as generated."""
    number = int(places.turn[strip[0]])
    shown = [(f"turn {number + 1}", "truth")]
    if strip[-1] >= num_given:
        shown.append(("generated", "generated"))
    lefts = ROW_LABEL + places.column[strip] * (FRAME + GAP)
    if number > 0:
        axes.add_patch(
            Rectangle(
                (lefts.min() - 0.06, top),
                np.ptp(lefts) + FRAME + 0.12,
                NUMBERS + len(shown) * (height + GAP) + 0.03,
                facecolor=RECALL_FILL,
                edgecolor="none",
                zorder=-1,  # images have 0
                gid=f"recall/{sequence}/{strip[0]}-{strip[-1]}",
            )
        )
    for t, left in zip(strip, lefts, strict=True):
        middle = left + FRAME / 2, top + NUMBERS / 2
        axes.text(*middle, str(t), fontsize=NUMBER, ha="center", va="center")
    for index, (name, row) in enumerate(shown):
        y = top + NUMBERS + index * (height + GAP)
        axes.text(MARGIN, y + height / 2, name, fontsize=LABEL, va="center")
        for t, left in zip(strip, lefts, strict=True):
            show_frame(
                axes,
                rows[row][t, sequence],
                (left, y, FRAME, height),
                alpha=0.3 if row == "generated" and t < num_given else 1.0,
                gid=f"{row}/{sequence}/{t}",
            )
    _outline_generated(axes, y, strip, lefts, sequence, num_given, height)


def _outline_generated(
    axes: Axes,
    top: float,
    strip: Array,
    lefts: Array,
    sequence: int,
    num_given: int,
    height: float,
) -> None:
    """One outline for each run of frames without a gap."""
    steps, x = strip[strip >= num_given], lefts[strip >= num_given]
    runs = np.split(np.arange(len(steps)), np.flatnonzero(np.diff(x) > 1.01 * (FRAME + GAP)) + 1)
    for run in runs:
        if len(run):
            axes.add_patch(
                Rectangle(
                    (x[run[0]], top),
                    x[run[-1]] - x[run[0]] + FRAME,
                    height,
                    zorder=3,
                    gid=f"generated/{sequence}/{steps[run[0]]}-{steps[run[-1]]}",
                    **GENERATED_LOOK,
                )
            )
