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


def test_zero_reads(memory_name, build_memory):
    """In the context, and in the state where it carries them; nothing else changes."""
    memory = build_memory(memory_name)
    state, contexts = unroll(memory, torch.randn(4, 2, 3))
    heads, width = memory.read_shape
    for zeroed in (None, [heads - 1], []):
        state_after, after = memory.zero_reads(state, contexts[-1], zeroed)
        expected = contexts[-1].clone()
        reads = expected[:, : heads * width].view(2, heads, width)
        reads[:, slice(None) if zeroed is None else zeroed] = 0
        assert after.equal(expected)
        for name, field in state_after._asdict().items():
            assert field.equal(reads if name == "reads" else getattr(state, name))


HEADS = {"weights", "read_weights", "write_weights", "usage", "reads", "writes"}
"""Fields that say where heads are and what they did there; any other is what is stored."""


def test_step_without_writing_stores_nothing(memory_name, build_memory):
    """Whatever comes: what is stored stays as it is to the bit, while the controller moves on."""
    memory = build_memory(memory_name)
    before, _ = unroll(memory, torch.randn(4, 2, 3))
    after = before
    for latent in torch.randn(5, 2, 3):
        after = memory.step(after, latent, write=False).state
    for name, field in after._asdict().items():
        if name in memory.controller_fields:
            assert field.numel() == 0 or not field.equal(getattr(before, name))
        elif name not in HEADS:
            assert field.equal(getattr(before, name))


def test_nothing_written_is_nothing_read(memory_name, build_memory):
    """Without a write from the start, reads are as empty as the memory was, whatever comes."""
    memory = build_memory(memory_name)
    state, (heads, width) = memory.initial_state((2,)), memory.read_shape
    for latent in 10 * torch.randn(5, 2, 3):
        state, context, _ = memory.step(state, latent, write=False)
        assert context[:, : heads * width].abs().max() <= 2e-6  # NTM and LRU start from 1e-6


@pytest.mark.parametrize("shape", [(3,), (2, 3)], ids=str)
def test_swap_contents(memory_name, shape, build_memory):
    """All but the controller changes places; twice is not at all; others notice nothing."""
    memory = build_memory(memory_name)
    state, _ = unroll(memory, torch.randn(4, *shape, 3))
    swapped = memory.swap_contents(state, 0, 2)
    dim = len(shape) - 1
    for name, field in swapped._asdict().items():
        own = getattr(state, name)
        theirs = own.index_select(dim, torch.tensor([2, 1, 0]))
        settled = name in HEADS or name in memory.controller_fields or own.numel() == 0
        assert settled or not own.equal(theirs)
        assert field.equal(own if name in memory.controller_fields else theirs)
    back = memory.swap_contents(swapped, 2, 0)
    assert all(one.equal(other) for one, other in zip(back, state, strict=True))

    latent = torch.randn(*shape, 3)
    changed = memory.step(swapped, latent).context != memory.step(state, latent).context
    assert changed.any(-1).equal(torch.tensor([True, False, True]).expand(shape))


@pytest.mark.parametrize("shape", [(), (3,)], ids=str)
def test_only_sequences_that_there_are_can_be_swapped(memory_name, shape, build_memory):
    memory = build_memory(memory_name)
    with pytest.raises(IndexError):
        memory.swap_contents(memory.initial_state(shape), 0, 3)


def test_untouched_memory_has_finite_gradients(memory_name, build_memory):
    """Nothing written, everything zero: where cosines and norms like to divide by nothing."""
    memory = build_memory(memory_name)
    latents = torch.zeros(4, 2, 3, requires_grad=True)
    state, contexts = unroll(memory, latents)
    (contexts.square().sum() + contexts.sum() + sum(t.square().sum() for t in state)).backward()
    for tensor in (latents, *memory.parameters()):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert latents.grad.any()


@pytest.mark.parametrize("scale", [0.0, 1e5], ids=["no interface", "extreme interface"])
def test_finite_from_nothing_and_at_extremes(memory_name, scale, build_memory):
    """A state of zeros in every field, read with zero keys or with strengths of some 1e4."""
    memory = build_memory(memory_name)
    with torch.no_grad():
        for name, parameter in memory.named_parameters():
            if not name.startswith("controller."):
                parameter.normal_(std=scale)
    start = memory.initial_state((20,))
    start = type(start)(*(torch.zeros_like(field).requires_grad_() for field in start))
    latents = torch.randn(5, 20, 3, requires_grad=True)
    state, contexts = unroll(memory, latents, state=start)
    assert contexts.isfinite().all()
    assert all(field.isfinite().all() for field in state)
    (contexts.sum() + sum(field.sum() for field in state)).backward()
    for tensor in (latents, *start, *memory.parameters()):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert latents.grad.any()


def test_long_sequences_stay_finite(memory_name, build_memory):
    """Values and gradients over 400 steps, in single precision."""
    memory, latents = build_memory(memory_name), torch.randn(400, 2, 3, requires_grad=True)
    state, contexts = unroll(memory, latents)
    assert contexts.isfinite().all()
    assert all(field.isfinite().all() for field in state)
    contexts.sum().backward()
    for tensor in (latents, *memory.parameters()):
        assert tensor.grad.isfinite().all()
    assert all(step.any() for step in latents.grad)


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
    with pytest.raises(ValueError, match=rf"{option} must be a positive integer, got"):
        build_memory(memory_name, **{option: size})
