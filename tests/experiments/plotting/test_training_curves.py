"""Learning curves hold every row, on axes that show what matters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import training_curves


def rows(count: int, **extra: float) -> list[dict[str, float]]:
    """A bound that falls from hundreds of nats, and stays."""
    return [
        {"step": 10 * i, "negative_elbo_per_frame": 80 + 470 * 0.5**i, **extra}
        for i in range(1, count + 1)
    ]


def evaluations(count: int) -> list[dict[str, float]]:
    return [
        row | {"recall_kl": 22 * 0.7**i, "last_frame_kl": 21 * 0.6**i}
        for i, row in enumerate(rows(count))
    ]


@pytest.mark.parametrize("trained, held_out", [(1, 0), (0, 1), (7, 2), (300, 30)])
def test_training_curves_draws_every_row(
    trained: int, held_out: int, assert_reads_well: Callable[[Figure], None]
) -> None:
    metrics, evaluated = rows(trained), evaluations(held_out)
    figure = training_curves(metrics, evaluated)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    expected = {
        "training": (metrics, "negative_elbo_per_frame"),
        "held-out": (evaluated, "negative_elbo_per_frame"),
        "recall KL": (evaluated, "recall_kl"),
        "last frame": (evaluated, "last_frame_kl"),
    }
    expected = {label: source for label, source in expected.items() if source[0]}
    assert lines.keys() == expected.keys()
    for label, (source, key) in expected.items():
        assert lines[label].get_xdata().tolist() == [row["step"] for row in source]
        assert lines[label].get_ydata().tolist() == [row[key] for row in source]
    if min(trained, held_out) == 1:
        assert all(line.get_marker() != "None" for line in lines.values()), "a point is not seen"
    assert_reads_well(figure)


def test_kl_axis_is_logarithmic_where_that_helps() -> None:
    assert training_curves([], evaluations(2)).axes[1].get_yscale() == "linear"
    falls = training_curves([], evaluations(10)).axes[1]
    assert falls.get_yscale() == "log"
    low, high = falls.get_ylim()
    shown = [tick for tick in falls.get_yticks() if low <= tick <= high]
    assert 3 <= len(shown) <= 8
    assert falls.yaxis.get_major_formatter()(0.3) == "0.3"


def test_kl_of_zero_is_seen() -> None:
    """It has no logarithm."""
    evaluated = [*evaluations(10), evaluations(1)[0] | {"recall_kl": 0.0}]
    axes = training_curves([], evaluated).axes[1]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] < 0


def test_a_first_fall_is_left_out_and_that_is_said() -> None:
    axes = training_curves(rows(300), []).axes[0]
    assert axes.get_ylim()[1] < 90
    assert [text.get_text()[:22] for text in axes.texts] == ["↑ off scale until step"]


def test_a_small_or_short_fall_is_shown_whole() -> None:
    flat = [{"step": t, "negative_elbo_per_frame": 80 + 0.5 * (t == 0)} for t in range(30)]
    for metrics in (rows(3), flat):
        axes = training_curves(metrics, []).axes[0]
        assert axes.get_ylim()[1] > max(row["negative_elbo_per_frame"] for row in metrics)
        assert not axes.texts


def test_nothing_finite_is_still_a_figure(assert_reads_well: Callable[[Figure], None]) -> None:
    nan = float("nan")
    evaluated = [
        {"step": 1, "negative_elbo_per_frame": nan, "recall_kl": nan, "last_frame_kl": nan}
    ]
    assert_reads_well(training_curves(evaluated, evaluated))
