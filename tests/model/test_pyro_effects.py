"""What Pyro's own handlers and helpers do with a program that has a memory."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Importance, Predictive, Trace_ELBO

pytestmark = pytest.mark.usefixtures("float64")

T, B, Z = 5, 3, 3


def latents_for(layout, z):
    """Data for the latent sites: z is (*particles, T, B, Z)."""
    if layout == "stacked":
        return {"z": z.movedim(-3, -2)}
    return {f"z_{t}": z[..., t, :, :] for t in range(T)}


def log_joint(model, frames, **options):
    return poutine.trace(model).get_trace(frames, **options).log_prob_sum()


def test_conditioned_on_latents(memory_name, make_model, make_frames, assert_same_gradients):
    """Both layouts: the same log p(x, z), with the same gradients."""
    pair, frames, z = make_model(memory_name), make_frames(T, B), torch.randn(T, B, Z)
    results = []
    for layout in ("per_step", "stacked"):
        laid_out = pair.laid_out(layout)
        model = poutine.condition(laid_out.model(), data=latents_for(layout, z))
        value = log_joint(model, frames)
        results.append((value, pair.gradients(value)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-11, atol=0)
    assert_same_gradients(results[0][1], results[1][1])


def test_conditioned_on_particles(memory_name, make_model, make_frames):
    """A plate of particles around: each is what it would be alone, in both layouts."""
    pair, frames, z = make_model(memory_name), make_frames(T, B), torch.randn(4, T, B, Z)
    alone = sum(
        log_joint(poutine.condition(pair.model(), data=latents_for("stacked", z[k])), frames)
        for k in range(4)
    )
    for layout in ("stacked", "per_step"):
        model = poutine.condition(pair.laid_out(layout).model(), data=latents_for(layout, z))
        together = log_joint(pyro.plate("particles", 4, dim=-2)(model), frames)
        torch.testing.assert_close(together, alone, rtol=1e-11, atol=0)


def test_replayed(memory_name, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    trace = poutine.trace(pair.model()).get_trace(frames)
    again = poutine.trace(poutine.replay(pair.model(), trace=trace)).get_trace(frames)
    torch.testing.assert_close(trace.log_prob_sum(), again.log_prob_sum())
    for name in latents_for(layout, torch.zeros(T, B, Z)):
        assert trace.nodes[name]["value"] is again.nodes[name]["value"]


def test_guide_conditioned_on_latents(memory_name, layout, make_model, make_frames):
    """log q(z | x) of given latents, as importance sampling with another proposal needs it."""
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    drawn = poutine.trace(pair.ordinary_guide()).get_trace(frames)
    guide = poutine.replay(pair.ordinary_guide(), trace=drawn)
    torch.testing.assert_close(log_joint(guide, frames), drawn.log_prob_sum())


def test_one_latent_is_intervened_on(memory_name, make_model, make_frames):
    """Per step: frames after the intervention see it, those before do not."""
    pair = make_model(memory_name, layout="per_step")
    traces = []
    for data in ({}, {"z_2": torch.ones(B, Z)}):
        pyro.set_rng_seed(1)
        model = poutine.do(pair.model(), data=data)
        traces.append(poutine.trace(model).get_trace(num_steps=T, batch_size=B))
    one, two = ([trace.nodes[f"x_{t}"]["fn"].mean for t in range(T)] for trace in traces)
    assert one[0].equal(two[0]) and one[1].equal(two[1])
    assert not any(one[t].equal(two[t]) for t in range(2, T))


def test_a_frame_is_imputed(memory_name, make_model, make_frames):
    """Per step: a frame in the middle is left out and drawn, those around it are observed."""
    pair, frames = make_model(memory_name, layout="per_step"), make_frames(T, B)
    data = {f"x_{t}": frames[t] for t in range(T) if t != 2}
    model = poutine.condition(pair.model(), data=data)
    trace = poutine.trace(model).get_trace(num_steps=T, batch_size=B)
    assert [trace.nodes[f"x_{t}"]["is_observed"] for t in range(T)] == [1, 1, 0, 1, 1]
    trace.compute_log_prob()


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_from_the_prior(memory_name, layout, parallel, make_model):
    pair = make_model(memory_name, layout=layout)
    samples = Predictive(pair.model(), num_samples=4, parallel=parallel)(num_steps=T, batch_size=B)
    name, event = ("x", (B, T)) if layout == "stacked" else ("x_1", (B,))
    found = samples[name]
    assert found.shape == (4, *event, 1, 5, 5)
    assert not any(found[0].equal(other) for other in found[1:])


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_from_posterior_samples(memory_name, layout, parallel, make_model, make_frames):
    """The model follows the guide's draws, sample by sample."""
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    guide = poutine.block(pair.ordinary_guide(), hide_types=["param"])
    posterior = Predictive(guide, num_samples=4)(frames)
    posterior = {name: value for name, value in posterior.items() if name.startswith("z")}
    predictive = Predictive(
        pair.model(),
        posterior,
        parallel=parallel,
        return_sites=["x", *(f"x_{t}" for t in range(T))],
    )
    found = predictive(num_steps=T, batch_size=B)
    names = ["x"] if layout == "stacked" else [f"x_{t}" for t in range(T)]
    assert set(found) == set(names)
    assert all(found[name].shape[0] == 4 for name in names)


def test_predictive_with_a_filtering_guide(memory_name, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    predictive = Predictive(pair.model(), guide=pair.filtering_guide(), num_samples=3)
    samples = predictive(frames)
    names = ["x"] if layout == "stacked" else [f"x_{t}" for t in range(T)]
    for sample in range(3):
        found = [samples[name][sample] for name in names]
        found = found[0].movedim(1, 0) if layout == "stacked" else torch.stack(found)
        assert found.equal(frames)


@pytest.mark.thinned(2)
def test_importance_sampling(memory_name, make_model, make_frames):
    """Another of Pyro's inference algorithms; its evidence is above the bound."""
    pair, frames = make_model(memory_name, layout="per_step"), make_frames(3, 1)
    importance = Importance(pair.model(), pair.ordinary_guide(), num_samples=60).run(frames)
    bound = -Trace_ELBO(num_particles=60).loss(pair.model(), pair.ordinary_guide(), frames)
    assert importance.get_log_normalizer() > bound


def test_masked_frames_add_nothing(memory_name, layout, make_model, make_frames):
    """A mask around the program leaves the unmasked sequences as they were."""
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    mask, losses = torch.tensor([True, False, True]), []
    other = frames.clone()
    other[:, 1] = 1 - other[:, 1]
    for given in (frames, other):
        pyro.set_rng_seed(2)
        with poutine.mask(mask=mask):
            losses.append(Trace_ELBO().loss(pair.model(), pair.filtering_guide(), given))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
