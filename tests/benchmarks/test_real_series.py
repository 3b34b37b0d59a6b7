"""The classical contestants against closed forms, and the gaps that all are given."""

import numpy as np
import pytest
import torch

from pyro_gtm.series import Series
from real.classical import forward_fill, interpolate, iterative_impute, seasonal_naive
from real.sets import Task, make_waves
from real_series import classical, cut_gaps, deviations, imputation_error, ours


@pytest.fixture
def task():
    whole = Series.of(np.random.default_rng(0).standard_normal((3, 60, 2)).cumsum(1))
    small = {"window": 20, "num_steps": 2, "latent_dim": 2, "hidden_dim": 8}
    return Task(whole.steps(0, 40), whole, 40, 40, 5, 3, 4, small)


def test_the_seasonal_naive_forecast_repeats_with_a_spread_that_grows():
    past = np.arange(8.0).reshape(8, 1)
    drawn = seasonal_naive(past, 6, 4, 20_000, np.random.default_rng(0))
    assert drawn.mean(0)[:, 0] == pytest.approx([4, 5, 6, 7, 4, 5], abs=0.1)
    # Every value is 4 above that of a season ago, so that this is the rule's own error.
    assert drawn.std(0)[:, 0] == pytest.approx([4, 4, 4, 4, 4 * 2**0.5, 4 * 2**0.5], rel=0.03)


def test_a_vector_autoregression_forecasts_one():
    pytest.importorskip("statsmodels")
    from real.classical import var_forecast

    generator = np.random.default_rng(0)
    past = np.zeros((400, 2))
    for t in range(1, 400):
        past[t] = 0.9 * past[t - 1] + generator.standard_normal(2)
    drawn = var_forecast(past, 3, 20_000, generator, most_lags=3)
    assert drawn.mean(0)[0] == pytest.approx(0.9 * past[-1], abs=0.3)
    assert drawn.std(0)[2] == pytest.approx((1 + 0.9**2 + 0.9**4) ** 0.5, rel=0.12)


def test_gaps_are_filled_from_before_or_along_a_line():
    values = torch.tensor([1.0, torch.nan, torch.nan, 4.0]).reshape(4, 1, 1)
    assert forward_fill(values).flatten().tolist() == [1, 1, 1, 4]
    assert interpolate(values).flatten().tolist() == [1, 2, 3, 4]


def test_the_iterative_imputer_uses_the_other_channel():
    pytest.importorskip("sklearn")
    generator = np.random.default_rng(0)
    base = torch.tensor(generator.standard_normal((100, 1, 1)))
    values = torch.cat([base, 2 * base], dim=2)
    gaps = values.clone()
    gaps[40:50, 0, 1] = torch.nan
    filled = iterative_impute(values, gaps, lags=1)
    assert torch.allclose(filled, values, atol=0.05)


def test_gaps_are_the_same_for_all_and_lie_after_the_first_step(task):
    one, other = cut_gaps(task.judged, 20), cut_gaps(task.judged, 20)
    assert torch.equal(one.gaps, other.gaps)
    assert not one.gaps[:20].any() and one.gaps.any()
    error = imputation_error(task.judged.values + 2, one, task.judged, torch.tensor([1.0, 2.0]))
    assert 1 <= error <= 2


def test_contestants_are_judged_on_the_same_forecasts(task):
    naive = classical(task, "seasonal naive", 2, 50)
    model = ours(task, "vrnn", 0, None, 9)
    assert naive.keys() < model.keys()
    assert all(np.isfinite(list(model.values())))
    assert (deviations(task) > 0).all()


def test_waves_hold_out_their_end():
    task = make_waves()
    assert task.train.num_steps == task.first == 320 and task.judged.num_steps == 400
