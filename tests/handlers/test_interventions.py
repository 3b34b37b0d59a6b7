"""Each intervention zeroes reads, freezes writes or swaps contents as told, and no more."""

from __future__ import annotations

import re
from contextlib import nullcontext

import pytest
import torch

import pyro_gtm as gtm

STEPS, B = 5, 3


def unrolled(memory, intervention=None):
    """Contexts and final state under fixed latents."""
    torch.manual_seed(9)
    latents = torch.randn(STEPS, B, memory.latent_dim)
    with gtm.use_memory(memory) as handler, intervention or gtm.record_memory():
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
def test_zeroes_the_named_steps_and_heads_alone(build_memory, steps, heads):
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


def test_zeroes_the_reads_of_every_memory(memory_name, build_memory):
    memory = build_memory(memory_name)
    intact, _ = unrolled(memory)
    cut, _ = unrolled(memory, gtm.lesion_memory(steps=[3]))
    assert cut[:3].equal(intact[:3])
    assert reads_of(memory, intact[3]).any() and not reads_of(memory, cut[3]).any()
    rest = memory.read_shape[0] * memory.read_shape[1]
    assert cut[3, :, rest:].equal(intact[3, :, rest:])


def test_the_controller_of_the_vrnn_moves_on(build_memory):
    """Its context h_t is zeroed, its own h_t is not."""
    memory = build_memory("vrnn")
    intact, _ = unrolled(memory)
    cut, _ = unrolled(memory, gtm.lesion_memory(steps=[2]))
    assert not cut[2].any()
    assert cut[3:].equal(intact[3:])


def test_reading_again_gives_the_same_zeroed_context(build_memory):
    with gtm.use_memory(build_memory("vrnn")), gtm.lesion_memory(steps=[1]):
        gtm.read()
        gtm.write(torch.randn(B, 3))
        assert gtm.read() is gtm.read()
        assert not gtm.read().any()


def test_head_out_of_range_is_refused(memory_name, build_memory):
    memory = build_memory(memory_name)
    count = memory.read_shape[0]
    message = rf"^lesion_memory: heads \[{count}\] given, .* has heads 0..{count - 1}$"
    lesion = gtm.lesion_memory(steps=[4], heads=[count])
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


@pytest.mark.parametrize("given", [12, [-1], [0.5], ["1"]])
@pytest.mark.parametrize("name", ["steps", "heads"])
def test_steps_and_heads_are_non_negative_integers(name, given):
    sentence = rf"^lesion_memory: {name} must be a collection of non-negative integers, got "
    with pytest.raises(ValueError, match=sentence + re.escape(repr(given)) + "$"):
        gtm.lesion_memory(**{name: given})


def test_steps_may_be_a_tensor(make_model, make_frames):
    """Tensors hash by identity: taken as they are, they would match no step."""
    model = make_model("vrnn").model()
    with gtm.record_memory() as tape, gtm.lesion_memory(steps=torch.tensor([1, 3])):
        model(make_frames(5))
    assert [context.any().item() for context in tape.contexts[1:]] == [False, True, False, True]


def by_hand(memory, from_step=STEPS + 1, swapped_at=None):
    """What :func:`unrolled` does, without handlers; sequences 0 and 2 are swapped."""
    torch.manual_seed(9)
    latents = [torch.zeros(B, memory.latent_dim), *torch.randn(STEPS, B, memory.latent_dim)]
    state, contexts = memory.initial_state((B,)), []
    for t, latent in enumerate(latents):
        if t == swapped_at:
            state = memory.swap_contents(state, 0, 2)
        state, context, _ = memory.step(state, latent, write=t < from_step)
        contexts.append(context)
    return torch.stack(contexts[:STEPS]), state


def assert_same_run(found, expected):
    torch.testing.assert_close(found[0], expected[0])
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("from_step", [0, 1, 3, STEPS, STEPS + 1])
def test_freezes_writes_from_the_named_step(memory_name, from_step, build_memory):
    memory = build_memory(memory_name)
    in_vain = from_step > STEPS
    said = pytest.warns(RuntimeWarning, match="nothing was changed") if in_vain else nullcontext()
    with said:
        frozen = unrolled(memory, gtm.freeze_writes(from_step=from_step))
    assert_same_run(frozen, by_hand(memory, from_step=from_step))
    intact, state = unrolled(memory)
    assert frozen[0][:from_step].equal(intact[:from_step])
    same = all(one.equal(other) for one, other in zip(frozen[1], state, strict=True))
    assert same == in_vain


@pytest.mark.parametrize(
    "intervention",
    [
        lambda: gtm.lesion_memory(steps=[99]),
        lambda: gtm.swap_contents(0, 1, at_step=99),
    ],
    ids=["steps", "swap"],
)
def test_an_intervention_that_never_happens_says_so(intervention, layout, make_model, make_frames):
    pair = make_model("dnc", layout=layout)
    guide, frames = pair.filtering_guide(), make_frames()
    with pytest.warns(RuntimeWarning, match="nothing was changed"), intervention():
        guide(frames)


