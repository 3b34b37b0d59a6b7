"""The effects, as a user's own program meets them."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Laplace, MultivariateNormal, Normal

import pyro_gtm as gtm
from pyro_gtm.memory import NEVER
from pyro_gtm.ops import NoMemoryError

B = 3


def two_steps(batch_size=B):
    """A program that uses nothing but the two effects; gives its contexts."""
    with pyro.plate("sequences", batch_size):
        first = gtm.read()
        gtm.write(pyro.sample("z", Normal(torch.zeros(3), 1).to_event(1)))
        return first, gtm.read()


@pytest.mark.parametrize("effect", [gtm.read, gtm.recall, lambda: gtm.write(torch.zeros(3))])
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


def along(memory, latents, controls=None):
    """The contexts of the loop that ``gtm.unroll(latents)`` stands for, and of one step more."""
    state, written = memory.initial_state(latents.shape[1:-1]), torch.zeros_like(latents[0])
    contexts = []
    for t in range(len(latents) + 1):
        control = None if controls is None else controls[t].expand(*latents.shape[1:-1], -1)
        state, context, _ = memory.step(state, written, control)
        contexts.append(context)
        written = latents[t] if t < len(latents) else None
    return torch.stack(contexts)


@unrollings
@pytest.mark.parametrize("watched", [False, True], ids=["", "step by step"])
@pytest.mark.parametrize("control_dim", [0, 2])
@pytest.mark.parametrize("batch_shape", [(), (B,), (4, 1, B)], ids=str)
def test_unroll_along_latents_is_the_loop(
    memory_name, unrolling, watched, control_dim, batch_shape, build_memory, float64
):
    """Values and all gradients; and a read, a write and a read after it go on from there."""
    memory = build_memory(memory_name, control_dim=control_dim)
    latents = torch.randn(6, *batch_shape, 3, requires_grad=True)
    controls = torch.randn(7, *batch_shape, 2) if control_dim else None
    given = [None] * 7 if controls is None else controls
    watch = gtm.record_memory() if watched else nullcontext()
    with gtm.use_memory(memory, unrolling=unrolling), watch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of steps taken one by one
        run = gtm.unroll(latents[:5], controls=None if controls is None else controls[:5])
        contexts = [*run.contexts, gtm.read(given[5])]
        gtm.write(latents[5])
        contexts.append(gtm.read(given[6]))
    assert run.latents.equal(latents[:5]) and run.outputs is None
    found, expected = torch.stack(contexts), along(memory, latents, controls)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    wanted = [latents, *memory.parameters()]
    gradients = [
        torch.autograd.grad(parts.sin().sum(), wanted, materialize_grads=True)
        for parts in (found, expected)
    ]
    size = torch.cat([gradient.flatten() for gradient in gradients[1]]).norm().item()
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12 * size)


def test_unroll_along_latents_goes_on(memory_name, build_memory, float64):
    """Two runs one after the other are one, and after ``begin`` the first is as it was."""
    memory, latents = build_memory(memory_name), torch.randn(7, B, 3)
    expected = along(memory, latents)[:7]
    with gtm.use_memory(memory):
        parts = [gtm.unroll(latents[:4]).contexts, gtm.unroll(latents[4:]).contexts]
        torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-10, atol=1e-12)
        gtm.begin()
        torch.testing.assert_close(gtm.unroll(latents[:4]).contexts, parts[0])


def test_unroll_along_latents_goes_with_the_plates(memory_name, build_memory):
    """One sequence of latents for all that a plate has."""
    memory, latents = build_memory(memory_name), torch.randn(4, 3)
    with gtm.use_memory(memory), pyro.plate("sequences", B):
        run = gtm.unroll(latents)
    assert run.latents.equal(latents.unsqueeze(1).expand(4, B, 3))
    torch.testing.assert_close(run.contexts, along(memory, run.latents)[:4])


@pytest.mark.parametrize(
    ("around", "at_once"),
    [
        ("nothing", True),
        ("plates", True),
        ("after begin", True),
        ("record_memory", False),
        ("lesion_memory", False),
        ("checkpointing", False),
        ("a cell", False),
        ("after steps", False),
    ],
)
def test_when_all_steps_are_taken_at_once(around, at_once, build_memory, monkeypatch):
    """By a memory that can, from a fresh sequence, where nobody looks on or wants blocks."""
    memory, latents, calls = build_memory("associative"), torch.randn(4, B, 3), []
    unroll = memory.unroll

    def spy(*arguments):
        calls.append(arguments)
        return unroll(*arguments)

    monkeypatch.setattr(memory, "unroll", spy)
    handlers = {
        "plates": pyro.plate("sequences", B),
        "record_memory": gtm.record_memory(),
        "lesion_memory": gtm.lesion_memory(),
    }
    settings = gtm.Unrolling(checkpoint_every=2 if around == "checkpointing" else 0)
    with gtm.use_memory(memory, unrolling=settings), handlers.get(around, nullcontext()):
        if around.startswith("after"):
            gtm.read()
            gtm.write(latents[0])
        if around == "after begin":
            gtm.begin()
        if around == "a cell":
            gtm.unroll(lambda context, latent: (latent, None), latents)
        else:
            gtm.unroll(latents)
    assert bool(calls) == at_once


@pytest.mark.parametrize(
    ("latents", "options", "sentence"),
    [
        (torch.zeros(3), {}, r"latents must be \(T, \*batch, latent_dim\) .*, got shape \(3,\)$"),
        (torch.zeros(0, B, 3), {}, r"with T > 0, got shape \(0, 3, 3\)$"),
        (torch.zeros(2, B, 3), {"length": 3}, r"got shape \(2, 3, 3\) for length=3$"),
        (torch.zeros(2, B, 3), {"inputs": torch.zeros(2)}, "inputs are a cell's, and were given"),
        (torch.zeros(2, B, 4), {}, "of size 4 given, the memory in use takes latent_dim=3"),
        (
            torch.zeros(2, B, 3),
            {"controls": torch.zeros(4, B, 2)},
            "latents and controls must agree on the number of steps, got 2 and 4",
        ),
        (torch.zeros(2, B, 3), {"controls": torch.zeros(2, B, 3)}, "control_dim=2 allowed"),
        (torch.zeros(2, B, 3), {"controls": None}, "one of size control_dim=2 needed"),
    ],
)
def test_unroll_refuses_latents_that_do_not_fit(
    memory_name, latents, options, sentence, build_memory
):
    memory = build_memory(memory_name, control_dim=2)
    options = {"controls": torch.zeros(max(1, len(latents)), B, 2), **options}
    with gtm.use_memory(memory), pytest.raises(ValueError, match=sentence):
        gtm.unroll(latents, **options)


def test_unroll_along_latents_starts_after_a_write(memory_name, build_memory):
    with gtm.use_memory(build_memory(memory_name)):
        gtm.read()
        with pytest.raises(RuntimeError, match="a context was read and no latent written"):
            gtm.unroll(torch.zeros(2, 3))


RECALLING = ("associative", "introspective", "ntm", "lru", "dnc")
recalling = pytest.mark.parametrize("name", RECALLING)


def recalling_memory(name, build_memory, **options):
    return build_memory(name, **({} if name in RECALLING[:2] else {"recall": True}), **options)


def gaussian(*shape):
    return Normal(torch.randn(*shape, 3), torch.rand(*shape, 3) + 0.5).to_event(1)


@recalling
def test_recall_is_what_was_written(name, build_memory):
    """The last Gaussians, newest first, untouched, with the shares that the memory tells."""
    memory = recalling_memory(name, build_memory)
    posteriors = [gaussian(B) for _ in range(6)]
    with gtm.use_memory(memory), gtm.record_memory() as tape, pyro.plate("sequences", B):
        for t in range(7):
            gtm.read()
            shares, locations, scales = gtm.recall()
            # The zeros before the first latent were written too, and have no Gaussian.
            count = min(t + 1, memory.recall_length)
            assert shares.shape == (B, memory.read_shape[0], count)
            assert locations.shape[:2] == scales.shape[:2] == (B, count)
            latest = posteriors[:t][::-1][:count]
            told = tape["log_shares"][-1]
            assert shares[..., : len(latest)].equal(told[..., : len(latest)])
            assert shares[..., len(latest) :].eq(NEVER).all()
            for age, posterior in enumerate(latest):
                assert locations[:, age].equal(posterior.base_dist.loc)
                assert scales[:, age].equal(posterior.base_dist.scale)
            if t < 6:
                gtm.write(posteriors[t].sample(), posteriors[t])


def test_recall_twice_is_recall_once(build_memory):
    with gtm.use_memory(build_memory("associative")):
        gtm.read()
        gtm.write(torch.zeros(B, 3), gaussian(B))
        gtm.read()
        first, second = gtm.recall(), gtm.recall()
    assert all(one.equal(other) for one, other in zip(first, second, strict=True))


@recalling
def test_what_has_no_gaussian_is_not_recalled(name, build_memory):
    """A latent alone, and a Gaussian masked out, of those sequences that it is masked for."""
    memory, there = recalling_memory(name, build_memory), torch.tensor([True, False, True])
    with gtm.use_memory(memory):
        for distribution in (gaussian(B), None, gaussian(B).mask(there)):
            gtm.read()
            gtm.write(torch.randn(B, 3), distribution)
        gtm.read()
        shares = gtm.recall().log_shares
    assert shares[..., 1].eq(NEVER).all()
    assert shares[..., 0].eq(NEVER).all(-1).equal(~there)
    assert shares[..., 2].gt(NEVER).all()


def test_recall_after_a_whole_sequence(build_memory):
    """Of its latents no Gaussian is known; of the one written right before it there is."""
    posterior = gaussian(B)
    with gtm.use_memory(build_memory("associative", slots=6)):
        gtm.read()
        gtm.write(torch.randn(B, 3), posterior)
        gtm.unroll(torch.randn(3, B, 3))
        gtm.read()
        shares, locations, _ = gtm.recall()
    assert shares.gt(NEVER).all(0).all(0).tolist() == [False, False, False, True, False]
    assert locations[:, 3].equal(posterior.base_dist.loc)


def test_recall_comes_after_a_read(build_memory):
    sentence = "nothing was read yet in this step; call gtm.read first"
    with gtm.use_memory(build_memory("associative")):
        with pytest.raises(RuntimeError, match=sentence):
            gtm.recall()
        gtm.read()
        gtm.recall()
        gtm.write(torch.zeros(B, 3))
        with pytest.raises(RuntimeError, match=sentence):
            gtm.recall()


@pytest.mark.parametrize("name", ["vrnn", "ntm", "lru", "dnc"])
def test_recall_needs_a_memory_that_tells(name, build_memory):
    memory = build_memory(name)
    with gtm.use_memory(memory):
        gtm.read()
        with pytest.raises(RuntimeError, match=rf"{type(memory).__name__} does not tell what its"):
            gtm.recall()


@pytest.mark.parametrize(
    "distribution",
    [
        Normal(torch.zeros(B, 3), 1.0),
        Normal(torch.zeros(B, 3), 1.0).to_event(2),
        Laplace(torch.zeros(B, 3), 1.0).to_event(1),
        MultivariateNormal(torch.zeros(B, 3), torch.eye(3)),
        (torch.zeros(B, 3), torch.ones(B, 3)),
    ],
    ids=lambda distribution: type(distribution).__name__,
)
def test_only_diagonal_gaussians_are_written(distribution, build_memory):
    """And what was refused was not written."""
    latent = torch.randn(B, 3)
    with gtm.use_memory(build_memory("associative")):
        gtm.read()
        with pytest.raises(
            TypeError, match=r"gtm.write: distribution must be a diagonal Gaussian, .*, got"
        ):
            gtm.write(latent, distribution)
        gtm.write(latent, gaussian(B))


def test_a_distribution_changes_nothing_that_is_read(memory_name, build_memory):
    memory, latents = build_memory(memory_name), torch.randn(4, B, 3)
    contexts = []
    for written in (lambda: (), lambda: (gaussian(B),)):
        with gtm.use_memory(memory):
            for latent in latents:
                gtm.read()
                gtm.write(latent, *written())
            contexts.append(gtm.read())
    assert contexts[0].equal(contexts[1])


@pytest.mark.usefixtures("float64")
def test_recall_after_a_sequence_with_frozen_writes():
    """What was kept from writing is not there, and what was written before it still is."""
    memory = gtm.IntrospectiveMemory(latent_dim=2, slots=8, heads=1)
    with gtm.use_memory(memory):
        for value in (1.0, 2.0):
            gtm.read()
            gtm.write(torch.full((3, 2), value), Normal(value, 1.0).expand((3, 2)).to_event(1))
        with gtm.freeze_writes(from_step=3):
            gtm.unroll(torch.randn(3, 3, 2))
        gtm.read()
        recalled = gtm.recall()
    known = [
        age for age in range(recalled.locations.shape[-2]) if recalled.log_shares[0, 0, age] > -1e6
    ]
    assert [recalled.locations[0, age, 0].item() for age in known] == [2.0, 1.0]
