"""A walk through a map: the visits to each cell, one over the other."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyro_gtm.experiments.plotting.arrays import Array, ArrayLike, as_integers
from pyro_gtm.experiments.plotting.frames import (
    KEY_HEIGHT,
    LABEL,
    MARGIN,
    NUMBER,
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
from pyro_gtm.experiments.plotting.style import BLACK, GREY, SKY, STYLE

# Inches.
CELL, BETWEEN, APART = 0.62, 0.08, 0.4
"""The least width of a cell, from cell to cell, and from panel to panel."""
SEQUENCE, STEPS, WORD = 0.2, 0.17, 0.05
"""Heights of the name of a sequence and of the steps above a cell; between two of these."""
WIDEST = 12.0
"""Of the panels beside each other."""
COLOURS_OF_STEPS = ("#C40000", "#007A1F", "#0000D8")
"""Red, green and blue as they can be read on white."""
UNVISITED: dict[str, Any] = {
    "facecolor": "#F2F2F2",
    "edgecolor": "#B5B5B5",
    "hatch": "////",
    "linewidth": 0.6,
}
START: dict[str, Any] = {"facecolor": "none", "edgecolor": SKY, "linewidth": 2.2}
GHOST: dict[str, Any] = {
    "facecolor": "#00FF00",
    "edgecolor": "#0000FF",
    "hatch": "||||",
    "linewidth": 0.6,
}
KEY: list[Key] = [
    *(
        (label, {"facecolor": colour, "edgecolor": BLACK, "linewidth": 0.6})
        for label, colour in (
            ("seen once", "#FF0000"),
            ("twice, the same", "#FFFF00"),
            ("three times, the same", "#FFFFFF"),
        )
    ),
    ("a green or blue ghost: it came out otherwise", GHOST),
    ("start", START),
    ("never visited", UNVISITED),
]


def map_visits(
    frames: ArrayLike,
    row: ArrayLike,
    column: ArrayLike,
    num_given: int,
    num_sequences: int = 3,
    size: tuple[int, int] | None = None,
) -> Figure:
    """The map that a model walked through, each cell an overlay of its first three visits.

    The first visit is the red channel of a cell, the second the green and the third the blue: what
    comes out the same each time is yellow after two and white after three.  Above each cell stand
    the steps of its first visits in these colours, those that were generated in bold, and how many
    visits more there were.  Every cell carries the gid ``visits/sequence/row,column`` or
    ``unvisited/sequence/row,column``.

    Source: Gemici et al. 2017, Figure 15.

    Args:
        frames: the frame of each step, the first ``num_given`` as given and the others generated;
            floats in [0, 1] (values outside are clipped) or bools, ``(T, B, 1, H, W)``.
        row: of the cell at each step, counted from 0 at the top, integers ``(T, B)``.
        column: of the cell at each step, counted from 0 at the left, integers ``(T, B)``.
        num_given: the number of frames given before generation, 0 to T.
        num_sequences: the number of sequences shown, at most; the first ones of the batch.
        size: rows and columns of the map; by default as many as any path of the batch reaches.

    Raises:
        ValueError: a shape, a type or a number does not fit.
    """
    shape = shape_of("frames", frames, (1,))
    num_frames, batch_size = shape[:2]
    check_numbers(num_frames, num_given, num_sequences)
    rows = as_integers("row", row, shape[:2], 0)
    columns = as_integers("column", column, shape[:2], 0)
    reached = int(rows.max()) + 1, int(columns.max()) + 1
    if size is None:
        size = reached
    elif size[0] < reached[0] or size[1] < reached[1]:
        raise ValueError(f"size: got {size}, must be at least {reached}, which the paths reach")
    num_sequences = min(num_sequences, batch_size)
    pixels = intensities("frames", frames, shape, num_sequences)[:, :, 0].clip(0, 1)
    walks = [_visits(rows[:, b], columns[:, b]) for b in range(num_sequences)]

    width = max(CELL, *(_width_of(steps, num_given) for walk in walks for steps in walk.values()))
    cell = width, width * shape[3] / shape[4]
    panel_width = size[1] * (cell[0] + BETWEEN) - BETWEEN
    panel_height = SEQUENCE + size[0] * (STEPS + cell[1] + BETWEEN)
    a_line = max(int((WIDEST + APART) / (panel_width + APART)), 1)
    lines = -(-num_sequences // a_line)
    across = min(a_line, num_sequences) * (panel_width + APART) - APART + 2 * MARGIN
    sheet_width = max(across, 6.2)
    key = lines_of_key(KEY, sheet_width - 2 * MARGIN)
    top = 0.55 + KEY_HEIGHT * len(key)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(sheet_width, top + lines * (panel_height + APART) - APART + MARGIN)
        title = f"Visits to each cell: {num_given} frames given, {num_frames - num_given} generated"
        title += " (steps in bold)" if num_given < num_frames else ""
        axes.text(MARGIN, 0.2, title, fontsize=9.5, va="center")
        draw_key(axes, key, 0.4)
        for sequence, walk in enumerate(walks):
            line, place = divmod(sequence, a_line)
            corner = MARGIN + place * (panel_width + APART), top + line * (panel_height + APART)
            name = f"sequence {sequence}"
            axes.text(*corner, name, fontsize=LABEL, va="top", fontweight="bold")
            for where in itertools.product(range(size[0]), range(size[1])):
                x = corner[0] + where[1] * (cell[0] + BETWEEN)
                y = corner[1] + SEQUENCE + where[0] * (STEPS + cell[1] + BETWEEN) + STEPS
                steps = walk.get(where, [])
                of_cell = f"{sequence}/{where[0]},{where[1]}"
                _show_cell(axes, (x, y, *cell), pixels[steps[:3], sequence], steps, of_cell)
                _write_steps(axes, x, y - STEPS / 2, steps, num_given)
    return figure


def _visits(row: Array, column: Array) -> dict[tuple[int, int], list[int]]:
    """The steps in which each visited cell was visited; both ``(T,)``."""
    visits: dict[tuple[int, int], list[int]] = {}
    for step, where in enumerate(zip(row.tolist(), column.tolist(), strict=True)):
        visits.setdefault(where, []).append(step)
    return visits


def _show_cell(
    axes: Axes, place: tuple[float, float, float, float], shown: Array, steps: list[int], gid: str
) -> None:
    """The first visits ``(visits, H, W)`` of a cell; ``place``: left, top, width and height."""
    left, top, *size = place
    if not steps:
        axes.add_patch(Rectangle((left, top), *size, gid=f"unvisited/{gid}", **UNVISITED))
        return
    show_frame(axes, _overlay(shown), place, gid=f"visits/{gid}")
    if 0 in steps:
        axes.add_patch(Rectangle((left, top), *size, gid=f"start/{gid}", **START))


def _overlay(shown: Array) -> Array:
    """One to three images ``(visits, H, W)`` as the channels of one, ``(3, H, W)``."""
    channels = np.zeros((3, *shown.shape[1:]))
    channels[: len(shown)] = shown
    return channels


def _words(steps: list[int], num_given: int) -> list[tuple[str, str, str]]:
    """The texts above a cell, with their colours and weights."""
    words = [
        (f"{step}", colour, "bold" if step >= num_given else "normal")
        for step, colour in zip(steps, COLOURS_OF_STEPS, strict=False)
    ]
    return words + ([(f"+{len(steps) - 3}", GREY, "normal")] if len(steps) > 3 else [])


def _width_of(steps: list[int], num_given: int) -> float:
    return sum(
        text_width(text, NUMBER, weight) + WORD for text, _, weight in _words(steps, num_given)
    )


def _write_steps(axes: Axes, x: float, y: float, steps: list[int], num_given: int) -> None:
    for text, colour, weight in _words(steps, num_given):
        axes.text(x, y, text, fontsize=NUMBER, fontweight=weight, color=colour, va="center")
        x += text_width(text, NUMBER, weight) + WORD
