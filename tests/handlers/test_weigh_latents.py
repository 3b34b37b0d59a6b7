"""reconstruction + beta * KL, exactly."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

import pyro_gtm as gtm

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(params=[Trace_ELBO, TraceMeanField_ELBO])
def bound(request):
    return request.param()


@pytest.fixture(params=["filtering_guide", "ordinary_guide"])
def loss_of(request, bound, layout, make_model, make_frames):
    """The loss under the same noise each time."""
    pair, frames = make_model("introspective", layout=layout), make_frames()

    def loss(weight=None, **options):
        pyro.set_rng_seed(3)
        model, guide = pair.model(), getattr(pair, request.param)()
        if weight is None:
            return bound.differentiable_loss(model, guide, frames, **options), pair
        with gtm.weigh_latents(weight):
            return bound.differentiable_loss(model, guide, frames, **options), pair

    return loss


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_scales_the_kl_alone(loss_of, bound, make_model, weight):
    whole, pair = loss_of()
    pyro.set_rng_seed(3)
    kl, reconstruction = _terms(pair, bound)
    assert kl + reconstruction == pytest.approx(whole.item(), rel=1e-11)
    weighed, _ = loss_of(weight)
    assert weighed.item() == pytest.approx(reconstruction + weight * kl, rel=1e-11)


def _terms(pair, bound):
    """KL and reconstruction in nats, from the two traces of one run."""
    torch.manual_seed(0)
    frames = _terms.frames
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
            if isinstance(bound, TraceMeanField_ELBO):
                kl += torch.distributions.kl_divergence(q, p).sum().item()
            else:
                kl += (q.log_prob(z) - p.log_prob(z)).sum().item()
    return kl, reconstruction


def test_weight_one_changes_nothing(loss_of):
    plain, pair = loss_of()
    weighed, _ = loss_of(1.0)
    assert weighed.item() == plain.item()
    for name, gradient in pair.gradients(weighed).items():
        assert gradient is None or gradient.equal(pair.gradients(plain)[name])


def test_negative_weight_is_an_error():
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        gtm.weigh_latents(-1)
