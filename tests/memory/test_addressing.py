"""Addressing: scalar oracles, the invariants of the publications, and cases worked by hand."""

from __future__ import annotations

import pytest
import torch

import pyro_gtm as gtm
from pyro_gtm.memory import addressing

SHAPES = [(), (3,), (2, 3)]


def distribution(*shape):
    return torch.rand(shape).pow(2).add(0.01).log().softmax(-1)


def strength(*shape):
    return 8 * torch.rand(shape)


def exponent(*shape):
    return 1 + 4 * torch.rand(shape)


# What each function takes and gives: dimensions after the batch's, and how an input is drawn.
FUNCTIONS = {
    "read_words": ([("NW", torch.randn), ("RN", distribution)], ["RW"]),
    "erase_and_add": (
        [("NW", torch.randn), ("HN", distribution), ("HW", torch.rand), ("HW", torch.randn)],
        ["NW"],
    ),
    "content_weights": ([("NW", torch.randn), ("RW", torch.randn), ("R", strength)], ["RN"]),
    "interpolate": ([("RN", distribution), ("RN", distribution), ("R", torch.rand)], ["RN"]),
    "shift": ([("RN", distribution), ("RS", distribution)], ["RN"]),
    "sharpen": ([("RN", distribution), ("R", exponent)], ["RN"]),
    "decay_usage": ([("N", torch.rand), ("RN", distribution), ("HN", distribution)], ["N"]),
    "turn": ([("RW", torch.randn), ("J", torch.randn), ("J", torch.randn)], ["RW"]),
    "retention": ([("RN", distribution), ("R", torch.rand)], ["N"]),
    "update_usage": ([("N", torch.rand), ("N", distribution)], ["N"]),
    "allocate": ([("N", torch.rand)], ["N"]),
    "update_links": ([("NN", distribution), ("N", distribution), ("N", distribution)], ["NN"]),
    "update_precedence": ([("N", distribution), ("N", distribution)], ["N"]),
    "follow_links": ([("NN", distribution), ("RN", distribution)], ["RN", "RN"]),
    "product": ([("RN", torch.randn), ("NW", torch.randn)], ["RW"]),
    "mix_read_modes": ([("RN", distribution)] * 3 + [("R3", distribution)], ["RN"]),
    "kept_shares": ([("HN", distribution), ("HW", torch.rand)], ["N"]),
    "trace_origins": ([("NK", torch.rand), ("N", torch.rand), ("N", torch.rand)], ["NK"]),
    "shares_of": ([("RN", distribution), ("NK", torch.rand)], ["RK"]),
}


