"""The two effects, as a user's own program meets them."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal

import pyro_gtm as gtm

B = 3


def two_steps(batch_size=B):
    """A program that uses nothing but the two effects; gives its contexts."""
    with pyro.plate("sequences", batch_size):
        first = gtm.read()
        gtm.write(pyro.sample("z", Normal(torch.zeros(3), 1).to_event(1)))
        return first, gtm.read()


@pytest.mark.parametrize("effect", [gtm.read, lambda: gtm.write(torch.zeros(3))])
@pytest.mark.parametrize("around", ["nothing", "trace", "block"])
def test_no_memory_is_an_error(effect, around, build_memory):
    if around == "trace":
        effect = poutine.trace(effect)
    if around == "block":  # hides the memory outside it, as it hides sample sites
        effect = gtm.use_memory(build_memory("vrnn"))(poutine.block()(effect))
    with pytest.raises(gtm.NoMemoryError, match="no memory handler is active"):
        effect()


def test_reading_twice_changes_nothing(memory_name, build_memory):
    """A guide may read too: the controller moves once a step."""
    memory = build_memory(memory_name)
    latents = torch.randn(4, B, 3)
    contexts = []
    for times in (1, 3):
        with gtm.use_memory(memory):
            found = []
            for latent in latents:
                reads = [gtm.read() for _ in range(times)]
                assert all(read is reads[0] for read in reads)
                found.append(reads[0].expand(B, -1))
                gtm.write(latent)
        contexts.append(torch.stack(found))
    assert contexts[0].equal(contexts[1])
    assert not contexts[0][1].equal(contexts[0][2])


def test_writing_twice_is_an_error(build_memory):
    with gtm.use_memory(build_memory("vrnn")):
        gtm.read()
        gtm.write(torch.zeros(3))
        with pytest.raises(RuntimeError, match="one read, then one write"):
            gtm.write(torch.zeros(3))


def test_latent_of_wrong_size_is_an_error(memory_name, build_memory):
    with gtm.use_memory(build_memory(memory_name)):
        gtm.read()
        with pytest.raises(ValueError, match=r"takes latents of size 3, got one of size 4"):
            gtm.write(torch.zeros(B, 4))


@pytest.mark.parametrize(
    "control_dim, control, sizes",
    [
        (2, None, "control_dim=2, got none"),
        (0, torch.zeros(B, 2), "control_dim=0, got one of size 2"),
        (2, torch.zeros(B, 3), "control_dim=2, got one of size 3"),
    ],
    ids=["missing", "unexpected", "wrong size"],
)
def test_wrong_control_is_an_error(memory_name, control_dim, control, sizes, build_memory):
    memory = build_memory(memory_name, control_dim=control_dim)
    with gtm.use_memory(memory), pytest.raises(ValueError, match=sizes):
        gtm.read(control)


def test_control_by_keyword(build_memory):
    memory, control = build_memory("vrnn", control_dim=2), torch.randn(B, 2)
    with gtm.use_memory(memory):
        one = gtm.read(control)
    with gtm.use_memory(memory):
        assert gtm.read(control=control).equal(one)


def test_write_by_keyword(build_memory):
    memory, latent = build_memory("vrnn"), torch.randn(B, 3)
    with gtm.use_memory(memory), gtm.record_memory() as tape:
        gtm.read()
        gtm.write(latent=latent)
        gtm.read()
    assert tape.latents[0].equal(latent)


def test_context_is_the_memorys_step(memory_name, build_memory):
    """What ``read`` gives is the pure step on the latent last written, zeros before the first."""
    memory = build_memory(memory_name, control_dim=2)
    latents, controls = torch.randn(4, B, 3), torch.randn(4, B, 2)
    state, latent = memory.initial_state((B,)), torch.zeros(B, 3)
    with gtm.use_memory(memory):
        for t in range(4):
            state, expected, _ = memory.step(state, latent, controls[t])
            assert gtm.read(controls[t]).equal(expected)
            latent = latents[t]
            gtm.write(latent)


@pytest.mark.parametrize("handler", ["outside the plates", "inside the plates"])
@pytest.mark.parametrize("particles", [False, True])
def test_first_read_has_the_shape_of_the_plates(memory_name, handler, particles, build_memory):
    """Before anything was written, only the plates can tell how many sequences there are."""
    memory = gtm.use_memory(build_memory(memory_name))

    def in_plates(program):
        def run():
            with pyro.plate("sequences", B, dim=-1):
                if not particles:
                    return program()
                with pyro.plate("particles", 4, dim=-3):
                    return program()

        return run

    read = (
        memory(in_plates(gtm.read))
        if handler.startswith("outside")
        else in_plates(memory(gtm.read))
    )
    assert read().shape[:-1] == ((4, 1, B) if particles else (B,))


def test_sequential_plates_have_no_shape(build_memory):
    with gtm.use_memory(build_memory("vrnn")):
        for _ in pyro.plate("one by one", 2):
            assert gtm.read().dim() == 1


def test_program_of_a_user(memory_name, build_memory):
    """Decorator and context manager are the same thing."""
    memory = build_memory(memory_name)
    pyro.set_rng_seed(1)
    first, second = gtm.use_memory(memory)(two_steps)()
    assert first.shape == second.shape == (B, memory.context_dim)
    pyro.set_rng_seed(1)
    with gtm.use_memory(memory):
        again = two_steps()
    assert again[0].equal(first) and again[1].equal(second)
