"""Attention holds its weights and gates, and says where a head looks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import attention_over_time


def attention(num_frames: int, heads: int, slots: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(slots), size=(num_frames, heads))


@pytest.mark.parametrize(
    "layout, heads, slots",
    [((0, 1), 1, 4), ((1, 0), 1, 1), ((10, 5), 3, 6), ((50, 5), 2, 70)],
)
def test_attention_holds_weights_and_gates(
    layout: tuple[int, int],
    heads: int,
    slots: int,
    recall_after: Callable[[int, int], np.ndarray],
    spans: Callable[[Axes], list[tuple[float, float]]],
    assert_reads_well: Callable[[Figure], None],
) -> None:
    predictable = recall_after(*layout)
    num_frames = len(predictable)
    weights = attention(num_frames, heads, slots)
    gates = np.random.default_rng(1).random((num_frames, heads, 5))
    figure = attention_over_time(weights, predictable, gates)

    panels = [axes for axes in figure.axes if axes.get_title("left")]
    below = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == len(below) == heads
    assert len(figure.axes) == 2 * heads + 1  # and one colour bar
    shown = min(slots, num_frames)
    for head, (panel, gate) in enumerate(zip(panels, below, strict=True)):
        assert panel.get_title("left").startswith(f"head {head + 1}: ")
        (image,) = panel.images
        assert np.array_equal(image.get_array(), weights[:, head, :shown].T)
        assert image.origin == "lower"
        assert tuple(image.get_extent()) == (-0.5, num_frames - 0.5, 0.5, shown + 0.5)
        assert image.get_clim() == (0, 1)
        assert panel.get_yticks()[0] == 1
        assert panel.get_yticks()[-1] <= shown
        assert np.allclose(gate.lines[0].get_ydata(), gates[:, head].mean(-1))
        for axes in (panel, gate):
            assert spans(axes) == ([(layout[0] - 0.5, num_frames - 0.5)] if layout[1] else [])
    assert_reads_well(figure)


def test_attention_title_says_the_lag_of_a_head(
    recall_after: Callable[[int, int], np.ndarray],
) -> None:
    predictable = recall_after(10, 5)
    weights = np.full((15, 3, 12), 1 / 12)
    weights[predictable, 1] = np.eye(12)[9]  # lag 10
    weights[predictable, 2] = np.eye(12)[0]
    gates = np.full((15, 3, 2), 0.5)
    figure = attention_over_time(weights, predictable, gates)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert [title for title in titles if title] == [
        "head 1: no fixed lag in recall\nmean weight at most 0.08, gate 0.50",
        "head 2: lag 10 in recall\nmean weight 1.00, gate 0.50",
        "head 3: lag 1 in recall\nmean weight 1.00, gate 0.50",
    ]


@pytest.mark.parametrize("heads, share", [(1, np.zeros(9)), (4, np.linspace(0, 0.9, 9))])
def test_attention_without_gates_or_a_sharp_recall_phase(
    heads: int, share: np.ndarray, assert_reads_well: Callable[[Figure], None]
) -> None:
    figure = attention_over_time(attention(9, heads, 8), share)
    assert len(figure.axes) == heads + 1
    assert_reads_well(figure)
