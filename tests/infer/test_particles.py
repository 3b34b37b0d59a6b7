"""Particles in an extra plate: every leading dimension is free."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO

pytestmark = pytest.mark.usefixtures("float64")

K, T, B = 6, 4, 3


def log_weights(pair, layout, particles, frames):
    """log p(x, z_k) - log q(z_k | x), each particle alone and step by step: ``(K, B)``.

    Latents of the stacked layout are ``(K, B, T, Z)``.
    """
    pair = pair.laid_out("per_step")
    rows = []
    for k in range(K):
        stacked = particles["z"][k] if layout == "stacked" else None
        data = {
            f"z_{t}": particles[f"z_{t}"][k] if stacked is None else stacked[:, t] for t in range(T)
        }
        total = torch.zeros(B)
        for fn, sign in ((pair.model(), 1), (pair.ordinary_guide(), -1)):
            trace = poutine.trace(poutine.condition(fn, data=data)).get_trace(frames)
            trace.compute_log_prob()
            for name, site in trace.nodes.items():
                if name.startswith(("z", "x")):
                    total = total + sign * site["log_prob"]
        rows.append(total.detach())
    return torch.stack(rows)


def run(bound, pair, kind, frames):
    """The bound, and the latents of its vectorised particles by name."""
    kept = {}

    class Keep(poutine.messenger.Messenger):
        def _pyro_post_sample(self, msg):
            if msg["name"].startswith("z"):
                kept[msg["name"]] = msg["value"].detach()

    pyro.set_rng_seed(5)
    with Keep():
        loss = bound.loss(pair.model(), getattr(pair, kind)(), frames)
    return -loss, kept


@pytest.fixture(params=["filtering_guide", "ordinary_guide"])
def kind(request):
    return request.param


def test_vectorised_bound_is_the_mean_over_its_particles(
    memory_name, layout, kind, make_model, make_frames
):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    bound = Trace_ELBO(num_particles=K, vectorize_particles=True)
    value, particles = run(bound, pair, kind, frames)
    expected = log_weights(pair, layout, particles, frames).sum(-1).mean().item()
    assert value == pytest.approx(expected, rel=1e-10)


def test_iwae_equals_a_plain_loop(memory_name, layout, kind, make_model, make_frames):
    """The importance weight is that of a whole sequence; each sequence has its own mean."""
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    bound = RenyiELBO(alpha=0, num_particles=K, vectorize_particles=True)
    value, particles = run(bound, pair, kind, frames)
    weights = log_weights(pair, layout, particles, frames)
    expected = (weights.logsumexp(0) - math.log(K)).sum().item()
    assert value == pytest.approx(expected, rel=1e-10)


def test_iwae_is_tighter(memory_name, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    model, guide = pair.model(), pair.filtering_guide()
    many = {"num_particles": 2000, "vectorize_particles": True}
    elbo = -Trace_ELBO(**many).loss(model, guide, frames)
    iwae = -RenyiELBO(alpha=0, **many).loss(model, guide, frames)
    assert iwae > elbo + 1


@pytest.mark.parametrize("bound", [Trace_ELBO, TraceMeanField_ELBO])
def test_layouts_agree_for_many_particles(
    memory_name, bound, make_model, make_frames, assert_same_gradients
):
    pair, frames = make_model(memory_name), make_frames(T, B)
    results = []
    for layout in ("stacked", "per_step"):
        laid_out = pair.laid_out(layout)
        pyro.set_rng_seed(6)
        loss = bound(num_particles=K, vectorize_particles=True).differentiable_loss(
            laid_out.model(), laid_out.filtering_guide(), frames
        )
        results.append((loss, laid_out.gradients(loss)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-10, atol=0)
    assert_same_gradients(results[0][1], results[1][1])
