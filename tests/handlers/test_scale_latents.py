"""reconstruction + weight * KL, exactly."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.distributions import kl_divergence

import pyro_gtm as gtm

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(params=[Trace_ELBO, TraceMeanField_ELBO])
def bound(request):
    return request.param()


@pytest.fixture(params=["filtering_guide", "ordinary_guide"])
def kind(request):
    return request.param


def loss_of(pair, kind, bound, frames):
    pyro.set_rng_seed(3)
    return bound.differentiable_loss(pair.model(), getattr(pair, kind)(), frames)


def terms_of(pair, bound, frames):
    """KL (analytic or of the draw, as the bound has it) and reconstruction, in nats."""
    guide = pair.filtering_guide()
    pyro.set_rng_seed(3)
    guide(frames)
    model_trace, guide_trace = guide.get_traces()
    kl = reconstruction = 0.0
    for name, site in model_trace.nodes.items():
        if name.startswith("x"):
            reconstruction -= site["fn"].log_prob(site["value"]).sum().item()
        elif name.startswith("z"):
            q, p, z = guide_trace.nodes[name]["fn"], site["fn"], site["value"]
            analytic = isinstance(bound, TraceMeanField_ELBO)
            term = kl_divergence(q, p) if analytic else q.log_prob(z) - p.log_prob(z)
            kl += term.sum().item()
    return kl, reconstruction


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.0])
def test_scales_the_kl_alone(memory_name, bound, kind, layout, weight, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames()
    kl, reconstruction = terms_of(pair, bound, frames)
    assert abs(kl) > 0.1
    with gtm.handlers.scale_latents(weight):
        loss = loss_of(pair, kind, bound, frames)
    assert loss.item() == pytest.approx(reconstruction + weight * kl, rel=1e-11)


def test_weight_one_changes_nothing(memory_name, bound, kind, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames()
    plain = loss_of(pair, kind, bound, frames)
    with gtm.handlers.scale_latents(1.0):
        weighed = loss_of(pair, kind, bound, frames)
    assert weighed.item() == plain.item()
    gradients, others = pair.gradients(plain), pair.gradients(weighed)
    for name, gradient in gradients.items():
        assert gradient is others[name] is None or gradient.equal(others[name])


def test_scales_the_scale_of_a_subsampled_plate(layout, make_model, make_frames):
    """Weight and dataset_size multiply."""
    pair, frames = make_model("vrnn", layout=layout), make_frames(batch_size=2)
    kl, reconstruction = terms_of(pair, TraceMeanField_ELBO(), frames)
    pyro.set_rng_seed(3)
    with gtm.handlers.scale_latents(0.5):
        loss = TraceMeanField_ELBO().loss(
            pair.model(), pair.filtering_guide(), frames, dataset_size=10
        )
    assert loss == pytest.approx(5 * (reconstruction + 0.5 * kl), rel=1e-11)


def test_gradient_is_scaled_too(make_model, make_frames):
    pair, frames = make_model("vrnn"), make_frames()
    gradients = {}
    for weight in (0.0, 0.5, 1.0):
        with gtm.handlers.scale_latents(weight):
            loss = loss_of(pair, "filtering_guide", TraceMeanField_ELBO(), frames)
        gradients[weight] = pair.gradients(loss)["program.posterior_head.hidden.weight"]
    middle = (gradients[0.0] + gradients[1.0]) / 2
    torch.testing.assert_close(gradients[0.5], middle, rtol=1e-10, atol=1e-10)


def test_negative_weight_is_an_error():
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        gtm.handlers.scale_latents(-1)
