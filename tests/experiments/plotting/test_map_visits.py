"""A map: each cell an overlay of its first three visits, and beside it when these were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from pyro_gtm.experiments.plotting import map_visits

ByGid = Callable[[Figure, str], dict[str, Any]]


def walk(
    num_frames: int, batch: int, rows: int, columns: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A random walk over the cells of a map, which may stay where it is at the edge."""
    rng = np.random.default_rng(seed)
    moves = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])[rng.integers(4, size=(num_frames, batch))]
    places = np.empty((num_frames, batch, 2), int)
    places[0] = (rows - 1, 0)
    for t in range(1, num_frames):
        places[t] = np.clip(places[t - 1] + moves[t], 0, (rows - 1, columns - 1))
    return places[..., 0], places[..., 1]


@pytest.mark.parametrize(
    "num_frames, num_given, rows, columns, size",
    [(25, 10, 4, 4, (28, 28)), (1, 0, 1, 1, (4, 6)), (130, 130, 2, 9, (6, 4))],
)
def test_cells_hold_their_first_three_visits(
    num_frames: int,
    num_given: int,
    rows: int,
    columns: int,
    size: tuple[int, int],
    by_gid: ByGid,
    assert_reads_well: Callable[[Figure], None],
) -> None:
    row, column = walk(num_frames, 2, rows, columns)
    frames = np.random.default_rng(1).random((num_frames, 2, 1, *size))
    figure = map_visits(frames, row, column, num_given, size=(rows, columns))
    cells = by_gid(figure, r"visits/.*")
    unvisited = by_gid(figure, r"unvisited/.*")
    assert len(cells) + len(unvisited) == 2 * rows * columns
    for b in range(2):
        for r in range(rows):
            for c in range(columns):
                steps = [t for t in range(num_frames) if (row[t, b], column[t, b]) == (r, c)]
                if not steps:
                    assert unvisited[f"unvisited/{b}/{r},{c}"].get_hatch()
                    continue
                channels = np.moveaxis(cells[f"visits/{b}/{r},{c}"].get_array(), -1, 0)
                for visit, channel in enumerate(channels):
                    seen = frames[steps[visit], b, 0] if visit < len(steps) else np.zeros(size)
                    assert np.array_equal(channel, seen)
        assert list(by_gid(figure, rf"start/{b}/.*")) == [f"start/{b}/{rows - 1},0"]
    assert_reads_well(figure)


def test_cells_stand_as_in_the_map(by_gid: ByGid) -> None:
    row, column = walk(60, 1, 2, 3)
    figure = map_visits(np.zeros((60, 1, 1, 3, 6)), row, column, 60)
    extents = {gid[-3:]: cell.get_extent() for gid, cell in by_gid(figure, "visits/.*").items()}
    assert len(extents) == 6, "the walk is long enough to see them all"
    for gid, (x0, x1, y1, y0) in extents.items():
        r, c = map(int, gid.split(","))
        assert x0 == pytest.approx(extents[f"0,{c}"][0])
        assert y0 == pytest.approx(extents[f"{r},0"][3])
        assert (x1 - x0) / (y1 - y0) == pytest.approx(2)
        assert c == 0 or x0 > extents[f"{r},{c - 1}"][1]
        assert r == 0 or y0 > extents[f"{r - 1},{c}"][2], "y is downwards"


def test_what_is_the_same_is_yellow_and_white_and_a_ghost_is_not(by_gid: ByGid) -> None:
    """Cell 0 shows the same three times, cell 1 twice; cell 2 something else the second time."""
    column = np.array([0, 1, 0, 1, 2, 0, 2, 3])[:, None]
    frames = np.zeros((8, 1, 1, 1, 2))
    frames[..., 0] = 1.0
    frames[6] = frames[6, ..., ::-1]
    figure = map_visits(frames, np.zeros_like(column), column, 2)
    colours = {
        gid[-1]: np.asarray(cell.get_array())[0].tolist()
        for gid, cell in by_gid(figure, "visits/.*").items()
    }
    assert colours == {
        "0": [[1, 1, 1], [0, 0, 0]],
        "1": [[1, 1, 0], [0, 0, 0]],
        "2": [[1, 0, 0], [0, 1, 0]],
        "3": [[1, 0, 0], [0, 0, 0]],
    }


def test_the_steps_of_the_visits_are_said(assert_reads_well: Callable[[Figure], None]) -> None:
    column = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 2])[:, None]
    figure = map_visits(np.zeros((10, 1, 1, 5, 5)), np.zeros_like(column), column, 3)
    texts = [text for text in figure.findobj(Text) if text.get_text().strip("+").isdigit()]
    assert [text.get_text() for text in texts] == ["0", "2", "4", "+2", "1", "3", "5", "+1", "9"]
    generated = [text.get_text() for text in texts if text.get_fontweight() == "bold"]
    assert generated == ["4", "3", "5", "9"]
    strongest = [int(np.argmax(to_rgb(text.get_color()))) for text in texts]
    assert strongest[:3] == strongest[4:7] == [0, 1, 2], "red, green, blue"
    assert strongest[8] == 0
    assert any("3 frames given, 7 generated" in text.get_text() for text in figure.findobj(Text))
    assert_reads_well(figure)


def test_values_out_of_range_are_clipped_and_the_rest_is_not_shown(by_gid: ByGid) -> None:
    row, column = walk(5, 6, 2, 2)
    figure = map_visits(np.full((5, 6, 1, 2, 2), 3.0), row, column, 1, num_sequences=4)
    cells = by_gid(figure, "visits/.*")
    assert {gid.split("/")[1] for gid in cells} == {"0", "1", "2", "3"}
    assert all(np.asarray(cell.get_array()).max() == 1 for cell in cells.values())


@pytest.mark.parametrize("batch, size", [(7, (4, 4)), (2, (12, 12)), (3, (1, 30))])
def test_many_and_large_maps_fit(
    batch: int, size: tuple[int, int], by_gid: ByGid, assert_reads_well: Callable[[Figure], None]
) -> None:
    row, column = walk(3, batch, *size)
    frames = np.zeros((3, batch, 1, 2, 2), np.float32)
    figure = map_visits(frames, row, column, 1, num_sequences=batch, size=size)
    assert len(by_gid(figure, "(un)?visited/.*|visits/.*")) == batch * size[0] * size[1]
    assert_reads_well(figure)
