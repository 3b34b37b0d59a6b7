"""The associative memory against its equations, all its steps at once, and each term alone."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroSample

import pyro_gtm as gtm
from pyro_gtm.internals.unrolling import Recalls
from pyro_gtm.memory import NEVER, associative
from pyro_gtm.memory.associative import TERMS
from pyro_gtm.memory.controller import LSTMController

RATE = associative.RATE


def make(**options):
    sizes = {"latent_dim": 2, "slots": 4, "heads": 2, "hidden_dim": 3, "query_dim": 4}
    return gtm.AssociativeMemory(**{**sizes, "key_dim": 3, "positions": 3, **options})


def random_weights(memory):
    """So that no particular initialisation is relied on."""
    for parameter in memory.parameters():
        parameter.data.normal_(std=0.7)
    memory.sharpness.data.div_(RATE)
    if memory.place_dim:
        memory.nearness.data.div_(RATE)
        memory.move.data.div_(RATE)
    return memory


def inputs_of(memory, steps, shape):
    """Latents with zeros in front, and controls if it has some: ``(T, *shape, n)``."""
    latents = torch.randn(steps, *shape, memory.latent_dim)
    latents[0] = 0
    controls = torch.randn(steps, *shape, memory.control_dim) if memory.control_dim else None
    return latents.requires_grad_(), None if controls is None else controls.requires_grad_()


def step_by_step(memory, latents, controls=None, write=None, state=None):
    """The last state, and every step: latent t is what was written before step t."""
    state = memory.initial_state(latents.shape[1:-1]) if state is None else state
    steps = []
    for t, latent in enumerate(latents):
        control = None if controls is None else controls[t]
        steps.append(memory.step(state, latent, control, write=write is None or write[t]))
        state = steps[-1].state
    return state, steps


def all_at_once(memory, latents, controls=None):
    """As :func:`step_by_step`: the latent written in the last step is seen by none."""
    state = memory.initial_state(latents.shape[1:-1])
    later = torch.cat([latents[1:], torch.randn_like(latents[:1])])
    return memory.unroll(state, latents[0], later, controls)


def assert_same_gradients(losses, inputs):
    gradients = [
        torch.autograd.grad(loss, inputs, retain_graph=True, materialize_grads=True)
        for loss in losses
    ]
    assert any(gradient.any() for gradient in gradients[0])
    for one, other in zip(*gradients, strict=True):
        size = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12 * size)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("shape", "steps", "options", "frozen"),
    [
        ((), 7, {}, ()),
        ((2,), 7, {"control_dim": 2}, ()),
        ((2, 3), 3, {"slots": 6, "control_dim": 1, "place_dim": 2}, ()),
        ((2,), 6, {"slots": 1, "heads": 1, "control_dim": 2}, ()),
        ((2,), 7, {"slots": 6, "positions": 2}, ()),
        ((2,), 8, {"control_dim": 2}, (4, 5, 6, 7)),
        ((2,), 8, {"slots": 6, "control_dim": 2}, (3, 4)),
        ((2,), 5, {"control_dim": 2}, (0, 1, 2, 3, 4)),
        ((2,), 7, {"control_dim": 2}, (0, 1, 2)),
        ((2,), 5, {}, (0,)),
        ((2,), 5, {"control_dim": 2, "terms": ("succession", "place")}, ()),
        ((), 5, {"control_dim": 2, "terms": "content, position"}, ()),
        *[((2,), 5, {"control_dim": 2, "terms": (term,)}, ()) for term in TERMS],
    ],
    ids=str,
)
def test_equals_the_scalar_oracle(shape, steps, options, frozen, oracles):
    """Contexts and details, and all gradients, with gaps in writing and more frames than slots."""
    memory = random_weights(make(**options))
    latents, controls = inputs_of(memory, steps, shape)
    write = [t not in frozen for t in range(steps)]
    expected = oracles.associative(memory, latents, controls, write)
    _, found = step_by_step(memory, latents, controls, write)
    losses = [0.0, 0.0]
    for t, (wanted, step) in enumerate(zip(expected, found, strict=True)):
        filled = wanted["read_weights"].shape[-1] if "read_weights" in wanted else 0
        assert filled == min(sum(write[1 : t + 1]), memory.slots)
        weights, logs = step.details["read_weights"], step.log_shares
        assert weights[..., filled:].eq(0).all() and logs[..., filled:].eq(NEVER).all()
        torch.testing.assert_close(logs[..., :filled].exp(), weights[..., :filled])
        for name, value in wanted.items():
            has = step.context if name == "context" else step.details[name]
            has = has if name in ("context", "read_gates") else has[..., :filled]
            torch.testing.assert_close(
                has,
                value,
                rtol=1e-10,
                atol=1e-12,
                msg=lambda text, at=f"{name} of step {t}": f"{at}: {text}",
            )
            direction = torch.randn_like(value)
            losses[0] = losses[0] + (direction * has).sum()
            losses[1] = losses[1] + (direction * value).sum()
        assert {n for n in step.details if n.startswith("logits")} == {
            f"logits_{name}" for name in memory.terms
        }
    inputs = [t for t in (latents, controls, *memory.parameters()) if t is not None]
    assert_same_gradients(losses, inputs)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("block", [None, 1, 3], ids=lambda n: f"steps in a block: {n or 'all'}")
@pytest.mark.parametrize("shape", [(), (2, 3)], ids=str)
@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (1, {"control_dim": 2}),
        (3, {"control_dim": 2}),
        (4, {}),
        (9, {"control_dim": 2}),
        (9, {"slots": 12, "positions": 5}),
        (7, {"slots": 1, "heads": 1}),
        (7, {"control_dim": 2, "terms": ("place",)}),
    ],
    ids=str,
)
def test_all_steps_at_once_equal_step_after_step(steps, options, shape, block, monkeypatch):
    """Contexts, log-shares and the state, and the gradients of all of them."""
    memory = random_weights(make(**options))
    latents, controls = inputs_of(memory, steps, shape)
    if block is not None:
        at_once = block * math.prod(shape) * memory.heads * steps
        monkeypatch.setattr(associative, "LOGITS_AT_ONCE", at_once)
    whole = all_at_once(memory, latents, controls)
    state, each = step_by_step(memory, latents, controls)
    times = torch.arange(steps)
    shares = Recalls(
        torch.stack([step.log_shares for step in each]), times[:, None] - 1 - times[:-1]
    ).by_step()
    found = [whole.contexts, whole.log_shares, *whole.state]
    expected = [torch.stack([step.context for step in each]), shares, *state]
    names = ["contexts", "log_shares", *state._fields]
    losses = [0.0, 0.0]
    for name, one, other in zip(names, found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=name)
        known = torch.where(other > NEVER / 2, torch.randn_like(other), 0.0)
        losses[0] = losses[0] + (known * one).sum()
        losses[1] = losses[1] + (known * other).sum()
    assert_same_gradients(
        losses, [t for t in (latents, controls, *memory.parameters()) if t is not None]
    )


@pytest.mark.usefixtures("float64")
def test_goes_on_step_by_step_after_all_at_once():
    """The state of many steps at once is the state of a memory that goes on."""
    memory = random_weights(make(control_dim=2))
    latents, controls = inputs_of(memory, 11, (2,))
    whole = all_at_once(memory, latents[:6], controls[:6])
    _, rest = step_by_step(memory, latents[6:], controls[6:], state=whole.state)
    _, each = step_by_step(memory, latents, controls)
    for one, other in zip(rest, each[6:], strict=True):
        torch.testing.assert_close(one.context, other.context, rtol=1e-10, atol=1e-12)


def test_two_thousand_steps_stay_finite():
    """In blocks, in single precision, with gradients."""
    memory = make(slots=2000, control_dim=2, positions=50)
    latents, controls = inputs_of(memory, 2000, ())
    whole = all_at_once(memory, latents, controls)
    assert whole.contexts.isfinite().all() and whole.log_shares.isfinite().all()
    assert all(field.isfinite().all() for field in whole.state)
    whole.contexts.sum().backward()
    for tensor in (latents, controls, *memory.parameters()):
        assert tensor.grad.isfinite().all()
    assert latents.grad.any(-1).all()


def test_an_unfilled_slot_is_never_read():
    """Whatever lies in it: the context of the first steps is the same to the bit."""
    memory = make(control_dim=2)
    clean = memory.initial_state((3,))
    dirty = clean._replace(
        **{
            name: 1e3 * torch.randn_like(getattr(clean, name))
            for name in ("latents", "keys", "places")
        }
    )
    latents, controls = inputs_of(memory, 3, (3,))
    for t, (one, other) in enumerate(
        zip(
            *(step_by_step(memory, latents, controls, state=s)[1] for s in (clean, dirty)),
            strict=True,
        )
    ):
        assert one.context.equal(other.context)
        assert other.details["read_weights"][..., t:].eq(0).all()
        torch.testing.assert_close(
            other.details["read_weights"].sum(-1), torch.full((3, 2), float(t > 0))
        )


def test_the_first_step_reads_nothing_and_has_gradients():
    memory = make(control_dim=2)
    latents, controls = inputs_of(memory, 1, (3,))
    _, (first,) = step_by_step(memory, latents, controls)
    assert first.context[..., : 2 * 2].eq(0).all()
    assert not first.details["read_weights"].any() and first.log_shares.eq(NEVER).all()
    (first.context.sum() + first.log_shares.sum()).backward()
    for tensor in (latents, controls, *memory.parameters()):
        assert tensor.grad is None or tensor.grad.isfinite().all()


def alone(term, **options):
    """One head that attends by one term, without its own will: the query's weights are zero."""
    memory = make(heads=1, terms=(term,), latent_dim=6, slots=8, positions=8, **options)
    with torch.no_grad():
        for parameter in memory.query[2].parameters():
            parameter.zero_()
    return memory


