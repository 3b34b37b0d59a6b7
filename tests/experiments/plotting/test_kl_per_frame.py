"""The KL of each frame: lines, bands, the recall phase and the title."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import kl_per_frame
from pyro_gtm.experiments.plotting.style import ORACLE_LABEL

LAYOUTS = [(0, 1), (1, 0), (10, 5), (50, 5)]  # (list_length, recall_length)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kl_per_frame_draws_lines_bands_and_the_recall_phase(
    layout: tuple[int, int],
    recall_after: Callable[[int, int], np.ndarray],
    spans: Callable[[Axes], list[tuple[float, float]]],
    assert_reads_well: Callable[[Figure], None],
) -> None:
    predictable = recall_after(*layout)
    num_frames = len(predictable)
    noise = np.random.default_rng(0).random((2, num_frames))
    curves = {"introspective": 22.0 * ~predictable + noise[0], "vrnn": 20 + noise[1]}
    spread = {"vrnn": 1 + noise[0]}
    figure = kl_per_frame(curves, predictable, spread)
    (axes,) = figure.axes

    assert [line.get_label() for line in axes.lines] == list(curves)
    for line, curve in zip(axes.lines, curves.values(), strict=True):
        assert np.array_equal(line.get_xdata(), np.arange(num_frames))
        assert np.array_equal(line.get_ydata(), curve)
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    for t in range(num_frames):
        for sign in (-1, 1):
            assert (t, curves["vrnn"][t] + sign * spread["vrnn"][t]) in corners
    assert spans(axes) == ([(layout[0] - 0.5, num_frames - 0.5)] if layout[1] else [])
    assert any(text.get_text() == "recall phase" for text in axes.texts) == bool(layout[1])
    assert_reads_well(figure)


def test_kl_per_frame_title_gives_the_recall_means(
    recall_after: Callable[[int, int], np.ndarray],
) -> None:
    predictable = recall_after(2, 2)
    curves = {"dnc": np.array([9, 9, 1, 2.0]), "vrnn": np.full(4, 12.0)}
    title = kl_per_frame(curves, predictable).axes[0].get_title("left")
    assert title == "Recall KL: dnc 1.50 nats a frame, vrnn 12.0 nats"


def test_every_run_of_shares_is_marked_as_deep_as_it_is(
    spans: Callable[[Axes], list[tuple[float, float]]],
) -> None:
    share = np.array([0, 0.25, 0.25, 0, 1, 0.5])
    (axes,) = kl_per_frame({"dnc": np.ones(6)}, share).axes
    assert spans(axes) == [(0.5, 2.5), (3.5, 4.5), (4.5, 5.5)]
    assert [patch.get_alpha() for patch in axes.patches] == [0.25, 1, 0.5]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("level", [0.5, 40.0])
def test_the_oracle_kl_is_drawn_and_named(
    layout: tuple[int, int],
    level: float,
    recall_after: Callable[[int, int], np.ndarray],
    assert_reads_well: Callable[[Figure], None],
) -> None:
    predictable = recall_after(*layout)
    oracle_kl = np.where(predictable, 0.0, level)
    figure = kl_per_frame(
        {"dnc": np.full(len(predictable), 22.0)}, predictable, oracle_kl=oracle_kl
    )
    (axes,) = figure.axes
    curve, line = axes.lines
    assert line.get_gid() == "oracle_kl"
    assert line.get_linestyle() == "--"
    assert np.array_equal(line.get_ydata(), oracle_kl)
    assert line.zorder > curve.zorder, "a curve that reaches it hides it"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["dnc", ORACLE_LABEL]
    low, high = axes.get_ylim()
    assert low < oracle_kl.min() and oracle_kl.max() < high
    assert_reads_well(figure)


def test_one_curve_without_an_oracle_needs_no_legend() -> None:
    (axes,) = kl_per_frame({"dnc": np.ones(3)}, np.zeros(3)).axes
    assert axes.get_legend() is None
