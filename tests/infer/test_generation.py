"""Frames from a model: continued from the first few, or reconstructed."""

from __future__ import annotations

import pyro
import pytest
import torch

import pyro_gtm as gtm


@pytest.mark.parametrize("given", [1, 3])
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_given_frames_are_kept_bit_for_bit(
    memory_name, layout, given, sample, likelihood, make_model, make_frames
):
    pair = make_model(memory_name, likelihood, layout=layout)
    frames = make_frames(given, likelihood=likelihood)
    result = gtm.continue_frames(*pair, frames, num_steps=5, sample=sample)
    assert result.shape == (5, 3, 1, 5, 5)
    assert result[:given].equal(frames)
    assert not result.requires_grad
    if likelihood == "bernoulli":
        values = set(result[given:].unique().tolist())
        assert (values <= {0.0, 1.0}) == sample


def test_continuation_follows_from_what_was_given(memory_name, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames(3)
    results = []
    for given in (frames, frames, 1 - frames):
        pyro.set_rng_seed(1)
        results.append(gtm.continue_frames(*pair, given, num_steps=5))
    assert results[0].equal(results[1])
    assert not results[0][3:].equal(results[2][3:])


def test_with_controls_and_frames_in_memory(memory_name, make_model, make_frames):
    pair = make_model(memory_name, control_dim=2, writes="latent+frame")
    controls = torch.randn(5, 3, 2)
    result = gtm.continue_frames(*pair, make_frames(2), num_steps=5, controls=controls)
    assert result.shape == (5, 3, 1, 5, 5)
    assert gtm.reconstruct(*pair, make_frames(5), controls).shape == (5, 3, 1, 5, 5)


@pytest.mark.parametrize("given", [0, 5, 6])
def test_nothing_to_continue_is_an_error(given, make_model, make_frames):
    pair, frames = make_model("vrnn"), make_frames(6)[:given]
    with pytest.raises(
        ValueError, match=rf"frames must be from 1 to 4 for num_steps=5, got {given}$"
    ):
        gtm.continue_frames(*pair, frames, num_steps=5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_reconstruction_is_the_mean_under_the_posterior(
    memory_name, layout, likelihood, make_model, make_frames
):
    pair = make_model(memory_name, likelihood, layout=layout)
    frames = make_frames(likelihood=likelihood)
    pyro.set_rng_seed(1)
    result = gtm.reconstruct(*pair, frames)
    assert result.shape == frames.shape and not result.requires_grad

    guide = pair.laid_out("per_step").filtering_guide()
    pyro.set_rng_seed(1)
    guide(frames)
    nodes = guide.get_traces()[0].nodes
    expected = torch.stack([nodes[f"x_{t}"]["fn"].base_dist.mean for t in range(5)])
    torch.testing.assert_close(result, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("writes", ["latent", "mean", "latent+frame"])
def test_a_filled_gap_is_what_a_forecast_would_be(memory_name, writes, make_model, make_frames):
    """Frames that are missing at the end: drawn, written and gone on from as if none were given."""
    pair, frames = make_model(memory_name, writes=writes), make_frames(5)
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[2:] = False
    pyro.set_rng_seed(1)
    filled = gtm.continue_frames(*pair, frames, num_steps=7, mask=mask, sample=True, fill_gaps=True)
    pyro.set_rng_seed(1)
    # With nothing to fill, so that as many random numbers are drawn.
    forecast = gtm.continue_frames(*pair, frames[:2], num_steps=7, sample=True, fill_gaps=True)
    assert filled.equal(forecast)
    assert forecast[:2].equal(frames[:2])


def test_the_stacked_layout_fills_no_gaps(make_model, make_frames):
    program, memory = make_model("vrnn")
    with (
        pytest.raises(ValueError, match="fill_gaps=True given"),
        gtm.use_memory(memory),
    ):
        program.model(make_frames(2), fill_gaps=True)
