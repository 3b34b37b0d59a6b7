"""A memory with slots: what is drawn is what was recorded, and the titles say where reads lead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import memory_over_time

Details = dict[str, np.ndarray]


def weights(num_frames: int, heads: int, slots: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(slots), size=(num_frames, heads))


def recorded(memory: str, num_frames: int, heads: int, slots: int) -> Details:
    """Of the names and shapes that the memories of the library record."""
    write_heads = heads if memory == "lru" else 1
    draw = np.random.default_rng(2).random
    details: Details = {
        "read_weights": weights(num_frames, heads, slots),
        "write_weights": weights(num_frames, write_heads, slots, 1),
        "memory": draw((num_frames, slots, 5)),
    }
    if memory == "ntm":
        details["content_gates"] = draw((num_frames, heads + 1))
        details["shifts"] = weights(num_frames, heads + 1, 3)
    if memory == "lru":
        details["usage"] = 7 * draw((num_frames, slots))
        details["write_gates"] = draw((num_frames, heads))
    if memory == "dnc":
        details["usage"] = draw((num_frames, slots))
        details["allocation_gates"] = draw((num_frames, 1))
        details["write_gates"] = draw((num_frames, 1))
        details["free_gates"] = draw((num_frames, heads))
        details["read_modes"] = weights(num_frames, heads, 3)
        details["link_sharpness"] = draw((num_frames, slots))
    return details


def maps(figure: Figure) -> list[np.ndarray]:
    """Those on the left, and then two for each head; rows first, as drawn."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title("left") for axes in figure.axes if axes.get_title("left")]


def finding(figure: Figure) -> str:
    return figure.get_suptitle()


@pytest.mark.parametrize(
    "memory, layout, heads, slots",
    [
        ("ntm", (10, 5), 3, 15),
        ("lru", (10, 5), 3, 15),
        ("dnc", (50, 5), 4, 64),
        ("dnc", (0, 1), 1, 1),
        ("lru", (4, 0), 2, 4),
        ("ntm", (3, 2), 5, 7),
    ],
)
def test_every_memory_reads_well(
    memory: str,
    layout: tuple[int, int],
    heads: int,
    slots: int,
    recall_after: Callable[[int, int], np.ndarray],
    spans: Callable[[Axes], list[tuple[float, float]]],
    assert_reads_well: Callable[[Figure], None],
) -> None:
    details = recorded(memory, sum(layout), heads, slots)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of a layout with no room
        figure = memory_over_time(details, recall_after(*layout))
        assert_reads_well(figure)

    drawn = maps(figure)
    on_the_left = 1 if memory == "ntm" else 2
    assert len(drawn) == on_the_left + 2 * heads
    assert np.allclose(drawn[0].T, 1 - (1 - details["write_weights"]).prod(1))
    if memory != "ntm":
        assert np.array_equal(drawn[1].T, details["usage"])
    for head in range(heads):
        assert np.array_equal(drawn[on_the_left + 2 * head].T, details["read_weights"][:, head])
        origins = drawn[on_the_left + 2 * head + 1]
        assert not np.tril(origins).T[np.triu_indices(sum(layout))].any(), "read before written"
    for axes in figure.axes[:-1]:  # the last is the colour bar
        assert spans(axes) == ([(layout[0] - 0.5, sum(layout) - 0.5)] if layout[1] else [])


def keys(figure: Figure) -> list[list[str]]:
    """The names in the keys of the panels of gates and shares, panel by panel."""
    legends = [axes.get_legend() for axes in figure.axes]
    return [[text.get_text() for text in legend.get_texts()] for legend in legends if legend]


def test_gates_stand_with_the_heads_they_belong_to(
    recall_after: Callable[[int, int], np.ndarray],
) -> None:
    predictable = recall_after(3, 2)
    content, shifts = ["content gate"], ["shift -1", "0", "+1"]
    assert keys(memory_over_time(recorded("ntm", 5, 2, 4), predictable)) == [content, shifts] * 3
    assert keys(memory_over_time(recorded("lru", 5, 2, 4), predictable)) == [["write gate"]] * 2
    assert keys(memory_over_time(recorded("dnc", 5, 2, 4), predictable)) == [
        ["allocation gate", "write gate", "new link"],
        *[["free gate"], ["backward", "content", "forward"]] * 2,
    ]
    writing = ["allocation gate", "write gate", "new link"]
    assert keys(memory_over_time(recorded("dnc", 5, 1, 4), predictable))[0] == writing

    details = recorded("ntm", 5, 2, 4)
    figure = memory_over_time(details, predictable)
    lines = [axes.lines[0].get_ydata() for axes in figure.axes if axes.lines]
    gates = details["content_gates"]
    assert np.array_equal(lines, [gates[:, 2], gates[:, 0], gates[:, 1]])  # the last head writes


