"""The guide that runs inside the model, where it differs from an ordinary one."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine

import pyro_gtm as gtm

T, B = 6, 3


@pytest.mark.parametrize("given", [1, 4])
@pytest.mark.parametrize("writes", ["latent", "latent+frame"])
def test_fewer_frames_are_kept_and_the_rest_drawn_from_the_prior(
    memory_name, writes, given, make_model, make_frames
):
    pair = make_model(memory_name, layout="per_step", writes=writes)
    frames, guide = make_frames(given), pair.filtering_guide()
    samples = guide(frames, num_steps=T)
    model_trace, guide_trace = guide.get_traces()
    for t in range(T):
        prior, used = model_trace.nodes[f"z_{t}"]["fn"], guide_trace.nodes[f"z_{t}"]["fn"]
        assert (used is prior) == (t >= given)
        assert model_trace.nodes[f"x_{t}"]["is_observed"] == (t < given)
        if t < given:
            assert samples[f"x_{t}"].equal(frames[t])
            assert not used.base_dist.loc.equal(prior.base_dist.loc)
        assert set(samples[f"x_{t}"].unique().tolist()) <= {0.0, 1.0}


def test_no_frames_is_the_prior(memory_name, layout, make_model):
    pair = make_model(memory_name, layout=layout)
    pyro.set_rng_seed(1)
    samples = pair.filtering_guide()(num_steps=T, batch_size=B)
    pyro.set_rng_seed(1)
    trace = poutine.trace(pair.model()).get_trace(num_steps=T, batch_size=B)
    for name in samples:
        torch.testing.assert_close(samples[name], trace.nodes[name]["value"])


def test_one_recurrence_for_both_traces(memory_name, layout, make_model, make_frames, monkeypatch):
    """The point of it: one step of the memory a time step, not one in each of two runs."""
    pair, steps = make_model(memory_name, layout=layout), []
    step = pair.memory.step
    monkeypatch.setattr(pair.memory, "step", lambda *args: steps.append(1) or step(*args))
    pyro.infer.TraceMeanField_ELBO(max_plate_nesting=2).loss(
        pair.model(), pair.filtering_guide(), make_frames(T)
    )
    assert len(steps) == T


def test_forgets_the_frames_after_an_exception(make_model, make_frames):
    pair = make_model("vrnn")
    guide = pair.filtering_guide()
    with pytest.raises(ValueError, match="num_steps"):
        guide(make_frames(T), num_steps=T - 1)
    samples = guide(num_steps=T, batch_size=1)
    assert samples["z"].shape == (1, T, 3)
    assert guide.get_traces()[1].nodes["z"]["fn"].terms is None


def test_works_inside_other_handlers(memory_name, layout, make_model, make_frames):
    """Recorded from outside, as in a figure of what a trained model does."""
    pair = make_model(memory_name, layout=layout)
    frames, guide = make_frames(T), pair.filtering_guide()
    with gtm.record_memory() as tape, gtm.lesion_memory(steps=[T - 1]):
        samples = guide(frames)
    latents = (
        samples["z"].movedim(1, 0)
        if layout == "stacked"
        else torch.stack([samples[f"z_{t}"] for t in range(T)])
    )
    assert tape.latents.equal(latents)
    heads, width = pair.memory.read_shape
    assert not tape.contexts[-1, ..., : heads * width].any()


def test_a_module_or_another_kind_of_guide_is_refused(make_model, make_frames):
    pair, frames = make_model("vrnn"), make_frames()
    with pytest.raises(TypeError, match=r"model of type GenerativeTemporalModel given"):
        gtm.FilteringGuide(pair.program)
    for function in (
        gtm.evaluate,
        lambda guide, frames: gtm.infer.importance_weighted_bound(guide, frames, num_particles=1),
    ):
        with pytest.raises(TypeError, match=r"guide of type \w+ given"):
            function(pair.ordinary_guide(), frames)