@pytest.mark.parametrize("from_step", [2, 3])
def test_a_frozen_buffer_ends_with_the_latent_two_steps_before(from_step, build_memory):
    """The write of a step is that of the latent of the step before."""
    _, state = unrolled(build_memory("introspective"), gtm.freeze_writes(from_step=from_step))
    torch.manual_seed(9)
    latents = torch.randn(STEPS, B, 3)
    assert state.buffer[:, 0].equal(latents[from_step - 2])


def test_a_frozen_vrnn_stands_still(build_memory):
    contexts, _ = unrolled(build_memory("vrnn"), gtm.freeze_writes(from_step=2))
    assert contexts[2:].equal(contexts[1].expand(STEPS - 2, -1, -1))
    assert not contexts[1].equal(contexts[0])


def test_freezes_from_the_start_unless_told_otherwise(memory_name, build_memory):
    memory = build_memory(memory_name)
    default = unrolled(memory, gtm.freeze_writes())
    assert default[0].equal(unrolled(memory, gtm.freeze_writes(from_step=0))[0])


def test_a_memory_that_cannot_be_kept_from_writing_says_so():
    class Stubborn(gtm.RecurrentMemory):
        def step(self, state, latent, control=None):
            return super().step(state, latent, control)

    message = (
        "^freeze_writes: Stubborn cannot be kept from writing, for its step takes no argument "
        "'write'$"
    )
    with (
        gtm.use_memory(Stubborn(3)),
        gtm.freeze_writes(from_step=1),
        pytest.raises(NotImplementedError, match=message),
    ):
        gtm.read()  # at once, and not in step 1


@pytest.mark.parametrize("at_step", [1, 3, STEPS])
def test_swaps_two_sequences_before_the_named_step(memory_name, at_step, build_memory):
    memory = build_memory(memory_name)
    swapped = unrolled(memory, gtm.swap_contents(0, 2, at_step=at_step))
    assert_same_run(swapped, by_hand(memory, swapped_at=at_step))
    intact, _ = unrolled(memory)
    assert swapped[0][:at_step].equal(intact[:at_step])
    assert swapped[0][:, 1].equal(intact[:, 1])  # the third sequence notices nothing
    if at_step == 3:  # in step 1 nothing is remembered yet that differs
        assert (swapped[0][3] != intact[3]).any(-1).tolist() == [True, False, True]


def test_each_goes_on_with_the_memory_of_the_other(build_memory):
    """In a buffer: older latents are the other's, those from the exchange on its own."""
    memory = build_memory("introspective", slots=STEPS)
    _, intact = unrolled(memory)
    _, state = unrolled(memory, gtm.swap_contents(2, 0, at_step=4))
    theirs = intact.buffer[[2, 1, 0]]
    assert state.buffer[:, :2].equal(intact.buffer[:, :2])  # of steps 3 and 4
    assert state.buffer[:, 2:].equal(theirs[:, 2:])
    assert not state.buffer[0, 2:].equal(intact.buffer[0, 2:])


def test_swaps_in_the_last_batch_dimension(memory_name, build_memory):
    """In every particle the same two sequences, as if the particle were alone."""
    memory, latents = build_memory(memory_name), torch.randn(3, 2, B, 3)

    def last_context(latents):
        with gtm.use_memory(memory), gtm.swap_contents(1, 2, at_step=2):
            for latent in latents:
                gtm.read()
                gtm.write(latent)
            return gtm.read()

    together = last_context(latents)
    for particle in range(2):
        torch.testing.assert_close(together[particle], last_context(latents[:, particle]))


NO_NUMBER = "must be a non-negative integer, got"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: gtm.freeze_writes(-1), f"freeze_writes: from_step {NO_NUMBER} -1"),
        (lambda: gtm.freeze_writes(1.5), f"freeze_writes: from_step {NO_NUMBER} 1.5"),
        (lambda: gtm.freeze_writes("2"), f"freeze_writes: from_step {NO_NUMBER} '2'"),
        (lambda: gtm.swap_contents(-1, 0, 3), f"swap_contents: first {NO_NUMBER} -1"),
        (lambda: gtm.swap_contents(0, 0.5, 3), f"swap_contents: second {NO_NUMBER} 0.5"),
        (lambda: gtm.swap_contents(0, 1, None), f"swap_contents: at_step {NO_NUMBER} None"),
        (lambda: gtm.swap_contents(1, 1, 3), "swap_contents: first and second are both 1, and .*"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize("shape, count", [((), 0), ((B,), B), ((4, B), B)], ids=str)
def test_sequences_that_are_not_in_the_batch_are_refused(memory_name, shape, count, build_memory):
    message = rf"swap_contents: first=0 and second=3 given, .* sequences in a batch, {count}$"
    with gtm.use_memory(build_memory(memory_name)), gtm.swap_contents(0, 3, at_step=1):
        gtm.read()
        gtm.write(torch.randn(*shape, 3))
        with pytest.raises(ValueError, match=message):
            gtm.read()