def parts_of_query(memory):
    """Biases of the query: q, u, v and g."""
    return memory.query[2].bias.data.split(
        [memory.key_dim, memory.positions, memory.positions, memory.latent_dim]
    )


def attended(memory, latents, controls=None):
    """In each step the step in which the latent most attended to was written (1 for the first);
    and with what weight."""
    _, steps = step_by_step(memory, latents, controls)
    best = [step.details["read_weights"][0].max(-1) for step in steps]
    # Step t, the first being 0, has t latents behind it, the newest in slot 0.
    return [t - b.indices.item() for t, b in enumerate(best)], [b.values.item() for b in best]


def after_zeros(items):
    return torch.cat([torch.zeros(1, items.shape[-1]), items])


def test_succession_attends_to_what_followed():
    """a b c d b: what comes next is attended to where b was first followed, at c."""
    memory, items = alone("succession"), torch.eye(6)[[0, 1, 2, 3, 1]]
    memory.sharpness.data.fill_(50.0 / RATE)
    found, weights = attended(memory, after_zeros(items))
    assert found[5] == 3 and weights[5] > 0.999


def test_content_attends_to_the_key_that_is_looked_up():
    memory, items = alone("content", key_dim=6), torch.eye(6)[:5]
    with torch.no_grad():
        memory.key.weight.zero_()
        memory.key.weight[:, :6] = torch.eye(6)
        memory.key.bias.zero_()
        parts_of_query(memory)[0].copy_(100 * torch.eye(6)[2])
    found, weights = attended(memory, after_zeros(items))
    assert found[3:] == [3, 3, 3] and min(weights[3:]) > 0.999


