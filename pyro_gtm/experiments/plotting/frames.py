"""Frames as images, on a sheet that is measured in inches from its upper left corner."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from pyro_gtm.experiments.plotting.arrays import Array, ArrayLike, as_array
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import RECALL_FILL, STYLE, VERMILION

GAP, MARGIN = 0.03, 0.15
"""Between frames, and round the sheet."""
LABEL, NUMBER = 8.5, 7.5
"""Font sizes of the name of a row, and of the text above a frame."""

Key = tuple[str, dict[str, Any]]
"""The meaning of a mark, and its looks."""

RECALLED: Key = ("recall phase", {"facecolor": RECALL_FILL, "edgecolor": "none"})
GIVEN: Key = ("given, not generated", {"facecolor": "#C9C9C9", "edgecolor": "none"})
GENERATED_LOOK: dict[str, Any] = {"facecolor": "none", "edgecolor": VERMILION, "linewidth": 1.6}
GENERATED: Key = ("generated", GENERATED_LOOK)
SWATCH, KEY_HEIGHT = 0.22, 0.24


def shape_of(argument: str, frames: ArrayLike, channels: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of ``(T, B, C, H, W)``, C one of ``channels``."""
    shape = tuple(frames.shape)
    if len(shape) != 5 or 0 in shape or shape[2] not in channels:
        allowed = " or ".join(str(number) for number in channels)
        raise ValueError(
            f"{argument}: got shape {shape}, must be (T, B, C, H, W) with C = {allowed}"
        )
    return shape


def check_numbers(num_frames: int, num_given: int, num_sequences: int) -> None:
    if num_sequences < 1:
        raise ValueError(f"num_sequences: got {num_sequences}, must be a positive integer")
    if not 0 <= num_given <= num_frames:
        raise ValueError(f"num_given: got {num_given}, must be from 0 to T = {num_frames}")


def intensities(
    argument: str, frames: ArrayLike, shape: tuple[int, ...], num_sequences: int
) -> Array:
    """The first sequences of ``(T, B, C, H, W)``, as floats; copies no more than these."""
    if tuple(frames.shape) != shape:
        raise ValueError(f"{argument}: got shape {tuple(frames.shape)}, must be {shape}")
    pixels = as_array(frames[:, :num_sequences])
    if pixels.dtype.kind not in "fb":
        raise ValueError(f"{argument}: got {pixels.dtype}, must be floats in [0, 1] or bools")
    return pixels.astype(np.float32) if pixels.dtype.itemsize < 4 else pixels


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure, and axes that cover it: one unit an inch, y downwards."""
    figure = Picture(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure, axes


def show_frame(
    axes: Axes, frame: Array, place: tuple[float, float, float, float], **look: Any
) -> AxesImage:
    """A frame ``(C, H, W)`` of intensities, clipped to [0, 1]: black is 0.

    ``place``: left, top, width and height.
    """
    left, top, width, height = place
    pixels = frame[0] if len(frame) == 1 else np.clip(np.moveaxis(frame, 0, -1), 0, 1)
    return axes.imshow(
        pixels,
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(left, left + width, top + height, top),
        aspect="auto",
        interpolation="nearest",
        **look,
    )


@lru_cache(maxsize=1000)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches a text takes, which may have several lines."""
    font = FontProperties(family=STYLE["font.family"], size=size, weight=weight)
    lines = [line for line in text.splitlines() if line.strip()]
    # Hinting makes letters on the screen up to a twentieth wider than their outlines.
    return max(
        (1.05 * TextPath((0, 0), line, prop=font).get_extents().x1 / 72 for line in lines),
        default=0.0,
    )


def lines_of_key(keys: Sequence[Key], width: float) -> list[list[Key]]:
    """The key in as many lines as it needs within this width."""
    lines: list[list[Key]] = [[]]
    x = 0.0
    for key in keys:
        needed = SWATCH + 0.08 + text_width(key[0], LABEL)
        if lines[-1] and x + needed > width:
            lines.append([])
            x = 0.0
        lines[-1].append(key)
        x += needed + 0.25
    return lines


def draw_key(axes: Axes, lines: Sequence[Sequence[Key]], top: float) -> None:
    for number, keys in enumerate(lines):
        x, y = MARGIN, top + number * KEY_HEIGHT
        for label, look in keys:
            axes.add_patch(Rectangle((x, y + 0.04), SWATCH, 0.16, **look))
            axes.text(x + SWATCH + 0.08, y + KEY_HEIGHT / 2, label, fontsize=LABEL, va="center")
            x += SWATCH + 0.08 + text_width(label, LABEL) + 0.25
