"""The effects, as a user's own program meets them."""

from __future__ import annotations

from contextlib import nullcontext

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal

import pyro_gtm as gtm
from pyro_gtm.ops import NoMemoryError

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
    with pytest.raises(NoMemoryError, match="no memory handler is active"):
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
        with pytest.raises(ValueError, match=r"of size 4 given, .* takes latent_dim=3"):
            gtm.write(torch.zeros(B, 4))


@pytest.mark.parametrize(
    "control_dim, control, sizes",
    [
        (2, None, "no control given, one of size control_dim=2 needed"),
        (0, torch.zeros(B, 2), "control of size 2 given, control_dim=0 allowed"),
        (2, torch.zeros(B, 3), "control of size 3 given, control_dim=2 allowed"),
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


def cell_of(weight):
    """A step of a user's own, which closes over a weight of its own."""

    def cell(context, here):
        hidden = (context @ weight + here["frame"]).tanh()
        number = (hidden * here["frame"]).sum(dim=-1, keepdim=True)
        return hidden, {"double": 2 * hidden, "number": number}

    return cell


def by_hand(memory, cell, inputs, controls, batch_shape):
    """The loop that ``unroll`` stands for, with the pure step."""
    state, written = memory.initial_state(batch_shape), torch.zeros(*batch_shape, 3)
    steps = []
    for t, frame in enumerate(inputs["frame"]):
        control = None if controls is None else controls[t].expand(*batch_shape, -1)
        state, context, _ = memory.step(state, written, control)
        written, outputs = cell(context, {"frame": frame})
        steps.append((context, written, *outputs.values()))
    return tuple(torch.stack(parts) for parts in zip(*steps, strict=True))


UNROLLINGS = [gtm.Unrolling(), gtm.Unrolling(checkpoint_every=2)]
unrollings = pytest.mark.parametrize(
    "unrolling", UNROLLINGS, ids=lambda u: f"checkpoint_every={u.checkpoint_every}"
)


@unrollings
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
    inputs = {"frame": frames}
    controls = torch.randn(5, B, 2) if control_dim else None
    watch = gtm.record_memory() if watched else nullcontext()
    in_vain = watched and unrolling.checkpoint_every > 0
    said = pytest.warns(RuntimeWarning, match="one by one") if in_vain else nullcontext()
    with gtm.use_memory(memory, unrolling=unrolling), watch, said:
        contexts, latents, outputs = gtm.unroll(cell_of(weight), inputs, controls=controls)
    assert list(outputs) == ["double", "number"]
    found = contexts, latents, *outputs.values()
    expected = by_hand(memory, cell_of(weight), inputs, controls, batch_shape)
    assert [part.shape[-1] for part in found] == [memory.context_dim, 3, 3, 1]
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


def standing_still(context):
    """A cell without inputs, which writes zeros and wants nothing of the step."""
    return context.new_zeros(*context.shape[:-1], 3), ()


def test_unroll_of_a_length(memory_name, build_memory):
    """Without inputs and controls, the length alone says how many steps there are."""
    memory = build_memory(memory_name)
    with gtm.use_memory(memory), pyro.plate("sequences", B):
        contexts, latents, outputs = gtm.unroll(standing_still, length=4)
    assert (contexts.shape, latents.shape) == ((4, B, memory.context_dim), (4, B, 3))
    assert outputs == () and not latents.any()


@pytest.mark.parametrize("around", ["nothing", "block"])
def test_unroll_needs_a_memory(around, build_memory):
    def program():
        return gtm.unroll(standing_still, length=2)

    if around == "block":
        program = gtm.use_memory(build_memory("vrnn"))(poutine.block()(program))
    with pytest.raises(NoMemoryError, match="no memory handler is active"):
        program()


@pytest.mark.parametrize("length", [1, 3])
@unrollings
def test_unroll_refuses_a_latent_of_wrong_size(memory_name, length, unrolling, build_memory):
    """With the sentence of ``write``, before the memory sees it."""
    with (
        gtm.use_memory(build_memory(memory_name), unrolling=unrolling),
        pytest.raises(ValueError, match=r"of size 4 given, the memory in use takes latent_dim=3"),
    ):
        gtm.unroll(lambda context: (torch.zeros(4), ()), length=length)


@pytest.mark.parametrize("control_dim, given", [(2, None), (0, 2), (2, 3)])
def test_unroll_refuses_a_wrong_control(control_dim, given, memory_name, build_memory):
    controls = None if given is None else torch.zeros(2, B, given)
    memory = build_memory(memory_name, control_dim=control_dim)
    with gtm.use_memory(memory), pytest.raises(ValueError, match=f"control_dim={control_dim} "):
        gtm.unroll(standing_still, controls=controls, length=2)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "none"),
        ({"length": 0}, r"\[0\]"),
        ({"inputs": torch.zeros(0, B, 3)}, r"\[0\]"),
        ({"inputs": torch.zeros(2, B, 3), "length": 4}, r"\[2, 4\]"),
        ({"inputs": (torch.zeros(2, B, 3), torch.zeros(3, B, 3))}, r"\[2, 3\]"),
        ({"inputs": torch.zeros(2, B, 3), "controls": torch.zeros(5, B, 2)}, r"\[2, 5\]"),
    ],
)
def test_unroll_refuses_lengths_that_do_not_agree(options, found, build_memory):
    sentence = f"must agree on one positive number of steps, got {found}$"
    memory = build_memory("vrnn", control_dim=2)
    with gtm.use_memory(memory), pytest.raises(ValueError, match=sentence):
        gtm.unroll(standing_still, **options)