def test_lag_counts_back_from_now():
    memory = alone("lag")
    parts_of_query(memory)[1][2] = 50.0
    found, weights = attended(memory, after_zeros(torch.randn(10, 6)))
    assert found[3:] == [t - 2 for t in range(3, 11)] and min(weights[3:]) > 0.999


def test_position_counts_from_the_start():
    """Until its slot is given up to a newer latent."""
    memory = alone("position")
    parts_of_query(memory)[2][1] = 50.0
    found, weights = attended(memory, after_zeros(torch.randn(10, 6)))
    assert found[2:10] == [2] * 8 and min(weights[2:10]) > 0.999
    assert weights[10] == pytest.approx(1 / 8)


def test_place_attends_to_what_was_met_there():
    """Round a square and back to its first corner, then on to the second."""
    memory = alone("place", control_dim=2, place_dim=2)
    with torch.no_grad():
        memory.move.copy_(torch.eye(2) / RATE)
        memory.nearness.fill_(4.0 / RATE)
    moves = torch.tensor([[0.0, 0], [1, 0], [0, 1], [-1, 0], [0, -1], [1, 0]])
    found, weights = attended(memory, after_zeros(torch.randn(5, 6)), moves)
    assert found[4:] == [1, 2] and min(weights[4:]) > 0.999


