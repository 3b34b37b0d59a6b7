"""A sequence in blocks: checkpointed, compiled, seen by other handlers or by none."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.internals.compiling import CannotCompileError
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder

pytestmark = pytest.mark.usefixtures("float64")

T, B, Z = 5, 3, 3

SETTINGS = {
    "default": gtm.Unrolling(),
    "every step": gtm.Unrolling(checkpoint_every=1),
    "does not divide": gtm.Unrolling(checkpoint_every=3),
    "whole": gtm.Unrolling(checkpoint_every=T),
    "longer": gtm.Unrolling(checkpoint_every=T + 4),
}


@pytest.fixture(params=SETTINGS)
def unrolling(request):
    return SETTINGS[request.param]


@pytest.fixture(params=[Trace_ELBO, TraceMeanField_ELBO])
def bound(request):
    return request.param()


def loss_of(pair, unrolling, bound, frames, controls=None, kind="filtering", frames_per_chunk=0):
    pair = pair.laid_out("stacked")
    pair.program.checkpoint_every = frames_per_chunk
    model = gtm.use_memory(pair.memory, unrolling=unrolling)(pair.program.model)
    guide = (
        gtm.FilteringGuide(model)
        if kind == "filtering"
        else gtm.use_memory(pair.memory, unrolling=unrolling)(pair.program.guide)
    )
    pyro.set_rng_seed(1)
    return bound.differentiable_loss(model, guide, frames, controls)


def reference(pair, bound, frames, controls=None):
    """Step by step, in the layout that has a site for each."""
    pair = pair.laid_out("per_step")
    pyro.set_rng_seed(1)
    return bound.differentiable_loss(pair.model(), pair.ordinary_guide(), frames, controls)


@pytest.fixture
def assert_same(assert_same_gradients):
    """The same loss and gradients."""

    def check(pair, loss, expected):
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
        assert_same_gradients(pair.gradients(loss), pair.gradients(expected))

    return check


def test_same_loss_and_gradients(
    memory_name, unrolling, bound, make_model, make_frames, assert_same
):
    pair, frames = make_model(memory_name), make_frames()
    assert_same(pair, loss_of(pair, unrolling, bound, frames), reference(pair, bound, frames))


@pytest.mark.parametrize("frames_per_chunk", [1, 3, T, T + 4])
def test_with_the_frames_in_chunks_too(
    memory_name, frames_per_chunk, bound, make_model, make_frames, assert_same
):
    """The program's setting of the same name; its chunks are not the blocks of the recurrence."""
    pair, frames = make_model(memory_name, "gaussian"), make_frames(likelihood="gaussian")
    settings = gtm.Unrolling(checkpoint_every=2)
    loss = loss_of(pair, settings, bound, frames, frames_per_chunk=frames_per_chunk)
    assert_same(pair, loss, reference(pair, bound, frames))


@pytest.mark.parametrize("frames_per_chunk", [0, 3])
def test_with_an_ordinary_guide(
    memory_name, unrolling, frames_per_chunk, make_model, make_frames, assert_same
):
    pair, frames, bound = make_model(memory_name), make_frames(), TraceMeanField_ELBO()
    loss = loss_of(pair, unrolling, bound, frames, None, "ordinary", frames_per_chunk)
    assert_same(pair, loss, reference(pair, bound, frames))


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"posterior": "direct"},
        {"writes": "latent+frame"},
        {"control_dim": 2},
        {"decoder_input": "latent"},
        {"writes": "latent+frame", "posterior": "direct", "control_dim": 2},
    ],
    ids=lambda options: "+".join(options),
)
def test_with_every_kind_of_program(
    memory_name, every, options, make_model, make_frames, assert_same
):
    pair, frames, bound = make_model(memory_name, **options), make_frames(), Trace_ELBO()
    controls = torch.randn(T, B, 2) if "control_dim" in options else None
    settings = gtm.Unrolling(checkpoint_every=every)
    loss = loss_of(pair, settings, bound, frames, controls, frames_per_chunk=every)
    assert_same(pair, loss, reference(pair, bound, frames, controls))


