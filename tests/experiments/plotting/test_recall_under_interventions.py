"""Curves lie above the frames they speak of, and the title compares the first with the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyro_gtm.experiments.plotting import recall_under_interventions

NAMES = ("intact", "no writes from 5 on", "reads zeroed", "swapped")


@pytest.mark.parametrize("layout, channels", [((0, 1), 1), ((10, 5), 3), ((50, 5), 1)])
def test_every_curve_and_frame_is_drawn(
    layout: tuple[int, int],
    channels: int,
    recall_after: Callable[[int, int], np.ndarray],
    spans: Callable[[Axes], list[tuple[float, float]]],
    assert_reads_well: Callable[[Figure], None],
) -> None:
    predictable = recall_after(*layout)
    num_frames, (given, _) = len(predictable), layout
    draw = np.random.default_rng(0).random
    curves = {name: 200 * draw(num_frames) for name in NAMES}
    rows = {name: draw((num_frames, channels, 4, 3)) for name in ("A", "B", *NAMES)}
    figure = recall_under_interventions(curves, rows, predictable, dict.fromkeys(NAMES, given))

    above, below = figure.axes
    for line, (name, curve) in zip(above.lines, curves.items(), strict=True):
        assert str(line.get_label()).startswith(name)
        assert np.array_equal(line.get_ydata(), curve)
    assert len(below.images) == len(rows) * num_frames
    for image in below.images:
        label, t = str(image.get_gid()).split("/")
        pixels = np.moveaxis(rows[label][int(t)], 0, -1).squeeze(-1 if channels == 1 else ())
        assert np.allclose(image.get_array(), pixels)
        left, right, _, _ = image.get_extent()
        assert (left + right) / 2 == pytest.approx(int(t)), "it is not below its KL"
        assert (image.get_alpha() < 1) == (label in NAMES and int(t) < given)
        ground = [patch for patch in below.patches if (patch.get_gid() or "").startswith("recall")]
        assert all(patch.get_zorder() < image.get_zorder() for patch in ground), "it hides frames"
    outlines = [patch for patch in below.patches if patch.get_facecolor()[3] == 0]
    assert len(outlines) == len(NAMES)
    for outline in outlines:
        assert isinstance(outline, Rectangle)
        assert given - 0.5 < outline.get_x() < given
    for axes in (above, below):
        assert spans(axes) == [(given - 0.5, num_frames - 0.5)]
        assert axes.get_xlim() == (-0.5, num_frames - 0.5)
    assert_reads_well(figure)


ROWS = {"A": np.zeros((4, 1, 2, 2))}


def test_title_compares_the_first_with_the_others() -> None:
    predictable = np.arange(4) >= 2
    curves = {"intact": [9, 9, 0.5, 1.5], "cut": [9, 9, 11, 13], "swapped": [9, 9, 90, 70]}
    arrays = {name: np.array(curve, dtype=float) for name, curve in curves.items()}
    figure = recall_under_interventions(arrays, ROWS, predictable)
    axes = figure.axes[0]
    title = "Recall KL: intact 1.00 nats a frame, else at least 12.0 nats"
    assert axes.get_title("left") == title
    assert [line.get_label() for line in axes.lines] == [
        "intact: 1.00 nats in recall",
        "cut: 12.0 nats in recall",
        "swapped: 80.0 nats in recall",
    ]
    assert axes.get_yscale() == "log"

    (axes, _) = recall_under_interventions({"vrnn": np.arange(4.0)}, ROWS, predictable).axes
    assert axes.get_title("left") == "Recall KL: vrnn 2.50 nats a frame"
    assert axes.get_yscale() == "linear", "0 has no logarithm"
    (axes, _) = recall_under_interventions(arrays, ROWS, np.linspace(0, 0.9, 4)).axes
    assert axes.get_title("left") == "KL of each frame"
    assert [line.get_label() for line in axes.lines] == list(arrays)
