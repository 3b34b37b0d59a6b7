"""The two effects, as a user's own program meets them."""

from __future__ import annotations

from contextlib import nullcontext

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


# ------------------------------------------------------------------------------ a loop over both


def cell_of(weight):
    """What a user might do in a step: two sequences go in, one of them None; two numbers come out.

    It closes over a weight of its own, whose gradient a handler must not lose.
    """

    def cell(context, frame, missing):
        assert missing is None
        hidden = (context @ weight + frame).tanh()
        return hidden, 2 * hidden, (hidden * frame).sum(dim=-1, keepdim=True)

    return cell


def by_hand(memory, cell, frames, controls, batch_shape):
    """The loop that ``unroll`` stands for, with the pure step."""
    state, written = memory.initial_state(batch_shape), torch.zeros(*batch_shape, 3)
    steps = []
    for t, frame in enumerate(frames):
        control = None if controls is None else controls[t].expand(*batch_shape, -1)
        state, context, _ = memory.step(state, written, control)
        written, *outputs = cell(context, frame, None)
        steps.append((context, *outputs))
    return tuple(torch.stack(parts) for parts in zip(*steps, strict=True))


UNROLLINGS = [gtm.Unrolling(), gtm.Unrolling(checkpoint_every=2)]


@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=lambda u: f"{u.checkpoint_every} at once")
@pytest.mark.parametrize("watched", [False, True], ids=["", "step by step"])
@pytest.mark.parametrize("control_dim", [0, 2])
@pytest.mark.parametrize("batch_shape", [(B,), (4, 1, B)], ids=str)
def test_unroll_is_the_loop(
    memory_name, unrolling, watched, control_dim, batch_shape, build_memory, float64
):
    """Values and all gradients, of a cell of the user's own."""
    memory = build_memory(memory_name, control_dim=control_dim)
    weight = torch.randn(memory.context_dim, 3, requires_grad=True)
    frames = torch.randn(5, *batch_shape, 3, requires_grad=True)
    controls = torch.randn(5, B, 2) if control_dim else None
    shape = torch.Size(batch_shape)
    watch = gtm.record_memory() if watched else nullcontext()
    in_vain = watched and unrolling.checkpoint_every > 0
    said = pytest.warns(RuntimeWarning, match="one by one") if in_vain else nullcontext()
    with gtm.use_memory(memory, unrolling=unrolling), watch, said:
        found = gtm.unroll(
            cell_of(weight), [frames, None], controls, num_steps=5, batch_shape=shape
        )
    expected = by_hand(memory, cell_of(weight), frames, controls, batch_shape)
    assert [part.shape[-1] for part in found] == [memory.context_dim, 3, 1]
    if len(batch_shape) == 3:  # (T, K, 1, B, n), where unroll gives (K, T, B, n)
        expected = tuple(part.squeeze(2).movedim(0, 1) for part in expected)
    losses = []
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-14)
    for parts in (found, expected):
        losses.append(sum(part.sin().sum() for part in parts))
    wanted = [weight, frames, *memory.parameters()]
    gradients = [torch.autograd.grad(loss, wanted, allow_unused=True) for loss in losses]
    size = torch.cat([g.flatten() for g in gradients[1] if g is not None]).norm().item()
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12 * size)


@pytest.mark.parametrize("around", ["nothing", "block"])
def test_unroll_needs_a_memory(around, build_memory):
    def program():
        return gtm.unroll(lambda _: (torch.zeros(B, 3),), [], None, num_steps=2, batch_shape=(B,))

    if around == "block":
        program = gtm.use_memory(build_memory("vrnn"))(poutine.block()(program))
    with pytest.raises(gtm.NoMemoryError, match="no memory handler is active"):
        program()


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("unrolling", UNROLLINGS, ids=lambda u: f"{u.checkpoint_every} at once")
def test_unroll_refuses_a_latent_of_wrong_size(memory_name, num_steps, unrolling, build_memory):
    """With the sentence of ``write``, before the memory sees it."""
    with (
        gtm.use_memory(build_memory(memory_name), unrolling=unrolling),
        pytest.raises(ValueError, match=r"takes latents of size 3, got one of size 4"),
    ):
        gtm.unroll(
            lambda _: (torch.zeros(B, 4),),
            [],
            None,
            num_steps=num_steps,
            batch_shape=torch.Size([B]),
        )


@pytest.mark.parametrize("control_dim, given", [(2, None), (0, 2), (2, 3)])
def test_unroll_refuses_a_wrong_control(control_dim, given, memory_name, build_memory):
    controls = None if given is None else torch.zeros(2, B, given)
    memory = build_memory(memory_name, control_dim=control_dim)
    with gtm.use_memory(memory), pytest.raises(ValueError, match=f"control_dim={control_dim}, got"):
        gtm.unroll(
            lambda _: (torch.zeros(B, 3),), [], controls, num_steps=2, batch_shape=torch.Size([B])
        )


@pytest.mark.parametrize(
    ("num_steps", "batch_shape", "words"),
    [
        (0, (B,), "num_steps must be at least 1, got 0"),
        (2, (), r"batch_shape must be \(B,\), .* got \(\)"),
        (2, (4, B), r"with a gap where time is to be, got \(4, 3\)"),
    ],
)
def test_unroll_refuses_impossible_sizes(num_steps, batch_shape, words, build_memory):
    with gtm.use_memory(build_memory("vrnn")), pytest.raises(ValueError, match=words):
        gtm.unroll(
            lambda _: (torch.zeros(B, 3),), [], None, num_steps=num_steps, batch_shape=batch_shape
        )