@pytest.mark.parametrize("kind", ["filtering", "ordinary"])
@pytest.mark.parametrize("every", [0, 1, 3])
def test_with_particles(memory_name, every, kind, make_model, make_frames, assert_same):
    """In a plate of their own, with controls, which are the same for all particles."""
    pair, frames = make_model(memory_name, control_dim=2), make_frames()
    controls = torch.randn(T, B, 2)
    bound = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=2)
    settings = gtm.Unrolling(checkpoint_every=every)
    loss = loss_of(pair, settings, bound, frames, controls, kind, frames_per_chunk=every)
    assert_same(pair, loss, reference(pair, bound, frames, controls))


class Watch(Messenger):
    """Sees the kinds of all messages, and has no part in any."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _process_message(self, msg):
        self.seen.append(msg["type"])


def test_one_message_for_all_steps(unrolling, make_model, make_frames):
    """Or the rest of this file would compare a loop with itself."""
    with Watch() as watch:
        loss_of(make_model("ntm"), unrolling, Trace_ELBO(), make_frames())
    assert [kind for kind in watch.seen if kind.startswith("gtm_")] == [
        "gtm_begin",
        "gtm_recurrence",
    ]


def saved_bytes(pair, unrolling, frames, frames_per_chunk=0):
    """What PyTorch's graph keeps for the backward pass, each storage counted once."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(pair, unrolling, Trace_ELBO(), frames, frames_per_chunk=frames_per_chunk)
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_checkpointing_keeps_less(memory_name, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames(num_steps=16)
    everything = saved_bytes(pair, gtm.Unrolling(), frames)
    states = saved_bytes(pair, gtm.Unrolling(checkpoint_every=4), frames)
    states_and_inputs = saved_bytes(pair, gtm.Unrolling(checkpoint_every=4), frames, 4)
    assert states_and_inputs < states < everything


def test_checkpointing_runs_each_block_again(memory_name, make_model, make_frames, monkeypatch):
    """When its turn comes, the last one first: no more than one block is there at a time."""
    pair, frames = make_model(memory_name, control_dim=1), make_frames()
    controls = (
        torch.arange(float(T)).expand(1, B, T).permute(2, 1, 0)
    )  # (T, B, 1), the number of each step
    taken, step = [], pair.memory.step

    def watched(state, latent, control):
        taken.append(int(control[0, 0]))
        return step(state, latent, control)

    monkeypatch.setattr(pair.memory, "step", watched)
    for every, again in [(0, []), (2, [4, 2, 3, 0, 1]), (3, [3, 4, 0, 1, 2]), (T, [*range(T)])]:
        settings = gtm.Unrolling(checkpoint_every=every)
        taken.clear()
        loss = loss_of(pair, settings, Trace_ELBO(), frames, controls)
        # With blocks to run again, one step is taken first to find the weights they depend on.
        assert taken == ([0] if every else []) + [*range(T)]
        taken.clear()
        loss.backward()
        assert taken == again
        with torch.no_grad():
            taken.clear()
            loss_of(pair, settings, Trace_ELBO(), frames, controls)
        assert taken == [*range(T)], "without gradients nothing is run again"


@pytest.mark.parametrize("name", ["checkpoint_every", "compile_steps"])
@pytest.mark.parametrize("value", [-1, 2.0, True, "3", None])
def test_impossible_settings_are_named(name, value):
    sentence = rf"^Unrolling: {name} must be a non-negative integer, got {value!r}$"
    with pytest.raises(ValueError, match=sentence):
        gtm.Unrolling(**{name: value})


def _follow(context, latent):
    return latent, ()


def _unroll(latents, controls=None):
    """The contexts along given latents."""
    return gtm.unroll(_follow, latents, controls=controls).contexts


ANY_SETTING = [
    gtm.Unrolling(),
    gtm.Unrolling(checkpoint_every=2),
    gtm.Unrolling(compile_steps=2),
    gtm.Unrolling(checkpoint_every=3, compile_steps=2),
]


def said_if_in_vain(unrolling, step_by_step=True):
    """What needs blocks says so where each step is a message, and nothing is said otherwise."""
    if step_by_step and (unrolling.checkpoint_every or unrolling.compile_steps):
        return pytest.warns(RuntimeWarning, match="one by one, without checkpoint_every and")
    return nullcontext()


@pytest.mark.parametrize("unrolling", ANY_SETTING, ids=str)
def test_tape_of_every_step(memory_name, unrolling, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames()
    with said_if_in_vain(unrolling), gtm.record_memory() as tape:
        loss_of(pair, unrolling, Trace_ELBO(), frames)
    with gtm.record_memory() as expected:
        pyro.set_rng_seed(1)
        pair.laid_out("per_step").filtering_guide()(frames)
    assert tape.num_steps == expected.num_steps == T
    assert tape.names == expected.names
    for name in ("contexts", "latents"):
        torch.testing.assert_close(getattr(tape, name), getattr(expected, name), rtol=1e-10, atol=0)
    for name in tape.names:
        torch.testing.assert_close(tape[name], expected[name], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("unrolling", ANY_SETTING, ids=str)
@pytest.mark.parametrize("order", ["inside", "outside"])
def test_lesions_have_their_effect(memory_name, unrolling, order, build_memory):
    memory, latents = build_memory(memory_name), torch.randn(T, B, Z)
    lesion = gtm.lesion_memory(steps=[2])
    use = gtm.use_memory(memory, unrolling=unrolling)
    handlers = [lesion, use] if order == "outside" else [use, lesion]
    with said_if_in_vain(unrolling), handlers[0], handlers[1]:
        contexts = _unroll(latents)
    with gtm.use_memory(memory):
        whole = _unroll(latents)
    heads, width = memory.read_shape
    assert contexts[:2].equal(whole[:2])
    assert not contexts[2, :, : heads * width].any()
    assert whole[2, :, : heads * width].any()


HOOKS = ["_pyro_gtm_read", "_pyro_post_gtm_read", "_pyro_gtm_write", "_pyro_post_gtm_write"]


def own_handler(hook, seen):
    """A handler of a user's own that sees one kind of message, and notes it."""
    return type("Own", (Messenger,), {hook: lambda self, msg: seen.append(msg["type"])})()


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("order", ["inside", "outside"])
def test_a_handler_of_messages_is_refused(hook, order, unrolling, build_memory):
    """It would be passed over: a whole sequence sends none; nothing of it is run."""
    seen = []
    own, use = own_handler(hook, seen), gtm.use_memory(build_memory("lru"), unrolling=unrolling)
    handlers = [own, use] if order == "outside" else [use, own]
    sentence = (
        f"^Own handles the message '{hook.rpartition('_')[2]}' of every step, which a whole "
        r"sequence .* does not send: .* program.with_layout\('per_step'\)$"
    )
    with handlers[0], handlers[1], pytest.raises(RuntimeError, match=sentence):
        _unroll(torch.randn(T, B, Z))
    assert not seen


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("order", ["inside", "outside"])
def test_a_handler_of_messages_sees_every_step_of_a_loop(hook, order, build_memory):
    seen, latents = [], torch.randn(T, B, Z)
    own, use = own_handler(hook, seen), gtm.use_memory(build_memory("lru"))
    handlers = [own, use] if order == "outside" else [use, own]
    with handlers[0], handlers[1], pyro.plate("sequences", B):
        contexts = []
        for latent in latents:
            contexts.append(gtm.read())
            gtm.write(latent)
    assert seen == [f"gtm_{hook.rpartition('_')[2]}"] * T
    with gtm.use_memory(use.memory):
        torch.testing.assert_close(torch.stack(contexts), _unroll(latents), rtol=1e-12, atol=0)


class Doubled(gtm.handlers.Intervention):
    """Changes what a step sees and what it gives; notes which steps there were."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def before(self, memory, step, inputs):
        self.steps.append(step)
        return inputs._replace(latent=2 * inputs.latent)

    def after(self, memory, step, result):
        return result._replace(context=3 * result.context)


@pytest.mark.parametrize("unrolling", ANY_SETTING, ids=str)
@pytest.mark.parametrize("order", ["inside", "outside"])
def test_an_intervention_of_a_users_own_takes_part_in_every_step(
    memory_name, unrolling, order, build_memory
):
    memory, latents, own = build_memory(memory_name), torch.randn(T, B, Z), Doubled()
    use = gtm.use_memory(memory, unrolling=unrolling)
    handlers = [own, use] if order == "outside" else [use, own]
    with said_if_in_vain(unrolling), handlers[0], handlers[1]:
        contexts = _unroll(latents)
    assert own.steps == [*range(T)]
    with gtm.use_memory(memory):
        expected = 3 * _unroll(2 * latents)
    torch.testing.assert_close(contexts, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("unrolling", ANY_SETTING[:2], ids=str)
def test_the_innermost_memory_answers(unrolling, build_memory):
    outer, inner, latents = build_memory("ntm"), build_memory("vrnn"), torch.randn(T, B, Z)
    with gtm.use_memory(outer, "outer", unrolling):
        alone = _unroll(latents[:2])
        with gtm.use_memory(inner, "inner", unrolling):
            nested = _unroll(latents)
        after = _unroll(latents[2:])
    with gtm.use_memory(inner, "inner"):
        assert _unroll(latents).equal(nested)
    with gtm.use_memory(outer, "outer"):
        assert _unroll(latents).equal(torch.cat([alone, after]))


class Part(NamedTuple):
    """What a program does with some steps: all at once, or each by hand."""

    steps: int
    at_once: bool


@pytest.mark.parametrize("unrolling", ANY_SETTING[:2], ids=str)
@pytest.mark.parametrize(
    "parts",
    [
        [Part(2, True), Part(3, True)],
        [Part(2, False), Part(3, True)],
        [Part(3, True), Part(1, False), Part(1, True)],
    ],
    ids=lambda parts: "+".join(f"{p.steps}{'at once' * p.at_once}" for p in parts),
)
def test_calls_go_on_where_the_last_one_ended(memory_name, unrolling, parts, build_memory):
    memory = build_memory(memory_name, control_dim=2)
    latents, controls = torch.randn(T, B, Z, requires_grad=True), torch.randn(T, B, 2)
    state, written, expected = memory.initial_state((B,)), torch.zeros(B, Z), []
    for t in range(T):
        state, context, _ = memory.step(state, written, controls[t])
        expected.append(context)
        written = latents[t]
    expected = torch.stack(expected)

    found, begin = [], 0
    by_hand = not all(part.at_once for part in parts)
    said = said_if_in_vain(unrolling, by_hand)
    with said, gtm.use_memory(memory, unrolling=unrolling), pyro.plate("sequences", B):
        for steps, at_once in parts:
            end = begin + steps
            if at_once:
                found += _unroll(latents[begin:end], controls[begin:end])
            else:
                for t in range(begin, end):
                    found.append(gtm.read(controls[t]))
                    gtm.write(latents[t])
            begin = end
    found = torch.stack(found)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(found)
    one, other = (torch.autograd.grad((c * weights).sum(), latents)[0] for c in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_context_in_hand_is_refused(build_memory):
    """A whole sequence has reads of its own: it begins, or follows a write."""
    memory, latents = build_memory("vrnn"), torch.randn(T, B, Z)
    with gtm.use_memory(memory):
        gtm.read()
        with pytest.raises(RuntimeError, match="a context was read and no latent written for it"):
            _unroll(latents)
        gtm.begin()
        contexts = _unroll(latents)
    with gtm.use_memory(memory):
        assert _unroll(latents).equal(contexts)


def test_particles_after_steps_without(memory_name, build_memory):
    """What one sequence has written so far, each of its particles has."""
    memory = build_memory(memory_name)
    before, latents = torch.randn(2, B, Z), torch.randn(3, 4, B, Z)
    with gtm.use_memory(memory):
        _unroll(before)
        contexts = _unroll(latents)  # (3, 4, B, C)
    for particle in range(4):
        with gtm.use_memory(memory):
            alone = _unroll(torch.cat([before, latents[:, particle]]))
        torch.testing.assert_close(contexts[:, particle], alone[2:], rtol=1e-11, atol=1e-14)


def test_gradients_of_gradients(memory_name, bound, make_model, make_frames, assert_same_gradients):
    """By what goes into the loop and by its weights: those of the other layout."""
    pair, frames = make_model(memory_name, "gaussian"), make_frames(likelihood="gaussian")
    frames.requires_grad_()
    found = []
    for loss in (loss_of(pair, gtm.Unrolling(), bound, frames), reference(pair, bound, frames)):
        first = [*torch.autograd.grad(loss, [frames, *pair.memory.parameters()], create_graph=True)]
        found.append(pair.gradients(sum(gradient.square().sum() for gradient in first)))
    assert_same_gradients(*found)


def test_gradients_of_gradients_of_checkpointed_blocks_are_refused(make_model, make_frames):
    """Those by what goes into the loop too: the weights' part in them would be missing."""
    pair, frames = make_model("vrnn"), make_frames().requires_grad_()
    loss = loss_of(pair, gtm.Unrolling(checkpoint_every=2), TraceMeanField_ELBO(), frames)
    sentence = r"checkpoint_every must be 0 for a double backward \(create_graph=True\)"
    with pytest.raises(RuntimeError, match=sentence):
        torch.autograd.grad(loss, frames, create_graph=True)


@pytest.mark.parametrize("memory", ["vrnn", "introspective"])  # which themselves can run in it
@pytest.mark.parametrize("unrolling", ANY_SETTING[:2], ids=str)
def test_within_autocast(memory, unrolling, make_model, make_frames):
    """A user's own, round everything: it trains, and the weights' gradients are of their dtype."""
    torch.set_default_dtype(torch.float32)
    pair, frames = make_model(memory), make_frames()
    expected = loss_of(pair, unrolling, Trace_ELBO(), frames)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(pair, unrolling, Trace_ELBO(), frames)
    # Of 8 bits in each product, on some 25 nats a frame.
    torch.testing.assert_close(loss.float(), expected, rtol=0.02, atol=0)
    for gradient in pair.gradients(loss).values():
        assert gradient is None or (gradient.dtype == torch.float32 and gradient.isfinite().all())


# PyTorch's compiler warns of parts of its own, and would take a warning that is an error for a
# reason not to compile.
WARNS_OF_ITSELF = pytest.mark.filterwarnings("default")


@pytest.fixture
def compiled_by(monkeypatch):
    """Have another backend make what dynamo has found, and count what is compiled."""
    compile_, calls = torch.compile, []

    def replace(backend):
        def compile_with(function, *, options=None, **settings):
            calls.append(function)
            return compile_(function, backend=backend, **settings)

        monkeypatch.setattr(torch, "compile", compile_with)
        return calls

    return replace


@WARNS_OF_ITSELF
def test_steps_can_be_compiled(make_model, make_frames, compiled_by, assert_same):
    """All but the compiler's own work: one graph a block, nothing that it cannot follow."""
    calls = compiled_by("eager")
    pair, frames, bound = make_model("vrnn"), make_frames(num_steps=4), Trace_ELBO()
    for _ in range(2):
        loss = loss_of(pair, gtm.Unrolling(compile_steps=2), bound, frames)
        assert_same(pair, loss, reference(pair, bound, frames))
        assert len(calls) == 1, "a block of one size is compiled once"


@WARNS_OF_ITSELF
def test_more_shapes_than_are_compiled_are_one_sentence(make_model, make_frames, compiled_by):
    """PyTorch compiles one function for so many shapes and no more: here the limit is low."""
    compiled_by("eager")
    pair, settings = make_model("vrnn"), gtm.Unrolling(compile_steps=2)
    with torch._dynamo.config.patch(recompile_limit=2):
        loss_of(pair, settings, Trace_ELBO(), make_frames(4, 2))
        with pytest.raises(CannotCompileError) as refused:
            loss_of(pair, settings, Trace_ELBO(), make_frames(4, 3))
    assert str(refused.value) == (
        "RecurrentMemory was compiled anew too often: compile_steps wants few different lengths of "
        "sequences and sizes of batches"
    )


def test_nothing_is_compiled_without_gradients(make_model, make_frames, compiled_by):
    calls = compiled_by("eager")
    pair, frames = make_model("vrnn"), make_frames()
    with torch.no_grad():
        loss = loss_of(pair, gtm.Unrolling(compile_steps=2), Trace_ELBO(), frames)
    assert not calls
    torch.testing.assert_close(loss, reference(pair, Trace_ELBO(), frames), rtol=1e-10, atol=0)


class Curious(gtm.RecurrentMemory):
    """Looks at a number, which no graph can."""

    def step(self, state, latent, control=None):
        if latent.sum().item() > 1e6:
            raise ValueError
        return super().step(state, latent, control)


def test_a_memory_that_cannot_be_compiled_is_one_sentence():
    with (
        gtm.use_memory(Curious(Z, 4), unrolling=gtm.Unrolling(compile_steps=2)),
        pytest.raises(CannotCompileError) as refused,
    ):
        _unroll(torch.randn(4, B, Z))
    sentence = str(refused.value)
    assert sentence.startswith("Curious cannot be compiled here (")
    assert sentence.endswith("): leave compile_steps at 0")
    assert "\n" not in sentence


@pytest.mark.slow
@WARNS_OF_ITSELF
def test_compiled_steps(memory_name):
    """In one block of all steps: the same values and gradients.

    At just these sizes the compiler of PyTorch 2.13 has wrong gradients of a scatter (the DNC's
    allocation was one), and for the NTM, where it may write into buffers it has read.
    """
    steps, size, event = 7, 3, (1, 4, 4)
    pyro.set_rng_seed(0)
    options = {} if memory_name == "vrnn" else {"slots": 5}
    memory = gtm.make_memory(memory_name, latent_dim=size, hidden_dim=8, **options)
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=size,
        encoder=MLPEncoder(event, 8, feature_dim=8),
        decoder=MLPDecoder(size + memory.context_dim, 8, event),
        likelihood=gtm.BernoulliLikelihood(event),
    )
    frames = torch.rand(steps, 3, *event).round()
    weights = [*memory.parameters(), *program.parameters()]
    results = []
    for settings in (gtm.Unrolling(), gtm.Unrolling(compile_steps=steps)):
        pyro.set_rng_seed(3)
        model = gtm.use_memory(memory, unrolling=settings)(program.model)
        guide = gtm.FilteringGuide(model)
        loss = Trace_ELBO().differentiable_loss(model, guide, frames)
        results.append((loss.detach(), *torch.autograd.grad(loss, weights)))
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@WARNS_OF_ITSELF
def test_compiled_and_checkpointed(make_model, make_frames, assert_same):
    pair, frames = make_model("vrnn", control_dim=2), make_frames()
    controls = torch.randn(T, B, 2)
    settings = gtm.Unrolling(checkpoint_every=4, compile_steps=2)
    loss = loss_of(pair, settings, Trace_ELBO(), frames, controls)
    assert_same(pair, loss, reference(pair, Trace_ELBO(), frames, controls))


def test_checkpointing_refuses_graphs_from_before(build_memory):
    """Each block would go back through the graph of ``before``, freed by the first that does."""
    before = torch.ones(3, requires_grad=True) * 2
    unrolling = gtm.Unrolling(checkpoint_every=2)
    with (
        gtm.use_memory(build_memory("dnc"), unrolling=unrolling),
        pytest.raises(RuntimeError, match=r"checkpoint_every must be 0 .* computed before"),
    ):
        gtm.unroll(lambda context, z: (z * before, ()), torch.ones(4, 2, 3))