def test_unroll_refuses_a_cell_that_returns_no_pair(build_memory):
    with (
        gtm.use_memory(build_memory("vrnn")),
        pytest.raises(TypeError, match=r"the cell must return a pair, .* got Tensor"),
    ):
        gtm.unroll(lambda context: context.new_zeros(3), length=2)


def test_unroll_refuses_sequences_that_do_not_fit_those_held(build_memory):
    with gtm.use_memory(build_memory("vrnn")):
        for _ in range(2):
            gtm.read()
            gtm.write(torch.zeros(B + 1, 3))
        with pytest.raises(ValueError, match=r"call gtm.begin\(\) before other sequences"):
            gtm.unroll(lambda context, here: (here, ()), torch.zeros(2, B, 3))
        contexts, _, _ = gtm.unroll(lambda context, here: (here, ()), torch.zeros(2, 3))
        assert contexts.shape[:2] == (2, B + 1)  # one for all is broadcast


@pytest.mark.parametrize("watched", [False, True])
def test_unroll_takes_what_the_loop_takes(memory_name, watched, build_memory):
    """Latents wider than the plates, inputs of any shape, None among inputs and outputs."""
    with (
        torch.no_grad(),
        gtm.use_memory(build_memory(memory_name)),
        gtm.record_memory() if watched else nullcontext(),
    ):
        run = gtm.unroll(lambda context: (torch.ones(B, 3), None), length=2)
        assert run.contexts.shape[:2] == run.latents.shape[:2] == (2, B)
        assert run.outputs is None

        gtm.begin()
        images = torch.rand(4, B, 1, 5, 5)
        run = gtm.unroll(lambda context, image: (image.flatten(-3)[..., :3], image), images)
        assert torch.equal(run.outputs, images)

        gtm.begin()
        run = gtm.unroll(
            lambda context, here: (here["z"], {"context": context, "nothing": here["nothing"]}),
            {"z": torch.rand(4, B, 3), "nothing": None},
        )
        assert run.outputs["nothing"] is None
        assert torch.equal(run.outputs["context"], run.contexts)


def test_unroll_refuses_latents_that_grow(build_memory):
    count = iter(range(9))

    def cell(context):
        return torch.zeros(*[B] * (next(count) > 1), 3), ()

    with (
        gtm.use_memory(build_memory("dnc")),
        pytest.raises(ValueError, match=r"batch shape \(3,\) written after the first step"),
    ):
        gtm.unroll(cell, length=3)


@pytest.mark.parametrize("effect", ["sample", "read", "write"])
def test_a_cell_sends_no_messages(effect, build_memory):
    """It is run once more than there are steps: a site in it would be one too many."""

    def cell(context):
        if effect == "sample":
            pyro.sample("z", Normal(0.0, 1.0))
        elif effect == "read":
            gtm.read()
        else:
            gtm.write(torch.zeros(B, 3))
        return torch.zeros(B, 3), ()

    with (
        gtm.use_memory(build_memory("dnc")),
        pytest.raises(RuntimeError, match=rf"the cell sends a message of type '\w*{effect}'"),
    ):
        gtm.unroll(cell, length=2)


def test_a_read_among_other_plates_is_refused(memory_name, build_memory):
    with gtm.use_memory(build_memory(memory_name)), torch.no_grad():
        for size in (B, B - 1):
            with pyro.plate("sequences", size):
                if size < B:
                    with pytest.raises(ValueError, match=r"gtm.begin\(\)"):
                        gtm.read()
                else:
                    gtm.read()
                    gtm.write(torch.ones(size, 3))


@pytest.mark.parametrize("latent", [torch.tensor(1.0), [1.0], None])
def test_only_tensors_are_written(latent, build_memory):
    with (
        gtm.use_memory(build_memory("vrnn")),
        pytest.raises(TypeError, match=r"gtm.write: latent must be a tensor"),
    ):
        gtm.write(latent)
