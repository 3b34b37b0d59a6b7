"""What the tests of every figure look for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text


@pytest.fixture
def recall_after() -> Callable[[int, int], np.ndarray]:
    """Which frames are recalled, by list length and recall length."""

    def share(list_length: int, recall_length: int) -> np.ndarray:
        return np.arange(list_length + recall_length) >= list_length

    return share


@pytest.fixture
def spans() -> Callable[[Axes], list[tuple[float, float]]]:
    """From where to where the recall phase is marked, in frames."""

    def find(axes: Axes) -> list[tuple[float, float]]:
        marks = [patch for patch in axes.patches if (patch.get_gid() or "").startswith("recall/")]
        assert all(isinstance(mark, Rectangle) for mark in marks)
        return [(mark.get_x(), mark.get_x() + mark.get_width()) for mark in marks]

    return find


@pytest.fixture
def by_gid() -> Callable[[Figure, str], dict[str, Any]]:
    """The artists whose gid matches, by their gids, in the order they were drawn."""

    def find(figure: Figure, pattern: str) -> dict[str, Any]:
        artists = figure.findobj(lambda artist: re.fullmatch(pattern, artist.get_gid() or ""))
        found = {str(artist.get_gid()): artist for artist in artists}
        assert len(found) == len(artists), "two artists have one gid"
        return found

    return find


@pytest.fixture
def assert_reads_well() -> Callable[[Figure], None]:
    """Lays the figure out: no two texts lie on each other, and none leaves the figure."""

    def check(figure: Figure) -> None:
        figure.draw_without_rendering()
        ticks = {
            label
            for axes in figure.axes
            for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
        }
        texts = [
            text
            for text in figure.findobj(Text)
            if text not in ticks and text.get_visible() and text.get_text().strip()
        ]
        texts = [text for text in texts if text.get_window_extent().width > 1]
        boxes = [text.get_window_extent().padded(-1) for text in texts]
        width, height = figure.bbox.size
        for text, box in zip(texts, boxes, strict=True):
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{text.get_text()!r} leaves the figure"
        for (one, box), (other, other_box) in itertools.combinations(
            zip(texts, boxes, strict=True), 2
        ):
            assert not box.overlaps(other_box), f"{one.get_text()!r} lies on {other.get_text()!r}"

    return check