def test_terms_that_do_not_count_have_no_place():
    """Without controls there is no dead reckoning; a text names terms as a list does."""
    assert make().terms == frozenset(TERMS) - {"place"}
    assert make(control_dim=1).terms == frozenset(TERMS)
    assert make(terms="lag content").terms == {"lag", "content"}
    assert make().initial_state(()).place.shape == (0,)
    assert "move" not in dict(make().named_parameters())


@pytest.mark.parametrize("terms", [(), ("succession", "nearby"), "luck"], ids=str)
def test_impossible_terms_are_named(terms):
    with pytest.raises(
        ValueError,
        match=r"terms must be some of succession, content, lag, position, place, got \[.*\]$",
    ):
        make(terms=terms)


@pytest.mark.parametrize(
    "option",
    [
        "slots",
        "heads",
        "query_dim",
        "key_dim",
        "place_dim",
        "positions",
        "latent_dim",
        "hidden_dim",
    ],
)
def test_impossible_sizes_are_named(option):
    with pytest.raises(ValueError, match=f"AssociativeMemory: {option} must be a positive integer"):
        make(**{option: 0})


def test_positions_follow_the_slots_up_to_a_most():
    assert make(positions=None, slots=20).positions == 20
    assert make(positions=None, slots=500).positions == associative.MOST_POSITIONS


@pytest.mark.parametrize("given", [None, 3])
def test_unroll_refuses_a_wrong_control(given):
    memory = make(control_dim=2)
    controls = None if given is None else torch.zeros(4, given)
    with pytest.raises(ValueError, match="control_dim=2"):
        memory.unroll(memory.initial_state(()), torch.zeros(2), torch.zeros(4, 2), controls)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("horizon", [None, 9])
@pytest.mark.parametrize("steps", [1, 6])
def test_a_run_of_the_controller_is_its_steps(horizon, steps):
    """From any state; values and gradients."""
    controller = LSTMController(3, 4, horizon=horizon)
    inputs = torch.randn(steps, 5, 3, requires_grad=True)
    start = hidden, cell = [torch.randn(5, 4, requires_grad=True) for _ in range(2)]
    found = controller.run(inputs, hidden, cell)
    outputs = []
    for one in inputs:
        hidden, cell = controller([one], hidden, cell)
        outputs.append(hidden)
    expected = torch.stack(outputs), hidden, cell
    losses = [0.0, 0.0]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        direction = torch.randn_like(other)
        losses[0] = losses[0] + (direction * one).sum()
        losses[1] = losses[1] + (direction * other).sum()
    assert_same_gradients(losses, [inputs, *start, *controller.parameters()])


@pytest.mark.usefixtures("float64")
def test_random_weights_have_their_gradients_in_blocks(monkeypatch):
    """A block that is made again uses the weights that were drawn, not others."""
    found = []
    for at_once in (10**6, 20):
        monkeypatch.setattr(associative, "LOGITS_AT_ONCE", at_once)
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        memory = PyroModule[gtm.AssociativeMemory](2, slots=6, heads=2, hidden_dim=3)
        location = torch.ones(2, requires_grad=True)
        memory.sharpness = PyroSample(
            lambda _, location=location: dist.Normal(location, 0.1).to_event(1)
        )
        latents = torch.randn(6, 3, 2)
        with gtm.use_memory(memory):
            contexts = gtm.unroll(latents).contexts
        (gradient,) = torch.autograd.grad(contexts.square().sum(), location)
        found.append((contexts.detach(), gradient))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_place_alone_wants_controls():
    with pytest.raises(ValueError, match=r"must be more than 'place' for control_dim=0"):
        make(terms="place")
