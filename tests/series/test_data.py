"""Series from arrays: shapes, lengths, gaps, controls, splits, times."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_gtm import series
from pyro_gtm.series import Series
from pyro_gtm.series.clock import Spacing


def test_shapes_of_what_may_be_given():
    one = Series.of([1.0, 2.0, 3.0])
    assert one.values.shape == (3, 1, 1)
    table = Series.of(np.arange(8.0).reshape(4, 2))
    assert table.values.shape == (4, 1, 2)
    several = Series.of(np.zeros((5, 7, 2)))
    assert several.values.shape == (7, 5, 2)
    assert Series.of(torch.zeros(7, 5, 2), layout="time_first").values.shape == (7, 5, 2)
    images = Series.of(np.zeros((2, 7, 1, 4, 4)))
    assert images.event_shape == (1, 4, 4)


def test_ragged_series_end_where_they_end():
    data = Series.of([np.ones((4, 2)), np.ones((2, 2))])
    assert data.lengths.tolist() == [4, 2]
    assert data.values[2:, 1].isnan().all()
    assert not data.gaps.any(), "behind the end is no gap"
    assert Series.of([[1.0, 2.0], [3.0]]).lengths.tolist() == [2, 1]


def test_a_mask_makes_gaps_of_values_or_of_frames():
    values = np.arange(12.0).reshape(2, 3, 2)
    mask = np.ones((2, 3, 2), dtype=bool)
    mask[1, 2, 0] = False
    assert Series.of(values, mask=mask).gaps.nonzero().tolist() == [[2, 1, 0]]
    frames = np.ones((2, 3), dtype=bool)
    frames[0, 1] = False
    gaps = Series.of(values, mask=frames).gaps
    assert gaps.nonzero().tolist() == [[1, 0, 0], [1, 0, 1]]


def test_masks_of_one_series_and_of_ragged_ones():
    one = Series.of(np.zeros((1, 3, 2)), mask=np.array([[[True, False]] * 3]))
    assert one.gaps.sum() == 3
    ragged = Series.of(
        [np.zeros((3, 1)), np.zeros((2, 1))],
        mask=[np.array([True, False, True]), np.array([[True], [False]])],
    )
    assert ragged.gaps.nonzero().tolist() == [[1, 0, 0], [1, 1, 0]]


def test_splits_keep_every_value_once():
    values = np.arange(20.0).reshape(1, 10, 2).repeat(3, 0) + 100 * np.arange(3)[:, None, None]
    data = Series.of(values, lengths=[10, 8, 10])
    first, last = data.split_time(0.2)
    assert first.lengths.tolist() == [8, 6, 8] and last.lengths.tolist() == [2, 2, 2]
    assert last.values[0, 1].tolist() == values[1, 6].tolist()
    assert last.times[1].tolist() == [6.0, 7.0]
    some, others = data.split_series(0.34, seed=1)
    assert sorted(some.ids + others.ids) == sorted(data.ids) and others.num_series == 1


def test_times_go_on_as_they_were():
    days = np.datetime64("2026-01-30") + np.arange(3)
    assert [str(t) for t in Series.of([1.0, 2, 3], times=days).times_of(0, 2, 3)] == [
        "2026-02-01",
        "2026-02-02",
        "2026-02-03",
    ]
    months = np.array(["2026-01-01", "2026-02-01", "2026-03-01"], "datetime64[D]")
    ahead = Series.of([1.0, 2, 3], times=months).times_of(0, 3, 2)
    assert [str(t) for t in ahead] == ["2026-04-01", "2026-05-01"]
    one = replace(Series.of([1.0], times=days[:1]), known_spacing=Spacing("h", 6))
    assert [str(t)[:13] for t in one.times_of(0, 1, 2)] == ["2026-01-30T06", "2026-01-30T12"]
    ends = np.array(["2026-01-31"], "datetime64[s]")
    one = replace(Series.of([1.0], times=ends), known_spacing=Spacing("months", 1, True))
    assert [str(t)[:10] for t in one.times_of(0, 1, 2)] == ["2026-02-28", "2026-03-31"]
    for day, from_end, expected in (
        ("2026-01-15T08", True, ["2026-02-15T08", "2026-03-15T08"]),
        ("2026-01-31T00", False, ["2026-02-28T00", "2026-03-31T00"]),
        ("2026-02-28T00", True, ["2026-03-31T00", "2026-04-30T00"]),
    ):
        one = Series.of([1.0], times=np.array([day], "datetime64[s]"))
        one = replace(one, known_spacing=Spacing("months", 1, from_end))
        assert [str(t)[:13] for t in one.times_of(0, 1, 2)] == expected
    assert Series.of([1.0, 2], times=[0.5, 1.0]).times_of(0, 2, 2).tolist() == [1.5, 2.0]


def test_controls_may_reach_beyond_the_values():
    data = Series.of(np.zeros((2, 4, 1)), controls=np.ones((2, 6, 3)))
    assert data.controls.shape == (6, 2, 3)
    assert data.steps(2, 4).controls.shape == (4, 2, 3)


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ("abc", {}, "values must be numbers"),
        (5.0, {}, "a single number"),
        (np.zeros((0, 3)), {}, "nothing in it"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], {}, "different shapes"),
        (np.zeros(3, complex), {}, "real numbers"),
        ([1.0, np.inf], {}, "infinity"),
        (np.zeros((2, 3, 1)), {"lengths": [3, 4]}, "lengths must lie from 1 to the 3"),
        (np.zeros((2, 3, 1)), {"lengths": [3.0, 2.0]}, "lengths must be integers"),
        (np.zeros((2, 3, 1)), {"mask": np.ones((2, 3))}, "mask must be bool"),
        (np.zeros((2, 3, 1)), {"mask": np.ones((2, 4), bool)}, "mask must have one entry"),
        (np.zeros((2, 3, 1)), {"mask": np.ones((3, 2), bool)}, "mask must have one entry"),
        (np.zeros((5, 2)), {"mask": np.ones((2, 5), bool)}, "mask must have one entry"),
        ([np.zeros(3), np.zeros(2)], {"mask": np.ones((2, 3), bool)}, "mask must be a list of 2"),
        (np.zeros((2, 3, 1)), {"controls": np.zeros((2, 2, 1))}, "at least 3 steps"),
        (np.zeros((2, 3, 1)), {"controls": np.full((2, 3, 1), np.nan)}, "controls must be finite"),
        (np.zeros((2, 3, 1)), {"ids": ["a", "a"]}, "ids must be 2 different names"),
        (np.zeros((3, 2)), {"channels": ["a"]}, "channels must be 2"),
        (np.zeros(3), {"times": [0, 2, 1]}, "times must grow"),
        (np.zeros(3), {"times": ["a", "b", "c"]}, "times must be numbers"),
        (np.zeros(3), {"layout": "batch_first"}, "layout must be one of"),
    ],
)
def test_what_is_refused(values, options, words):
    with pytest.raises(ValueError, match=words):
        Series.of(values, **options)


def test_scaling_is_undone_exactly_and_ignores_gaps(float64):
    values = np.random.default_rng(0).standard_normal((3, 9, 2)) * [5.0, 0.01] + [100, -1]
    values[0, 3, 0] = np.nan
    data = Series.of(values)
    scaling = series.Scaling.fit(data)
    assert scaling.location == pytest.approx(np.nanmean(values, (0, 1)))
    assert scaling.scale == pytest.approx(np.nanstd(values, (0, 1)))
    scaled = scaling.apply(data.values)
    back = scaling.undo(scaled)
    assert torch.allclose(back, data.values, atol=1e-12, equal_nan=True)
    constant = series.Scaling.fit(Series.of(np.full((1, 4, 1), 7.7)))
    assert constant.scale == (1.0,)
    with pytest.raises(ValueError, match="no value of b is there in the training part"):
        series.Scaling.fit(Series.of(np.array([[1.0, np.nan]] * 3), channels=["a", "b"]))
