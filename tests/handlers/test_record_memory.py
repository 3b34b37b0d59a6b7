"""What is on the tape."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_gtm as gtm


def unroll(latents):
    for latent in latents:
        gtm.read()
        gtm.write(latent)


def test_records_what_the_pure_steps_do(memory_name, build_memory):
    memory, latents = build_memory(memory_name), torch.randn(4, 2, 3)
    with gtm.use_memory(memory), gtm.record_memory() as tape:
        gtm.read()  # a second read of a step is not a second step
        unroll(latents)

    state, written = memory.initial_state((2,)), torch.zeros(2, 3)
    assert tape.num_steps == 4
    assert tape.contexts.shape == (4, 2, memory.context_dim)
    for t, latent in enumerate(latents):
        state, context, details = memory.step(state, written)
        torch.testing.assert_close(tape.contexts[t], context)
        assert set(tape.names) == set(details)
        for name, value in details.items():
            torch.testing.assert_close(tape[name][t], value)
        written = latent
    assert tape.latents.equal(latents)


def test_names_and_shapes_of_the_introspective_memory(build_memory):
    with gtm.use_memory(build_memory("introspective")), gtm.record_memory() as tape:
        unroll(torch.randn(4, 2, 3))
    assert tape.names == ["read_weights", "read_gates", "log_shares"]
    assert tape["read_weights"].shape == (4, 2, 2, 3)  # T, B, heads, slots
    assert tape["read_gates"].shape == (4, 2, 2, 3)  # T, B, heads, latent_dim


def test_particles_come_after_time(memory_name, layout, make_model, make_frames):
    pair = make_model(memory_name, layout=layout)
    bound = Trace_ELBO(num_particles=6, vectorize_particles=True)
    with gtm.record_memory() as tape:
        bound.loss(pair.model(), pair.filtering_guide(), make_frames())
    assert tape.contexts.shape == (5, 6, 3, pair.memory.context_dim)
    assert all(tape[name].shape[:3] == (5, 6, 3) for name in tape.names)


def test_second_run_starts_the_tape_anew(build_memory):
    memory, first, second = build_memory("vrnn"), torch.randn(4, 2, 3), torch.randn(3, 5, 3)
    program = gtm.use_memory(memory)(unroll)
    with gtm.record_memory() as tape:
        program(first)
        program(second)
    assert tape.num_steps == 3
    assert tape.latents.equal(second)
    with tape:
        program(first)
    assert tape.latents.equal(first)


@pytest.mark.parametrize("detach", [True, False])
def test_detach(detach, build_memory):
    latents = torch.randn(3, 2, 3, requires_grad=True)
    with gtm.use_memory(build_memory("introspective")), gtm.record_memory(detach=detach) as tape:
        unroll(latents)
    for recorded in (tape.contexts, tape.latents, tape["read_gates"]):
        assert recorded.requires_grad is not detach
    if not detach:
        (gradient,) = torch.autograd.grad(tape.contexts.sum(), latents)
        assert gradient[0].any()


def test_watching_changes_nothing(memory_name, layout, make_model, make_frames):
    pair, frames, losses = make_model(memory_name, layout=layout), make_frames(), []
    for watched in (False, True):
        pyro.set_rng_seed(1)
        with gtm.record_memory() if watched else pyro.poutine.trace():
            losses.append(Trace_ELBO().loss(pair.model(), pair.filtering_guide(), frames))
    assert losses[0] == losses[1]


def test_unknown_detail_is_an_error(build_memory):
    with gtm.use_memory(build_memory("introspective")), gtm.record_memory() as tape:
        unroll(torch.randn(2, 2, 3))
    with pytest.raises(KeyError, match=r"'usage'.*read_weights, read_gates"):
        tape["usage"]


def test_empty_tape_is_an_error():
    with gtm.record_memory() as tape:
        pass
    assert (tape.num_steps, tape.names) == (0, [])
    with pytest.raises(RuntimeError, match="no contexts recorded"):
        _ = tape.contexts
    with pytest.raises(KeyError, match="there is none"):
        tape["read_weights"]


def test_loops_over_its_names(build_memory):
    with gtm.use_memory(build_memory("introspective")), gtm.record_memory() as tape:
        gtm.read()
    assert list(tape) == tape.names == ["read_weights", "read_gates", "log_shares"]
