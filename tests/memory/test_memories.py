"""What holds for every memory, those added later included."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

import pyro_gtm as gtm

SHAPES = [(), (1,), (3,), (2, 3)]


def unroll(memory, latents, controls=None, state=None):
    """The final state and all contexts along latents (T, *batch, Z)."""
    state = memory.initial_state(latents.shape[1:-1]) if state is None else state
    contexts = []
    for t, latent in enumerate(latents):
        state, context, _ = memory.step(state, latent, None if controls is None else controls[t])
        contexts.append(context)
    return state, torch.stack(contexts)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("control_dim", [0, 2])
def test_any_batch_shape(memory_name, shape, control_dim, build_memory):
    """Each sequence of a batch goes as it would go alone."""
    memory = build_memory(memory_name, control_dim=control_dim)
    latents = torch.randn(5, *shape, 3)
    controls = torch.randn(5, *shape, 2) if control_dim else None
    state, contexts = unroll(memory, latents, controls)
    assert contexts.shape == (5, *shape, memory.context_dim)
    for index in torch.ones(shape).nonzero().tolist():
        at = (slice(None), *index)
        lone = unroll(memory, latents[at], None if controls is None else controls[at])
        torch.testing.assert_close(contexts[at], lone[1], rtol=1e-4, atol=1e-6)
        for whole, single in zip(state, lone[0], strict=True):
            torch.testing.assert_close(whole[tuple(index)], single, rtol=1e-4, atol=1e-6)


def test_state_and_details_have_the_batch_in_front(memory_name, build_memory):
    memory = build_memory(memory_name)
    lone = memory.initial_state(())
    result = memory.step(memory.initial_state((4, 5)), torch.randn(4, 5, 3))
    for whole, single in zip(result.state, lone, strict=True):
        assert whole.shape == (4, 5, *single.shape)
    for detail in result.details.values():
        assert detail.shape[:2] == (4, 5)
    assert result.context.shape == (4, 5, memory.context_dim)
    heads, width = memory.read_shape
    assert heads * width <= memory.context_dim


def test_no_batch_size_is_stored(memory_name, build_memory):
    memory = build_memory(memory_name)
    before = {**vars(memory), **memory.state_dict()}
    for shape in SHAPES:
        unroll(memory, torch.randn(3, *shape, 3))
    after = {**vars(memory), **memory.state_dict()}
    assert before.keys() == after.keys()
    assert all(after[name] is before[name] or after[name].equal(before[name]) for name in before)


def test_step_is_pure(memory_name, build_memory):
    """Same arguments, same result; and its arguments are left as they were."""
    memory = build_memory(memory_name)
    state, _ = unroll(memory, torch.randn(3, 2, 3))
    kept, latent = [tensor.clone() for tensor in state], torch.randn(2, 3)
    one, two = memory.step(state, latent), memory.step(state, latent)
    assert one.context.equal(two.context)
    assert all(a.equal(b) for a, b in zip(one.state, two.state, strict=True))
    assert all(a.equal(b) for a, b in zip(state, kept, strict=True))


def test_state_can_be_resampled(memory_name, build_memory):
    """Batch dimensions first: indexing a state is indexing its sequences (particle filters)."""
    memory, latents = build_memory(memory_name), torch.randn(6, 4, 3)
    ancestors = torch.tensor([2, 2, 0, 3])
    state, _ = unroll(memory, latents[:3])
    picked = type(state)(*(tensor[ancestors] for tensor in state))
    _, contexts = unroll(memory, latents[3:][:, ancestors], state=picked)
    _, whole = unroll(memory, latents[:, ancestors])
    torch.testing.assert_close(contexts, whole[3:])


def test_expand_state(memory_name, build_memory):
    """A particle plate met half way: as if every particle had been there from the start."""
    memory, latents = build_memory(memory_name), torch.randn(6, 3, 3)
    state, _ = unroll(memory, latents[:3])
    expanded = memory.expand_state(state, (2, 3))
    _, contexts = unroll(memory, latents[3:].unsqueeze(1).expand(-1, 2, -1, -1), state=expanded)
    _, whole = unroll(memory, latents)
    torch.testing.assert_close(contexts, whole[3:].unsqueeze(1).expand(-1, 2, -1, -1))


def test_batch_may_grow_inside_a_program(memory_name, build_memory):
    """The handler expands the state when a latent comes with more particles than before."""
    memory, latents = build_memory(memory_name), torch.randn(3, 2, 4, 3)
    with gtm.use_memory(memory):
        gtm.read()
        gtm.write(latents[0, 0])  # (4, 3)
        gtm.read()
        gtm.write(latents[1])  # (2, 4, 3)
        grown = gtm.read()
    first = latents[0, 0].expand(2, 4, 3)
    sequence = torch.stack([torch.zeros(2, 4, 3), first, latents[1]])
    torch.testing.assert_close(grown, unroll(memory, sequence)[1][-1])


def test_cut_reads(memory_name, build_memory):
    memory = build_memory(memory_name)
    state, contexts = unroll(memory, torch.randn(4, 2, 3))
    heads, width = memory.read_shape
    for cut in (None, [heads - 1], []):
        _, after = memory.cut_reads(state, contexts[-1], cut)
        expected = contexts[-1].clone()
        reads = expected[:, : heads * width].view(2, heads, width)
        reads[:, slice(None) if cut is None else cut] = 0
        assert after.equal(expected)


def test_untouched_memory_has_finite_gradients(memory_name, build_memory):
    """Nothing written, everything zero: where cosines and norms like to divide by nothing."""
    memory = build_memory(memory_name)
    latents = torch.zeros(4, 2, 3, requires_grad=True)
    state, contexts = unroll(memory, latents)
    (contexts.square().sum() + contexts.sum() + sum(t.square().sum() for t in state)).backward()
    for tensor in (latents, *memory.parameters()):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert latents.grad.any()


@pytest.mark.usefixtures("float64")
def test_gradients_of_the_latents(memory_name, build_memory):
    memory = build_memory(memory_name)
    latents = torch.randn(4, 2, 3, requires_grad=True)
    assert gradcheck(lambda latents: unroll(memory, latents)[1], latents)


def test_float64_and_device_follow_the_weights(memory_name, build_memory):
    memory = build_memory(memory_name).double()
    state, contexts = unroll(memory, torch.randn(3, 2, 3, dtype=torch.float64))
    assert contexts.dtype == torch.float64
    assert all(t.dtype == torch.float64 for t in state if t.is_floating_point())


@pytest.mark.parametrize("option", ["latent_dim", "hidden_dim"])
@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_impossible_sizes_are_named(memory_name, option, size, build_memory):
    with pytest.raises(ValueError, match=rf"{option} must be a whole number of at least 1, got"):
        build_memory(memory_name, **{option: size})
