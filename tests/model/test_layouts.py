"""One joint distribution, written down in four ways: two site layouts, two kinds of guide."""

from __future__ import annotations

import itertools

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

pytestmark = pytest.mark.usefixtures("float64")

WAYS = list(itertools.product(["per_step", "stacked"], ["ordinary_guide", "filtering_guide"]))
REFERENCE, *OTHERS = WAYS


def _loss_and_gradients(pair, way, bound, frames, controls=None):
    layout, kind = way
    pair = pair.laid_out(layout)
    pyro.set_rng_seed(1)
    loss = bound.differentiable_loss(pair.model(), getattr(pair, kind)(), frames, controls)
    return loss, pair.gradients(loss)


def _check(pair, bound, frames, controls, assert_same_gradients):
    loss, gradients = _loss_and_gradients(pair, REFERENCE, bound, frames, controls)
    for way in OTHERS:
        other_loss, other = _loss_and_gradients(pair, way, bound, frames, controls)
        torch.testing.assert_close(other_loss, loss, rtol=1e-10, atol=0)
        assert_same_gradients(other, gradients)
    return gradients


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("decoder_input", ["latent+context", "latent"])
def test_same_loss_and_gradients(
    memory_name, bound, likelihood, decoder_input, make_model, make_frames, assert_same_gradients
):
    pair = make_model(memory_name, likelihood, decoder_input=decoder_input)
    frames = make_frames(likelihood=likelihood)
    gradients = _check(pair, bound(), frames, None, assert_same_gradients)
    # Every part is trained, so that no gradient agrees by being absent everywhere.
    parts = {name.split(".")[1] for name, value in gradients.items() if value is not None}
    assert {"encoder", "prior_head", "posterior_head", "decoder", "controller"} <= parts


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
def test_same_loss_and_gradients_when_the_memory_sees_the_frames(
    bound, make_model, make_frames, assert_same_gradients
):
    pair = make_model("vrnn", writes="latent+frame")
    _check(pair, bound(), make_frames(), None, assert_same_gradients)


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
def test_same_loss_and_gradients_with_a_direct_posterior(
    memory_name, bound, make_model, make_frames, assert_same_gradients
):
    pair = make_model(memory_name, posterior="direct")
    _check(pair, bound(), make_frames(), None, assert_same_gradients)


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
def test_same_loss_and_gradients_with_controls(
    memory_name, bound, make_model, make_frames, assert_same_gradients
):
    pair = make_model(memory_name, control_dim=2)
    _check(pair, bound(), make_frames(), torch.randn(5, 3, 2), assert_same_gradients)


@pytest.mark.parametrize("batch_size", [1, 3, 8])  # 8 x 3 numbers: torch fills from 16 otherwise
def test_same_seed_gives_same_noise(memory_name, batch_size, make_model, make_frames):
    """So a seed reproduces a run whatever the layout."""
    pair = make_model(memory_name)
    frames = make_frames(batch_size=batch_size)
    latents = []
    for layout, kind in WAYS:
        laid_out = pair.laid_out(layout)
        pyro.set_rng_seed(2)
        trace = poutine.trace(getattr(laid_out, kind)()).get_trace(frames)
        names = ["z"] if layout == "stacked" else [f"z_{t}" for t in range(5)]
        found = [trace.nodes[name]["value"] for name in names]
        latents.append(found[0] if layout == "stacked" else torch.stack(found, dim=1))
    for other in latents[1:]:
        torch.testing.assert_close(other, latents[0], rtol=1e-12, atol=1e-12)


def test_layouts_share_their_weights(make_model):
    program = make_model("vrnn", layout="stacked").program
    other = program.with_layout("per_step")
    assert (program.layout, other.layout) == ("stacked", "per_step")
    for one, two in zip(program.parameters(), other.parameters(), strict=True):
        assert one is two
