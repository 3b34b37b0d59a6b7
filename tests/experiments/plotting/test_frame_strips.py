"""Every frame is shown once, and marks lie round the frames they speak of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import frame_strips


def strips(
    num_frames: int, batch: int = 2, channels: int = 1, size: tuple[int, int] = (4, 4)
) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((3, num_frames, batch, channels, *size)))


@pytest.mark.parametrize("layout", [(0, 1), (1, 0), (50, 5)])
def test_frame_strips_shows_every_frame_once(
    layout: tuple[int, int],
    recall_after: Callable[[int, int], np.ndarray],
    assert_reads_well: Callable[[Figure], None],
) -> None:
    predictable = recall_after(*layout)
    num_frames, num_given = len(predictable), layout[0] // 2
    batch = 1 if num_frames > 30 else 2
    frames = strips(num_frames, batch)
    sources = dict(zip(("given", "reconstructed", "generated"), frames, strict=True))
    figure = frame_strips(*sources.values(), predictable, num_given)
    (axes,) = figure.axes
    images = {image.get_gid(): image for image in axes.images}
    assert len(images) == len(axes.images) == 3 * batch * num_frames
    for gid, image in images.items():
        row, sequence, t = gid.split("/")
        assert np.array_equal(image.get_array(), sources[row][int(t), int(sequence), 0])
        assert image.get_clim() == (0, 1)
        faded = row == "generated" and int(t) < num_given
        assert (image.get_alpha() < 1) == faded
    assert_reads_well(figure)


@pytest.mark.parametrize("layout", [(10, 5), (50, 5)])
def test_frame_strips_marks_lie_round_their_frames(
    layout: tuple[int, int],
    recall_after: Callable[[int, int], np.ndarray],
    by_gid: Callable[[Figure, str], dict[str, Any]],
) -> None:
    predictable = recall_after(*layout)
    num_frames, num_given = len(predictable), layout[0] - 2
    figure = frame_strips(*strips(num_frames, batch=1), predictable, num_given)
    images = {image.get_gid(): image for image in figure.axes[0].images}

    def frames_inside(patterns: str, row: str) -> list[int]:
        found = []
        for mark in by_gid(figure, patterns).values():
            box = mark.get_bbox().padded(1e-6)
            for t in range(num_frames):
                x0, x1, y1, y0 = images[f"{row}/0/{t}"].get_extent()
                if box.x0 <= x0 and x1 <= box.x1 and box.y0 <= y0 and y1 <= box.y1:
                    found.append(t)
        return found

    for row in ("given", "reconstructed", "generated"):
        assert frames_inside("recall/0/.*", row) == list(range(layout[0], num_frames))
    assert frames_inside(r"generated/0/\d+-\d+", "generated") == list(range(num_given, num_frames))
    assert frames_inside(r"generated/0/\d+-\d+", "given") == []
    for ground in by_gid(figure, "recall/.*").values():
        assert ground.zorder < min(image.zorder for image in images.values()), "it hides frames"

    def gap(t: int) -> float:
        return images[f"given/0/{t + 1}"].get_extent()[0] - images[f"given/0/{t}"].get_extent()[1]

    assert gap(layout[0] - 1) > 3 * gap(layout[0] - 2)


def test_frame_strips_in_colour_of_one_sequence(
    recall_after: Callable[[int, int], np.ndarray], assert_reads_well: Callable[[Figure], None]
) -> None:
    given, reconstructed, generated = strips(4, batch=1, channels=3, size=(3, 6))
    generated = 3 * generated - 1  # clipped, not refused
    figure = frame_strips(given, reconstructed, generated, recall_after(3, 1), 0)
    images = {image.get_gid(): image for image in figure.axes[0].images}
    assert np.array_equal(images["given/0/2"].get_array(), np.moveaxis(given[2, 0], 0, -1))
    clipped = np.moveaxis(generated[2, 0], 0, -1).clip(0, 1)
    assert np.array_equal(images["generated/0/2"].get_array(), clipped)
    x0, x1, y1, y0 = images["given/0/2"].get_extent()
    assert (x1 - x0) / (y1 - y0) == pytest.approx(2)
    assert_reads_well(figure)


def test_frame_strips_shows_no_more_sequences_than_asked_for(
    recall_after: Callable[[int, int], np.ndarray],
    by_gid: Callable[[Figure, str], dict[str, Any]],
) -> None:
    figure = frame_strips(*strips(3, batch=5), recall_after(2, 1), 3, num_sequences=2)
    assert {image.get_gid().split("/")[1] for image in figure.axes[0].images} == {"0", "1"}
    assert not by_gid(figure, r"generated/0/\d+-\d+")  # all were given


@pytest.mark.parametrize(
    "layout, note",
    [((0, 1), "9"), ((10, 5), "even→1"), ((20, 5), "one\nof two lines"), ((50, 5), "7→0")],
)
def test_every_note_stands_above_its_frame(
    layout: tuple[int, int],
    note: str,
    recall_after: Callable[[int, int], np.ndarray],
    by_gid: Callable[[Figure, str], dict[str, Any]],
    assert_reads_well: Callable[[Figure], None],
) -> None:
    predictable = recall_after(*layout)
    num_frames = len(predictable)
    notes = [[note if recalled else str(t % 10), ""] for t, recalled in enumerate(predictable)]
    figure = frame_strips(*strips(num_frames), predictable, layout[0], notes=notes)
    drawn = by_gid(figure, "note/.*")
    assert list(drawn) == [f"note/0/{t}" for t in range(num_frames)], "empty ones are not drawn"
    images = by_gid(figure, "given/0/.*")
    grounds = by_gid(figure, "recall/0/.*").values()
    assert_reads_well(figure)
    boxes = [ground.get_window_extent() for ground in grounds]
    for t, text in enumerate(drawn.values()):
        assert text.get_text() == notes[t][0]
        box = text.get_window_extent()
        frame = images[f"given/0/{t}"].get_window_extent()
        assert box.y0 >= frame.y1
        assert (box.x0 + box.x1) / 2 == pytest.approx((frame.x0 + frame.x1) / 2, abs=1)
        on_ground = [b for b in boxes if b.x0 <= box.x0 and box.x1 <= b.x1 and box.y1 <= b.y1]
        assert bool([b for b in on_ground if b.y0 <= box.y0]) == predictable[t]


def test_short_notes_take_no_width(recall_after: Callable[[int, int], np.ndarray]) -> None:
    frames, predictable = strips(25), recall_after(20, 5)
    plain = frame_strips(*frames, predictable, 20)
    noted = frame_strips(*frames, predictable, 20, notes=[["7", "0"]] * 25)
    assert noted.get_figwidth() == plain.get_figwidth()
    assert noted.get_figheight() > plain.get_figheight()


def test_each_sequence_may_have_a_recall_phase_of_its_own() -> None:
    frames = np.zeros((5, 2, 1, 3, 3))
    own = np.array([[0, 0], [0, 1], [1, 0], [0, 1], [1, 1]], dtype=bool)
    figure = frame_strips(frames, frames, frames, own, num_given=3)
    marked = {patch.get_gid() for patch in figure.axes[0].patches} - {None}
    recalled = {gid for gid in marked if gid.startswith("recall/")}
    assert recalled == {"recall/0/2-2", "recall/0/4-4", "recall/1/1-1", "recall/1/3-4"}
    with pytest.raises(ValueError, match=r"predictable: got shape \(5, 1\), must be \(5, 2\)"):
        frame_strips(frames, frames, frames, own[:, :1], num_given=3)
