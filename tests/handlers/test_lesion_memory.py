"""A lesion zeroes the reads it names, and nothing else."""

from __future__ import annotations

import pytest
import torch

import pyro_gtm as gtm

STEPS, B = 5, 3


def unrolled(memory, lesion=None):
    """Contexts and final state under fixed latents."""
    torch.manual_seed(9)
    latents = torch.randn(STEPS, B, memory.latent_dim)
    with gtm.use_memory(memory) as handler, lesion or gtm.record_memory():
        contexts = []
        for latent in latents:
            contexts.append(gtm.read().expand(B, -1))
            gtm.write(latent)
        gtm.read()
        return torch.stack(contexts), handler._state


def reads_of(memory, contexts):
    count, width = memory.read_shape
    return contexts[..., : count * width].unflatten(-1, (count, width))


@pytest.mark.parametrize("steps", [None, [2], [1, 4], range(2, 5)])
@pytest.mark.parametrize("heads", [None, [0], "last"])
def test_cuts_the_named_steps_and_heads_alone(build_memory, steps, heads):
    """For the introspective memory, whose reads do not come back to it, all else is as before."""
    memory = build_memory("introspective", append_hidden=True)
    count = memory.read_shape[0]
    heads = [count - 1] if heads == "last" else heads
    intact, state = unrolled(memory)
    cut, state_after = unrolled(memory, gtm.lesion_memory(steps=steps, heads=heads))

    cut_steps = range(STEPS) if steps is None else steps
    cut_heads = range(count) if heads is None else heads
    expected = intact.clone()
    reads = reads_of(memory, expected)  # a view
    for t in cut_steps:
        for head in cut_heads:
            assert t == 0 or reads[t, :, head].any()
            reads[t, :, head] = 0
    assert cut.equal(expected)
    assert all(one.equal(other) for one, other in zip(state, state_after, strict=True))


def test_cuts_the_reads_of_every_memory(memory_name, build_memory):
    memory = build_memory(memory_name)
    intact, _ = unrolled(memory)
    cut, _ = unrolled(memory, gtm.lesion_memory(steps=[3]))
    assert cut[:3].equal(intact[:3])
    assert reads_of(memory, intact[3]).any() and not reads_of(memory, cut[3]).any()
    rest = memory.read_shape[0] * memory.read_shape[1]
    assert cut[3, :, rest:].equal(intact[3, :, rest:])


def test_the_controller_of_the_vrnn_moves_on(build_memory):
    """Its context h_t is cut, its own h_t is not."""
    memory = build_memory("vrnn")
    intact, _ = unrolled(memory)
    cut, _ = unrolled(memory, gtm.lesion_memory(steps=[2]))
    assert not cut[2].any()
    assert cut[3:].equal(intact[3:])


def test_reading_again_gives_the_same_cut_context(build_memory):
    with gtm.use_memory(build_memory("vrnn")), gtm.lesion_memory(steps=[1]):
        gtm.read()
        gtm.write(torch.randn(B, 3))
        assert gtm.read() is gtm.read()
        assert not gtm.read().any()


@pytest.mark.parametrize("head", ["one too many", -1])
def test_head_out_of_range_is_refused(memory_name, head, build_memory):
    memory = build_memory(memory_name)
    count = memory.read_shape[0]
    head = count if head == "one too many" else head
    message = rf"heads must lie in 0..{count - 1}.*\[{head}\]"
    lesion = gtm.lesion_memory(steps=[4], heads=[head])
    with gtm.use_memory(memory), lesion, pytest.raises(ValueError, match=message):
        gtm.read()  # at once, and not in step 4


def test_gradients_do_not_pass_a_lesion(build_memory):
    memory, latent = build_memory("introspective"), torch.randn(B, 3, requires_grad=True)
    for lesion, passes in ((gtm.lesion_memory(steps=[0]), True), (gtm.lesion_memory(), False)):
        with gtm.use_memory(memory), lesion:
            gtm.read()
            gtm.write(latent)
            (gradient,) = torch.autograd.grad(gtm.read().sum(), latent)
        assert bool(gradient.any()) == passes


@pytest.mark.parametrize("steps", [12, [-1], [0.5], ["1"]])
def test_steps_are_whole_numbers_from_0(steps):
    with pytest.raises(ValueError, match="lesion_memory: steps must be a collection of whole"):
        gtm.lesion_memory(steps=steps)


def test_steps_may_be_a_tensor(make_model, make_frames):
    """Tensors hash by identity: taken as they are, they would match no step."""
    model = make_model("vrnn").model()
    with gtm.record_memory() as tape, gtm.lesion_memory(steps=torch.tensor([1, 3])):
        model(make_frames(5))
    assert [context.any().item() for context in tape.contexts[1:]] == [False, True, False, True]
