"""Nothing of x_t or later reaches the context of step t."""

from __future__ import annotations

import pyro
import pytest
import torch

import pyro_gtm as gtm

STEPS = 6


@pytest.mark.parametrize("writes", ["latent", "latent+frame"])
@pytest.mark.parametrize("kind", ["filtering_guide", "ordinary_guide"])
@pytest.mark.parametrize("changed", [0, 3, STEPS - 1])
def test_a_frame_reaches_later_contexts_only(
    memory_name, layout, writes, kind, changed, make_model, make_frames
):
    pair = make_model(memory_name, layout=layout, writes=writes)
    frames = make_frames(STEPS)
    other = frames.clone()
    other[changed] = 1 - other[changed]

    contexts = []
    for given in (frames, other):
        pyro.set_rng_seed(4)
        with gtm.record_memory() as tape:
            getattr(pair, kind)()(given)
        contexts.append(tape.contexts)

    one, two = contexts
    assert one.shape[0] == STEPS
    assert one[: changed + 1].equal(two[: changed + 1])
    for t in range(changed + 1, STEPS):
        assert not one[t].equal(two[t]), f"frame {changed} does not reach the context of step {t}"


def test_a_control_reaches_its_own_step(memory_name, layout, make_model, make_frames):
    """Controls are known beforehand: c_t is in the context of step t, and in none before."""
    pair = make_model(memory_name, layout=layout, control_dim=2)
    frames, controls = make_frames(STEPS), torch.randn(STEPS, 3, 2)
    other = controls.clone()
    other[3] += 1

    contexts = []
    for given in (controls, other):
        pyro.set_rng_seed(4)
        with gtm.record_memory() as tape:
            pair.filtering_guide()(frames, given)
        contexts.append(tape.contexts)

    one, two = contexts
    assert one[:3].equal(two[:3])
    for t in range(3, STEPS):
        assert not one[t].equal(two[t])
