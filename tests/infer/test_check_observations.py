"""Every batch is checked: a late one with impossible values stops training, by name."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import pyro_gtm as gtm
from pyro_gtm.infer import (
    CapturedSVI,
    DeviceTrace_ELBO,
    FusedAdam,
    InvalidFramesError,
    NotCapturedWarning,
    training_steps,
)
from pyro_gtm.infer.check_observations import check_observations

BAD = {
    "0 to 255": lambda frames: frames * 255,
    "shifted": lambda frames: frames - 0.5,
    "NaN": lambda frames: frames.masked_fill(frames == 1, torch.nan),
}


def draws(make_frames: Any, bad: Any, mask: Any = None) -> Any:
    """Three good batches, then bad ones."""
    count = 0

    def draw() -> tuple[Any, ...]:
        nonlocal count
        count += 1
        frames = make_frames() if count <= 3 else bad(make_frames())
        return (frames,) if mask is None else (frames, None, mask)

    return draw


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore:Encountered NaN:UserWarning")  # Pyro's own, on the way
@pytest.mark.parametrize("elbo", [Trace_ELBO, DeviceTrace_ELBO])
def test_a_later_batch_stops_training(kind, elbo, layout, make_model, make_frames):
    pair = make_model("introspective", layout=layout)
    svi = SVI(pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), elbo())
    taken = []
    with pytest.raises(InvalidFramesError, match=r"step 4: .*frames at time .*\{0, 1\}") as error:
        for step, _ in training_steps(svi, draws(make_frames, BAD[kind]), num_steps=9):
            taken.append(step)
            weights = {n: p.detach().clone() for n, p in pair.modules().named_parameters()}
    assert taken == [1, 2, 3]
    assert error.value.step == 4
    for name, parameter in pair.modules().named_parameters():
        assert torch.equal(parameter, weights[name]), "the bad batch has changed a weight"
        assert parameter.grad is None


@pytest.mark.parametrize("kind", BAD)
def test_in_blocks_too(kind, make_model, make_frames):
    """Steps whose results are read together: none after the bad one has changed a weight."""
    weights = []
    for bad in (BAD[kind], None):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        pair = make_model("introspective")
        svi = CapturedSVI(
            pair.model(),
            pair.filtering_guide(),
            FusedAdam(lr=0.01),
            DeviceTrace_ELBO(),
            device="cpu",
            read_every=8,
        )
        draw = draws(make_frames, bad or (lambda frames: frames))
        with pytest.warns(NotCapturedWarning):
            if bad is None:
                list(training_steps(svi, draw, num_steps=3))
            else:
                with pytest.raises(InvalidFramesError, match="step 4: frames hold values outside"):
                    list(training_steps(svi, draw, num_steps=9))
        weights.append([p.detach().clone() for p in pair.modules().parameters()])
    for one, other in zip(*weights, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("captured", [False, True])
def test_missing_frames_may_hold_anything(captured, make_model, make_frames):
    pair, mask = make_model("dnc"), torch.ones(5, 3, dtype=torch.bool)
    mask[2] = False
    bad = draws(make_frames, lambda f: f.masked_fill(~mask[..., None, None, None], torch.nan), mask)
    arguments = (pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), DeviceTrace_ELBO())
    if captured:
        svi: Any = CapturedSVI(*arguments, device="cpu", read_every=4)
        with pytest.warns(NotCapturedWarning):
            losses = [loss for _, loss in training_steps(svi, bad, num_steps=6)]
    else:
        losses = [loss for _, loss in training_steps(SVI(*arguments), bad, num_steps=6)]
    assert len(losses) == 6
    assert all(loss == loss for loss in losses)


def test_evaluation_without_validation_checks_too(make_model, make_frames):
    pair = make_model("vrnn")
    with pyro.validation_enabled(False):
        for use in (
            lambda: gtm.evaluate(pair.filtering_guide(), make_frames() * 255),
            lambda: gtm.infer.importance_weighted_bound(
                pair.filtering_guide(), make_frames() - 0.5, num_particles=2
            ),
        ):
            with pytest.raises(InvalidFramesError, match="outside the support"):
                use()


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.5, 1 - 6e-8, 1e-30, 3e38, math.inf, math.nan])
@pytest.mark.parametrize(
    "distribution",
    [
        dist.Bernoulli(logits=torch.zeros(2, 3, 4)).to_event(2),
        dist.Normal(torch.zeros(2, 3, 4), 1).to_event(2),
        dist.Exponential(torch.ones(2, 3, 4)).to_event(2),
        dist.Normal(torch.zeros(2, 3, 4), 1),
    ],
    ids=["binary", "real", "positive", "no event"],
)
def test_a_value_is_accepted_as_its_support_has_it(distribution, value):
    observed = torch.ones(2, 3, 4)
    observed[1, 2, 3] = value
    check = check_observations()
    with pyro.validation_enabled(False), check:
        pyro.sample("x", distribution, obs=observed)
    expected = distribution.support.check(observed).all() and observed.isfinite().all()
    assert check.valid is not None
    assert bool(check.valid) == bool(expected)
