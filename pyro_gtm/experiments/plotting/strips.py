"""Sequences beside their reconstruction and generation, as rows of frames."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyro_gtm.experiments.plotting.arrays import Array, ArrayLike, as_shaped, as_share, runs_of
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
    text_width,
)
from pyro_gtm.experiments.plotting.style import GREY, RECALL_FILL, STYLE

# Inches.
FRAME, PHASE_GAP, ROW_LABEL = 0.36, 0.16, 1.12
NUMBERS, NOTE = 0.25, 0.15
"""Above the first row of frames: the height of their numbers, and of a line of notes."""
LONGEST_LINE = 30 * (FRAME + GAP)


def frame_strips(
    given: ArrayLike,
    reconstructed: ArrayLike,
    generated: ArrayLike,
    predictable: ArrayLike,
    num_given: int,
    num_sequences: int = 3,
    notes: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Sequences beside their reconstruction and beside what is generated from their beginning.

    Each sequence has three rows.  In the last, frames the model was given are faded and those it
    generated are outlined.  The recall phase stands apart, on a coloured ground.  Sequences of more
    than 30 frames, or fewer with long notes, run over several lines.  Every image carries the gid
    ``row/sequence/frame``, every note ``note/sequence/frame``.

    Args:
        given: the sequences, floats in [0, 1] (values outside are clipped) or bools,
            ``(T, B, C, H, W)``, C 1 (grey) or 3 (RGB).
        reconstructed: the means of p(x_t | z_t, Ψ_t) with z_t from the posterior; same shape.
        generated: the first ``num_given`` frames as given, the others generated; same shape.
        predictable: the recall phase, ``(T,)`` of bool or share, where any share above 0 is marked,
            or of each sequence its own, ``(T, B)`` of bool.
        num_given: the number of frames given before generation, 0 to T.
        num_sequences: the number of sequences shown, at most; the first ones of the batch.
        notes: a few letters on each frame, T rows of B, shown above the frame as given: the digit
            it shows, say, and for parity recall which digit that calls for.  A note may have
            several lines, and may be empty.

    Raises:
        ValueError: a shape, a type or a number does not fit.
    """
    shape = shape_of("given", given, (1, 3))
    num_frames, batch_size = shape[:2]
    check_numbers(num_frames, num_given, num_sequences)
    rows = {
        label: intensities(label, frames, shape, num_sequences)
        for label, frames in (
            ("given", given),
            ("reconstructed", reconstructed),
            ("generated", generated),
        )
    }
    num_sequences = min(num_sequences, batch_size)
    recalls = _recall_of_each(predictable, num_frames, batch_size)[:, :num_sequences]
    texts = [] if notes is None else _checked(notes, num_frames, batch_size)
    texts = [row[:num_sequences] for row in texts]

    widest = max((text_width(n, NUMBER, "bold") for row in texts for n in row), default=0.0)
    side = max((widest + 2 * GAP - FRAME) / 2, 0.0)
    a_line = max(int(LONGEST_LINE / (FRAME + GAP + 2 * side) + 1e-6), 1)
    lines = np.array_split(np.arange(num_frames), -(-num_frames // a_line))
    lefts = [[_frame_lefts(recall[line], side) for line in lines] for recall in recalls.T]
    last = max(x[-1] for of_sequence in lefts for x in of_sequence)
    width = max(last + FRAME + side + MARGIN, 6.2)
    key = lines_of_key(_key(num_frames, num_given, bool(recalls.any())), width - 2 * MARGIN)
    height = FRAME * shape[3] / shape[4]
    most_lines = max((len(note.splitlines()) for row in texts for note in row), default=0)
    above = NUMBERS + NOTE * most_lines
    block_height = above + 3 * (height + GAP) + 0.11
    top = 0.61 + KEY_HEIGHT * len(key)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(width, top + num_sequences * (len(lines) * block_height + 0.18))
        title = "Sequences as given and reconstructed"
        if num_given < num_frames:
            title += f", and as generated from frame {num_given} on"
        axes.text(MARGIN, 0.2, title, fontsize=9.5, va="center")
        draw_key(axes, key, 0.4)
        y = top
        for sequence in range(num_sequences):
            recall = recalls[:, sequence]
            for line, x in zip(lines, lefts[sequence], strict=True):
                tops = [y + above + row * (height + GAP) for row in range(3)]
                block = _Block(sequence, line, x, side, y, tops, height)
                _mark_recall(axes, block, recall)
                _name_frames(axes, block, texts)
                _show_rows(axes, block, rows, num_given)
                _outline_generated(axes, block, recall, num_given)
                y += block_height
            y += 0.18
    return figure


class _Block(NamedTuple):
    """One line of one sequence, and where it stands in inches."""

    sequence: int
    frames: Array
    lefts: list[float]
    """Of each frame."""
    side: float
    """The most that notes may reach beyond a frame, left and right."""
    top: float
    row_tops: list[float]
    height: float
    """Of a frame."""


def _recall_of_each(predictable: ArrayLike, num_frames: int, batch_size: int) -> Array:
    """The recall phase of each sequence: ``(T, B)`` of bool."""
    if predictable.ndim == 2:
        return as_shaped("predictable", predictable, (num_frames, batch_size)) > 0
    share = as_share(predictable, num_frames)
    return np.repeat(share[:, None] > 0, batch_size, axis=1)


def _checked(
    notes: Sequence[Sequence[str]], num_frames: int, batch_size: int
) -> Sequence[Sequence[str]]:
    if len(notes) != num_frames or any(len(row) != batch_size for row in notes):
        got = f"{len(notes)} rows of {sorted({len(row) for row in notes})}"
        raise ValueError(f"notes: got {got}, must be T = {num_frames} rows of B = {batch_size}")
    for row in notes:
        for note in row:
            if not isinstance(note, str):
                raise ValueError(f"notes: got {note!r}, must be strings")
    return notes


def _key(num_frames: int, num_given: int, any_recall: bool) -> list[Key]:
    """The marks that are used."""
    used = ((RECALLED, any_recall), (GIVEN, num_given > 0), (GENERATED, num_given < num_frames))
    return [key for key, is_used in used if is_used]


def _frame_lefts(recall: Array, side: float) -> list[float]:
    """The left edge of each frame of a line, with a gap round the recall phase."""
    lefts = [ROW_LABEL + side]
    for before, after in itertools.pairwise(recall):
        gap = GAP + 2 * side + (PHASE_GAP if before != after else 0.0)
        lefts.append(lefts[-1] + FRAME + gap)
    return lefts


def _mark_recall(axes: Axes, block: _Block, recall: Array) -> None:
    edge = block.side + 0.06
    for first, last, _ in runs_of(recall[block.frames].astype(float)):
        axes.add_patch(
            Rectangle(
                (block.lefts[first] - edge, block.top),
                block.lefts[last] - block.lefts[first] + FRAME + 2 * edge,
                block.row_tops[-1] + block.height + 0.06 - block.top,
                facecolor=RECALL_FILL,
                edgecolor="none",
                zorder=-1,  # images have 0
                gid=f"recall/{block.sequence}/{block.frames[first]}-{block.frames[last]}",
            )
        )


def _name_frames(axes: Axes, block: _Block, notes: Sequence[Sequence[str]]) -> None:
    """Their numbers, and below these the notes; both above the first row."""
    middle = block.top + 0.14
    if block.frames[0] == 0:
        name = f"sequence {block.sequence}"
        axes.text(MARGIN, middle, name, fontsize=LABEL, va="center", fontweight="bold")
    for left, t in zip(block.lefts, block.frames, strict=True):
        x = left + FRAME / 2
        colour = GREY if notes else "black"  # so that notes stand out
        axes.text(x, middle, str(t), fontsize=NUMBER, ha="center", va="center", color=colour)
        if notes and notes[t][block.sequence].strip():
            axes.text(
                x,
                block.row_tops[0] - 0.03,
                notes[t][block.sequence],
                fontsize=NUMBER,
                fontweight="bold",
                ha="center",
                va="bottom",
                linespacing=1.1,
                gid=f"note/{block.sequence}/{t}",
            )


def _show_rows(axes: Axes, block: _Block, rows: Mapping[str, Array], num_given: int) -> None:
    for (label, frames), top in zip(rows.items(), block.row_tops, strict=True):
        axes.text(MARGIN, top + block.height / 2, label, fontsize=LABEL, va="center")
        for left, t in zip(block.lefts, block.frames, strict=True):
            show_frame(
                axes,
                frames[t, block.sequence],
                (left, top, FRAME, block.height),
                alpha=0.3 if label == "generated" and t < num_given else 1.0,
                gid=f"{label}/{block.sequence}/{t}",
            )


def _outline_generated(axes: Axes, block: _Block, recall: Array, num_given: int) -> None:
    """One outline before the recall phase, one in it, one after it."""
    phases = np.where(block.frames >= num_given, 1.0 + recall[block.frames], 0.0)
    for first, last, _ in runs_of(phases):
        axes.add_patch(
            Rectangle(
                (block.lefts[first], block.row_tops[-1]),
                block.lefts[last] - block.lefts[first] + FRAME,
                block.height,
                zorder=3,
                gid=f"generated/{block.sequence}/{block.frames[first]}-{block.frames[last]}",
                **GENERATED_LOOK,
            )
        )