def test_every_function_has_its_oracle():
    assert {*FUNCTIONS, "least_used"} == set(addressing.__all__)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "sizes",
    [
        {"N": 1, "W": 3, "R": 1, "H": 2, "S": 3, "K": 1, "J": 1},
        {"N": 2, "W": 1, "R": 3, "H": 1, "S": 5, "K": 3, "J": 0},
        {"N": 5, "W": 4, "R": 2, "H": 3, "S": 3, "K": 4, "J": 2},
    ],
    ids=lambda sizes: f"N={sizes['N']}",
)
def test_equals_the_scalar_oracle(name, shape, sizes, oracles):
    """Values, and gradients with respect to every input, to 1e-10."""
    taken, given = FUNCTIONS[name]
    sizes = {**sizes, "3": 3}
    inputs = [
        draw(*shape, *(sizes[letter] for letter in letters)).requires_grad_()
        for letters, draw in taken
    ]
    extra = [0.9] if name == "decay_usage" else []
    found = getattr(addressing, name)(*inputs, *extra)
    scalars = [oracles.numbers(t, len(taken[i][0])) for i, t in enumerate(inputs)]
    expected = getattr(oracles, name)(*scalars, *extra)
    if len(given) == 1:
        found, expected = [found], [expected]
    expected = [oracles.tensor(e, len(letters)) for e, letters in zip(expected, given, strict=True)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

    direction = [torch.randn_like(t) for t in found]
    gradients = [
        torch.autograd.grad(run, inputs, direction, materialize_grads=True)
        for run in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_least_used_equals_the_scalar_oracle(shape, slots, oracles):
    """Ties included: usage is drawn from four values."""
    usage = torch.randint(4, (*shape, slots)) / 4
    for count in range(1, slots + 1):
        expected = oracles.least_used(oracles.numbers(usage, 1), count)
        assert addressing.least_used(usage, count).equal(oracles.tensor(expected, 2))


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_scale_of_key_and_word_hardly_matters(scale):
    """A zero memory is looked up uniformly, a zero key too; gradients are finite throughout."""
    memory = (scale * torch.randn(4, 5, 3)).requires_grad_()
    keys = (scale * torch.randn(4, 2, 3)).requires_grad_()
    weights = addressing.content_weights(memory, keys, torch.full((4, 2), 10.0))
    if scale <= 1e-6:
        torch.testing.assert_close(weights, torch.full((4, 2, 5), 1 / 5), rtol=0, atol=1e-4)
    else:
        unit = torch.nn.functional.cosine_similarity(
            keys.unsqueeze(-2), memory.unsqueeze(-3), dim=-1
        )
        torch.testing.assert_close(weights, (10 * unit).softmax(-1), rtol=1e-3, atol=1e-3)
    gradients = torch.autograd.grad((weights * torch.randn_like(weights)).sum(), (memory, keys))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_very_strong_keys_choose_one_slot():
    """Strengths of 1e4, in single precision: a one-hot, and no NaN forwards or backwards."""
    memory = torch.eye(3).requires_grad_()
    keys = torch.tensor([[1.0, 0.9, 0.0], [-1.0, -0.9, -0.8]], requires_grad=True)
    strengths = torch.full((2,), 1e4, requires_grad=True)
    weights = addressing.content_weights(memory, keys, strengths)
    assert weights.equal(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    for gradient in torch.autograd.grad(weights[:, 0].sum(), (memory, keys, strengths)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_a_shift_moves_the_head_around_the_circle(slots, offset):
    """From slot i to i + offset, past the ends too, with fewer slots than offsets too."""
    kernels = torch.zeros(slots, 3)
    kernels[:, 1 + offset] = 1
    heads = torch.eye(slots)  # head i stands at slot i
    moved = addressing.shift(heads, kernels)
    assert moved.argmax(-1).tolist() == [(i + offset) % slots for i in range(slots)]
    assert moved.sum(-1).equal(torch.ones(slots))


@pytest.mark.usefixtures("float64")
def test_sharpening():
    """Exponent 1 changes nothing; a great one leaves the greatest weight alone."""
    weights = torch.cat([distribution(20, 5), torch.eye(5)])
    ones = torch.ones(len(weights))
    torch.testing.assert_close(addressing.sharpen(weights, ones), weights, rtol=1e-12, atol=1e-15)
    sharp = addressing.sharpen(weights, 1e4 * ones)
    torch.testing.assert_close(sharp.sum(-1), ones)
    assert sharp[-5:].equal(torch.eye(5))
    assert sharp.argmax(-1).equal(weights.argmax(-1))


@pytest.mark.parametrize("gamma", [1.0, 5.0, 1e4])
def test_gradients_of_sharpening_where_weights_are_zero(gamma):
    """A power of zero has no logarithm."""
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]], requires_grad=True)
    exponents = torch.full((2,), gamma, requires_grad=True)
    sharp = addressing.sharpen(weights, exponents)
    assert sharp[1].tolist() == pytest.approx([0.5, 0.5, 0.0])
    for gradient in torch.autograd.grad(sharp[:, 0].sum(), (weights, exponents)):
        assert gradient.isfinite().all()


def test_ends_of_the_interpolation():
    content, previous = distribution(2, 5), distribution(2, 5)
    mixed = addressing.interpolate(content, previous, torch.tensor([0.0, 1.0]))
    assert mixed[0].equal(previous[0])
    torch.testing.assert_close(mixed[1], content[1])


def test_least_used_is_in_order():
    usage = torch.tensor([0.3, 0.1, 0.2, 0.1, 0.0])
    assert addressing.least_used(usage, 5).argmax(-1).tolist() == [4, 1, 3, 2, 0]
    assert addressing.least_used(torch.zeros(6), 3).argmax(-1).tolist() == [0, 1, 2]
    assert addressing.least_used(usage, 2).equal(torch.eye(5)[[4, 1]])


def test_allocation_by_hand():
    """The freest slot first, the lower number first of equals, and nothing where all is full."""
    usage = torch.tensor(
        [
            [0.5, 0.0, 0.8],  # all of it to the free slot
            [0.5, 0.2, 0.8],  # 0.8, then 0.2 * 0.5, then 0.2 * 0.5 * 0.2
            [0.5, 0.5, 0.5],
            [0.0, 0.0, 0.0],
            [1.0, 1.0, 1.0],
            [1.0, 1.0, 0.0],
        ],
        requires_grad=True,
    )
    expected = torch.tensor(
        [
            [0.0, 1.0, 0.0],
            [0.1, 0.8, 0.02],
            [0.5, 0.25, 0.125],
            [1.0, 0.0, 0.0],
            [0.0, 0.0, 0.0],
            [0.0, 0.0, 1.0],
        ]
    )
    allocated = addressing.allocate(usage)
    torch.testing.assert_close(allocated, expected, rtol=0, atol=2 * addressing.EPSILON)
    (gradient,) = torch.autograd.grad((allocated * torch.randn_like(allocated)).sum(), usage)
    assert gradient.isfinite().all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masked_content_equals_the_scalar_oracle(shape, oracles):
    """Values and gradients, and what is masked out makes no difference."""
    memory, keys = torch.randn(*shape, 5, 4), torch.randn(*shape, 2, 4)
    strengths, masks = strength(*shape, 2), torch.rand(*shape, 2, 4)
    masks[..., 3] = 0.0
    inputs = [t.requires_grad_() for t in (memory, keys, strengths, masks)]
    found = addressing.content_weights(*inputs)
    scalars = [oracles.numbers(t, depth) for t, depth in zip(inputs, (2, 2, 1, 2), strict=True)]
    expected = oracles.tensor(oracles.content_weights(*scalars), 2)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    direction = torch.randn_like(found)
    gradients = (torch.autograd.grad((w * direction).sum(), inputs) for w in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    elsewhere = memory + torch.tensor([0.0, 0.0, 0.0, 9.0])
    same = addressing.content_weights(elsewhere, keys, strengths, masks)
    torch.testing.assert_close(same, found, rtol=1e-10, atol=1e-12)


def test_a_slot_is_freed_by_any_head_that_read_it():
    """Exact zeros among the factors: as good as nothing is kept, and gradients are finite."""
    read_weights = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).requires_grad_()
    free_gates = torch.ones(2, requires_grad=True)
    retained = addressing.retention(read_weights, free_gates)
    torch.testing.assert_close(retained, torch.tensor([0.0, 1.0, 1.0]))
    for gradient in torch.autograd.grad(retained.sum(), (read_weights, free_gates)):
        assert gradient.isfinite().all()


def test_two_heads_erase_the_same_slot():
    """As one head would, with finite gradients: the factors kept are zero twice."""
    memory = torch.ones(2, 3, requires_grad=True)
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    erase = torch.ones(2, 3, requires_grad=True)
    add = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], requires_grad=True)
    written = addressing.erase_and_add(memory, weights, erase, add)
    torch.testing.assert_close(written, torch.tensor([[1.0, 2.0, 4.0], [1.0, 1.0, 1.0]]))
    for gradient in torch.autograd.grad(written.sum(), (memory, weights, erase, add)):
        assert gradient.isfinite().all()


