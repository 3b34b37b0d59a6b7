"""The bounds that read nothing back, against Pyro's own."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli, Exponential, Gamma, LogNormal, Normal
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.util import validation_enabled

import pyro_gtm as gtm
from pyro_gtm.handlers import scale_latents
from pyro_gtm.infer.elbo import DeviceTrace_ELBO, DeviceTraceMeanField_ELBO

pytestmark = pytest.mark.usefixtures("float64")

PAIRS = [(DeviceTrace_ELBO, Trace_ELBO), (DeviceTraceMeanField_ELBO, TraceMeanField_ELBO)]
bounds = pytest.mark.parametrize("ours, pyros", PAIRS, ids=["trace", "mean-field"])


def parameters():
    return dict(pyro.get_param_store().named_parameters())


def loss_and_gradients(bound, model, guide, *args):
    """From ``loss_and_grads``, the losses of the other two methods beside it."""
    losses, gradients = [], []
    for method in ("loss_and_grads", "differentiable_loss", "loss"):
        pyro.set_rng_seed(1)
        loss = getattr(bound, method)(model, guide, *args)
        if method == "differentiable_loss":
            loss.backward()
            loss = loss.detach()
        losses.append(float(loss))
        if method != "loss":
            gradients.append({name: p.grad for name, p in parameters().items()})
        for parameter in parameters().values():
            parameter.grad = None
    return losses, gradients


def assert_equal_to_pyros(ours, pyros, model, guide, *args):
    losses, gradients = loss_and_gradients(ours, model, guide, *args)
    expected, expected_gradients = loss_and_gradients(pyros, model, guide, *args)
    assert losses == pytest.approx(expected, rel=1e-12)
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert any(value is not None for value in other.values())
        for name in other:
            torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=1e-12, msg=name)


@bounds
@pytest.mark.parametrize("weight", [None, 0.3])
def test_equal_to_pyros(memory_name, layout, ours, pyros, weight, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames()
    model, guide = pair.model(), pair.filtering_guide()
    if weight is None:
        assert_equal_to_pyros(ours(), pyros(), model, guide, frames)
    else:
        with scale_latents(weight):
            assert_equal_to_pyros(ours(), pyros(), model, guide, frames)


@bounds
def test_a_weight_may_be_a_tensor_that_changes(ours, pyros, make_model, make_frames):
    pair, frames = make_model("vrnn"), make_frames()
    model, guide = pair.model(), pair.filtering_guide()
    weight = torch.ones(())
    weighing = scale_latents(weight)
    for value in (0.3, 0.9):
        weight.fill_(value)
        with weighing:
            losses, gradients = loss_and_gradients(ours(), model, guide, frames)
        with scale_latents(value):
            expected, expected_gradients = loss_and_gradients(pyros(), model, guide, frames)
        assert losses == pytest.approx(expected, rel=1e-12)
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-12, atol=1e-12)


@bounds
@pytest.mark.parametrize("vectorize", [True, False])
def test_several_particles(ours, pyros, vectorize, make_model, make_frames):
    pair, frames = make_model("introspective"), make_frames()
    options = {"num_particles": 3, "vectorize_particles": vectorize, "max_plate_nesting": 2}
    assert_equal_to_pyros(
        ours(**options), pyros(**options), pair.model(), pair.ordinary_guide(), frames
    )


def test_sites_that_cannot_be_reparameterised():
    """Differentiated by their score, with other sites of their plate in the weight."""
    data = torch.tensor([0.2, -1.0, 3.0])

    def model():
        rate = pyro.sample("rate", Exponential(1.0))
        with pyro.plate("data", 3):
            on = pyro.sample("on", Bernoulli(torch.tensor(0.3)))
            pyro.sample("x", Normal(on * pyro.param("step", torch.tensor(2.0)), 1 + rate), obs=data)

    def guide():
        pyro.sample("rate", LogNormal(pyro.param("log_rate", torch.tensor(0.1)), 0.5))
        with pyro.plate("data", 3):
            pyro.sample("on", Bernoulli(logits=pyro.param("logits", torch.randn(3))))

    assert_equal_to_pyros(DeviceTrace_ELBO(), Trace_ELBO(), model, guide)


@bounds
def test_sites_without_a_closed_form_and_auxiliary_ones(ours, pyros):
    def model():
        scale = pyro.sample("scale", Gamma(2.0, 1.0))
        pyro.sample("x", Normal(0.0, scale), obs=torch.tensor(0.7))

    def guide():
        spread = pyro.param("spread", torch.tensor(0.2))
        noise = pyro.sample("noise", Normal(0.0, spread.exp()), infer={"is_auxiliary": True})
        pyro.sample("scale", LogNormal(pyro.param("location", torch.tensor(0.3)) + noise, 0.4))

    assert_equal_to_pyros(ours(), pyros(), model, guide)


@bounds
def test_masked_sites(ours, pyros):
    seen = torch.tensor([True, False, True])

    def model():
        with pyro.plate("data", 3), pyro.poutine.mask(mask=seen):
            z = pyro.sample("z", Normal(torch.zeros(3), 1.0))
            pyro.sample("x", Normal(z, 1.0), obs=torch.ones(3))

    def guide():
        with pyro.plate("data", 3), pyro.poutine.mask(mask=seen):
            pyro.sample("z", Normal(pyro.param("location", torch.randn(3)), 0.5))

    assert_equal_to_pyros(ours(), pyros(), model, guide)


@bounds
def test_nan_is_warned_of_under_validation_only(ours, pyros):
    def model():
        pyro.param("unused", torch.tensor(0.0))
        pyro.factor("bad", torch.tensor(math.nan))

    def guide():
        pass

    pyro.enable_validation(False)
    assert ours().loss_and_grads(model, guide).isnan()
    with validation_enabled(True), pytest.warns(UserWarning, match="Encountered NaN: loss"):
        ours().loss_and_grads(model, guide)


@bounds
def test_the_loss_is_a_tensor(ours, pyros, make_model, make_frames):
    """Without a gradient, but for the one that is to be differentiated."""
    pair, frames = make_model("vrnn"), make_frames()
    arguments = pair.model(), pair.filtering_guide(), frames
    for method in ("loss_and_grads", "differentiable_loss", "loss"):
        loss = getattr(ours(), method)(*arguments)
        assert isinstance(loss, torch.Tensor) and loss.shape == ()
        assert loss.requires_grad == (method == "differentiable_loss")


@bounds
def test_svi_gives_numbers(ours, pyros, make_model, make_frames):
    """As it does with Pyro's own."""
    pair, frames = make_model("vrnn"), make_frames()
    svi = SVI(pair.model(), pair.filtering_guide(), gtm.infer.FusedAdam(), ours())
    assert isinstance(svi.step(frames), float)
    assert isinstance(svi.evaluate_loss(frames), float)