def recalling(num_frames: int, lag: int, strength: float = 1.0) -> Details:
    """Each step writes a slot of its own; from frame ``lag`` on, head 2 reads at that lag.

    In step t the latent of frame t - 1 is written.
    """
    slot = np.random.default_rng(0).permutation(num_frames)
    read = np.full((num_frames, 2, num_frames), 1 / num_frames)
    write = np.zeros((num_frames, 1, num_frames))
    for t in range(num_frames):
        write[t, 0, slot[t]] = strength
        if t >= lag:
            read[t, 1] = np.eye(num_frames)[slot[t - lag + 1]]
    return {"read_weights": read, "write_weights": write}


@pytest.mark.parametrize("strength", [1.0, 0.2])
@pytest.mark.parametrize("lag", [1, 10])
def test_titles_say_which_frame_is_read(
    lag: int, strength: float, recall_after: Callable[[int, int], np.ndarray]
) -> None:
    """Whatever slots it is in, and however faintly it was written there."""
    figure = memory_over_time(recalling(15, lag, strength), recall_after(10, 5))
    expected = f"In recall, 1.00 of what the best head reads is the frame at lag {lag}"
    assert finding(figure) == expected
    writing, first, second = titles(figure)
    assert writing == f"writing: the top slot\ngets {strength:.2f} on average"
    assert first == "head 1: no fixed lag\nin recall, at most 0.08"  # 1 / 13, one more each frame
    assert second == f"head 2: lag {lag}\nin recall, share 1.00"
    origins = maps(figure)[-1]
    assert np.allclose(origins[:, 10:], np.eye(15)[:, 10 - lag : 15 - lag])


def test_a_read_is_divided_among_the_frames_a_slot_holds() -> None:
    """By hand: steps 1, 2 and 3 write the latents of frames 0, 1 and 2 to one slot of two."""
    write = np.zeros((4, 1, 2))
    write[1:, 0, 0] = 1, 0.25, 0.5
    read = np.tile([0.5, 0.5], (4, 1, 1))  # half of it from the empty slot
    figure = memory_over_time({"read_weights": read, "write_weights": write}, np.zeros(4))
    expected = [[0, 0, 0, 0], [1, 0, 0, 0], [0.75, 0.25, 0, 0], [0.375, 0.125, 0.5, 0]]
    assert np.allclose(maps(figure)[-1].T, expected)


def test_reading_what_was_never_written_reads_nothing(
    assert_reads_well: Callable[[Figure], None],
) -> None:
    details = recalling(6, 2)
    details["write_weights"][:] = 0
    figure = memory_over_time(details, np.arange(6) >= 3)
    assert not maps(figure)[-1].any()
    assert finding(figure).startswith("In recall, no head reads")
    assert titles(figure)[-1] == "head 2: reads nothing\nwritten, in recall"
    assert_reads_well(figure)


def test_what_first_was_written_comes_before_any_frame() -> None:
    details = {"read_weights": np.ones((3, 1, 1)), "write_weights": np.eye(3)[0].reshape(3, 1, 1)}
    assert not maps(memory_over_time(details, np.zeros(3)))[-1].any()


def test_titles_without_a_sharp_recall_phase() -> None:
    details = recalling(15, 4)
    assert finding(memory_over_time(details, np.zeros(15))).startswith("Throughout, 0.7")
    graded = memory_over_time(details, np.linspace(0, 0.9, 15))
    assert "where predictable" in titles(graded)[-1]


def test_a_memory_of_ones_own_gets_a_figure(assert_reads_well: Callable[[Figure], None]) -> None:
    """What is not known, or has a shape of its own, is left out; gates of any name are drawn."""
    draw = np.random.default_rng(0).random
    details: dict[str, Any] = {
        "read_weights": weights(6, 2, 5),
        "write_weights": weights(6, 2, 5),
        "attention_gates": draw((6, 2, 3)),
        "odd_gates": draw(6),
        "usage": draw((6, 5, 1)),
        "read_modes": draw((6, 2, 4)),
        "link_sharpness": draw((6, 5, 5)),
        "mood": draw((6, 2)),
        "temperature": np.float64(1.0),
    }
    figure = memory_over_time(details, np.arange(6) >= 4)
    assert len(maps(figure)) == 1 + 2 * 2
    assert keys(figure) == [["attention gate"]] * 2
    lines = [axes.lines[0].get_ydata() for axes in figure.axes if axes.lines]
    assert np.allclose(lines, details["attention_gates"].mean(-1).T)
    assert_reads_well(figure)