def test_origins_of_two_writes_by_hand():
    """The second write erases half of the first slot, and the write before both is forgotten."""
    origins = torch.tensor([[0.0, 0.9], [0.0, 0.0]])
    origins = addressing.trace_origins(origins, torch.ones(2), torch.tensor([0.8, 0.2]))
    origins = addressing.trace_origins(origins, torch.tensor([0.5, 1.0]), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(origins, torch.tensor([[0.0, 0.4], [1.0, 0.2]]))


def test_shares_by_hand():
    """As they are where they come to less than one, else in proportion; none has no share of
    exactly zero, which had no logarithm."""
    origins = torch.tensor([[0.4, 0.0], [1.0, 1.0]], requires_grad=True)
    shares = addressing.shares_of(torch.eye(2), origins)
    torch.testing.assert_close(shares.exp(), torch.tensor([[0.4, 1e-6], [0.5, 0.5]]))
    shares[0].sum().backward()
    torch.testing.assert_close(origins.grad, torch.tensor([[1 / 0.4, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("slots, heads", [(1, 1), (2, 3), (6, 2)])
@pytest.mark.parametrize("scale", [1.0, 5.0, 100.0])
def test_invariants_of_the_dnc(dtype, slots, heads, scale):
    """Over 60 chained steps of 50 sequences whose interface is noise, mild to saturated.

    Sums of a few rounded terms may overstep a bound by their rounding, which does not build up:
    eight units in the last place are allowed.
    """
    slack = 8 * torch.finfo(dtype).eps
    memory = gtm.DNCMemory(latent_dim=3, slots=slots, heads=heads, hidden_dim=2).to(dtype)
    state = memory.initial_state((50,))

    def assert_weighting(weights):
        assert weights.min() >= -slack
        assert weights.sum(-1).max() <= 1 + slack

    for _ in range(60):
        emitted = {
            name: scale * torch.randn(50, *shape, dtype=dtype)
            for name, shape in memory.parts.items()
        }
        state, _ = memory.access(state, emitted)
        assert_weighting(state.read_weights)
        assert_weighting(state.write_weights)
        assert_weighting(state.precedence)
        assert_weighting(state.links)
        assert_weighting(state.links.mT)
        assert_weighting(addressing.allocate(state.usage))
        assert state.links.diagonal(dim1=-2, dim2=-1).eq(0).all()
        assert state.usage.min() >= -slack and state.usage.max() <= 1 + slack
        assert all(field.isfinite().all() for field in state)
