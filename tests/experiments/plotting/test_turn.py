"""Frames of later turns stand under those of the first with the nearest heading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pyro_gtm.experiments.plotting import turn

ByGid = Callable[[Figure, str], dict[str, Any]]


def nearest_heading(num_frames: int, degrees: float) -> np.ndarray:
    """The step of the first turn with the nearest heading; -1 in that."""
    first = sum(degrees * t < 360 for t in range(num_frames))
    nearest = np.full(num_frames, -1)
    for t in range(first, num_frames):
        apart = [abs((degrees * (t - s) + 180) % 360 - 180) for s in range(first)]
        nearest[t] = int(np.argmin(apart))
    return nearest


def views(num_frames: int, batch: int = 1, size: tuple[int, int] = (4, 4)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((2, num_frames, batch, 3, *size)))


@pytest.mark.parametrize(
    "num_frames, degrees, num_given",
    [(30, 24.5, 15), (30, 24.5, 11), (45, 24.5, 20), (110, 8.2, 44), (10, 24.5, 4), (1, 24.5, 0)],
)
def test_every_frame_stands_under_its_heading(
    num_frames: int,
    degrees: float,
    num_given: int,
    by_gid: ByGid,
    assert_reads_well: Callable[[Figure], None],
) -> None:
    truth, generated = views(num_frames, 2 if num_frames <= 30 else 1)
    nearest = nearest_heading(num_frames, degrees)
    figure = turn(truth, generated, nearest, num_given)
    for b in range(truth.shape[1]):
        images = {int(gid.split("/")[2]): a for gid, a in by_gid(figure, rf"truth/{b}/.*").items()}
        assert sorted(images) == list(range(num_frames))
        for t, image in images.items():
            assert np.array_equal(image.get_array(), np.moveaxis(truth[t, b], 0, -1))
            if nearest[t] >= 0:
                x0, x1, _, y0 = image.get_extent()
                above = images[nearest[t]].get_extent()
                assert (x0 + x1) / 2 == pytest.approx((above[0] + above[1]) / 2)
                assert y0 > above[2]
        below = {
            int(gid.split("/")[2]): a for gid, a in by_gid(figure, rf"generated/{b}/\d+").items()
        }
        assert set(range(num_given, num_frames)) <= below.keys(), "what was generated is shown"
        for t, image in below.items():
            assert np.array_equal(image.get_array(), np.moveaxis(generated[t, b], 0, -1))
            assert image.get_extent()[:2] == images[t].get_extent()[:2]
            assert image.get_extent()[3] > images[t].get_extent()[2], "under what it should be"
            assert (image.get_alpha() < 1) == (t < num_given)
        extents = [image.get_extent() for image in (*images.values(), *below.values())]
        corners = {(round(extent[0], 6), round(extent[3], 6)) for extent in extents}
        assert len(corners) == len(extents), "none lies on another"
    assert_reads_well(figure)


def test_a_first_turn_as_given_needs_no_row_of_generated_frames(by_gid: ByGid) -> None:
    truth, generated = views(30)
    nearest = nearest_heading(30, 24.5)
    figure = turn(truth, generated, nearest, 15)
    assert list(by_gid(figure, r"generated/0/\d+")) == [f"generated/0/{t}" for t in range(15, 30)]
    assert list(by_gid(figure, r"generated/0/\d+-\d+")) == ["generated/0/15-29"]
    assert list(by_gid(figure, r"recall/0/.*")) == ["recall/0/15-29"]
    figure = turn(truth, generated, nearest, 30)
    assert not by_gid(figure, r"generated/.*")


@pytest.mark.parametrize("num_given", [0, 3])
def test_two_with_one_heading_stand_side_by_side_under_it(
    num_given: int, by_gid: ByGid, assert_reads_well: Callable[[Figure], None]
) -> None:
    nearest = np.array([-1, -1, -1, 0, 1, 1, 2, 1, 2])
    figure = turn(*views(9), nearest, num_given)
    middles, tops = {}, {}
    for gid, image in by_gid(figure, "truth/0/.*").items():
        x0, x1, _, top = image.get_extent()
        middles[int(gid[-1])], tops[int(gid[-1])] = (x0 + x1) / 2, top
    pitch = middles[5] - middles[4]
    assert pitch > 0 and tops[4] == tops[5]
    assert middles[1] == pytest.approx((middles[4] + middles[5]) / 2)
    assert middles[7] == pytest.approx(middles[1]), "one alone stands in the middle"
    assert [middles[t] for t in (0, 2)] == pytest.approx([middles[3], middles[6]])
    assert middles[2] - middles[0] == pytest.approx(3 * pitch)
    assert tops[0] < tops[3] < tops[7], "the third turn begins where the heading comes round"
    assert_reads_well(figure)


def test_outlines_lie_round_what_was_generated(by_gid: ByGid) -> None:
    nearest = np.array([-1] * 4 + [0, 1, 1, 3])
    figure = turn(*views(8), nearest, 5)
    marks = by_gid(figure, r"generated/0/\d+-\d+")
    frames = {int(gid[-1]): a.get_extent() for gid, a in by_gid(figure, r"generated/0/\d").items()}
    assert list(marks) == ["generated/0/5-6", "generated/0/7-7"], "the heading of 2 has none"
    for gid, (first, last) in zip(marks, ((5, 6), (7, 7)), strict=True):
        box = marks[gid].get_bbox()
        assert (box.x0, box.x1) == pytest.approx((frames[first][0], frames[last][1]))
        assert (box.y0, box.y1) == pytest.approx((frames[first][3], frames[first][2]))


def test_the_title_says_how_many_were_given(assert_reads_well: Callable[[Figure], None]) -> None:
    figure = turn(*views(30, batch=3, size=(2, 6)), nearest_heading(30, 24.5), 16)
    words = [text.get_text() for text in figure.findobj(Text)]
    assert any("16 frames given, 14 generated" in text for text in words)
    assert [text for text in words if text.startswith("seq")] == ["sequence 0", "sequence 1"]
    assert_reads_well(figure)
