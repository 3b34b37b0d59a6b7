"""The course of the learning rate, and that the training loop follows it."""

from __future__ import annotations

import math

import pyro
import pytest
from pyro.infer import SVI, Trace_ELBO

from pyro_gtm.infer import FusedAdam, LearningRate, training_steps

IMPOSSIBLE = [
    ("peak", 0.0, "a positive number"),
    ("peak", math.nan, "a positive number"),
    ("num_steps", 0, "a positive integer"),
    ("warmup", -1, "a non-negative integer"),
    ("schedule", "linear", "one of constant, cosine"),
]


@pytest.mark.parametrize("step", [1, 2, 50, 1000])
def test_constant_is_the_very_number(step):
    rate = LearningRate(2e-3, num_steps=50)
    assert rate(step) == 2e-3
    assert not rate.varies


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warm_up_grows_linearly_to_the_peak(schedule):
    rate = LearningRate(0.4, num_steps=10, warmup=4, schedule=schedule)
    assert [rate(step) for step in range(1, 5)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rate.varies


def test_after_a_warm_up_constant_stays():
    rate = LearningRate(0.4, num_steps=10, warmup=4)
    assert [rate(step) for step in (5, 10, 11)] == [0.4, 0.4, 0.4]


def test_cosine_falls_to_a_hundredth_at_the_last_step():
    """Half-way it is half-way, and it stays at its end."""
    rate = LearningRate(1.0, num_steps=12, warmup=2, schedule="cosine")
    course = [rate(step) for step in range(2, 13)]
    assert course == sorted(course, reverse=True)
    assert (course[0], course[-1]) == (1.0, pytest.approx(0.01))
    assert rate(7) == pytest.approx((1.0 + 0.01) / 2)
    quarter = LearningRate(1.0, num_steps=4, schedule="cosine")(1)
    assert quarter == pytest.approx(0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2)
    assert rate(13) == rate(99) == rate(12)


def test_a_warm_up_longer_than_the_run_is_cut_off():
    rate = LearningRate(1.0, num_steps=5, warmup=10, schedule="cosine")
    assert [rate(step) for step in range(1, 6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(("name", "value", "allowed"), IMPOSSIBLE)
def test_impossible_values_are_named(name, value, allowed):
    with pytest.raises(ValueError, match=f"{name} must be {allowed}"):
        LearningRate(**{"peak": 0.1, "num_steps": 5, name: value})


def test_each_step_is_taken_at_its_rate(make_model, make_frames):
    """The first step of Adam moves each weight by the learning rate, whatever its gradient."""
    pair, frames, moved = make_model("vrnn"), make_frames(), []
    optimizer = FusedAdam(lr=1.0, eps=1e-30)
    svi = SVI(pair.model(), pair.filtering_guide(), optimizer, Trace_ELBO())
    weight = pair.program.prior_head.hidden.weight
    before = weight.detach().clone()
    steps = training_steps(
        svi, lambda: (frames,), num_steps=5, start=3, learning_rate=lambda step: step / 1000
    )
    for step, _ in steps:
        assert optimizer.lr == step / 1000
        moved.append((weight.detach() - before).abs().max().item())
        before = weight.detach().clone()
    assert moved[0] == pytest.approx(0.004, rel=1e-3)
    assert len(moved) == 2


def test_without_a_schedule_the_optimisers_own_stays(make_model, make_frames):
    pair, frames = make_model("vrnn"), make_frames()
    optimizer = FusedAdam(lr=0.02)
    svi = SVI(pair.model(), pair.filtering_guide(), optimizer, Trace_ELBO())
    list(training_steps(svi, lambda: (frames,), num_steps=2))
    assert optimizer.lr == 0.02


def test_another_optimiser_is_refused():
    """It would train at its own rate, and nobody would know."""
    svi = SVI(lambda: None, lambda: None, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    with pytest.raises(TypeError, match=r"learning_rate needs .*FusedAdam, got PyroOptim"):
        next(training_steps(svi, lambda: (None, None), num_steps=1, learning_rate=lambda step: 1.0))
