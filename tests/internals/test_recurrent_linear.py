"""A layer whose weight gradients are summed in one product, against PyTorch's own."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pyro_gtm.internals.recurrent_linear import RecurrentLinear, summing_weight_gradients_once

pytestmark = pytest.mark.usefixtures("float64")

T, B, N, H = 5, 3, 2, 4


class Recurrence(nn.Module):
    """Two layers, each called once in every step."""

    def __init__(self, kind):
        super().__init__()
        self.into = kind(N + H, H)
        self.out = kind(H, N)

    def forward(self, inputs):
        hidden, outputs = inputs.new_zeros(*inputs.shape[1:-1], H), []
        for step in inputs:
            hidden = self.into(torch.cat([step, hidden], dim=-1)).tanh()
            outputs.append(self.out(hidden))
        return torch.stack(outputs)


@pytest.fixture
def ours():
    return Recurrence(RecurrentLinear)


@pytest.fixture
def theirs(ours):
    plain = Recurrence(nn.Linear)
    plain.load_state_dict(ours.state_dict())
    return plain


def assert_close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def assert_same_gradients(ours, theirs):
    """Those that two backward passes have left, present for the same parameters."""
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if other.grad is None:
            assert one.grad is None, name
        else:
            assert other.grad.any(), f"{name}: a gradient of zeros would prove nothing"
            assert_close(one.grad, other.grad)


def weighted(outputs):
    """A loss that tells every output from every other, and is not linear in them."""
    weights = torch.linspace(1, 2, outputs.numel()).view_as(outputs)
    return (weights * outputs.sin()).sum()


@pytest.mark.parametrize("num_steps", [T, T + 4, T - 2, 1], ids="room for {}".format)
@pytest.mark.parametrize("batch_shape", [(B,), (2, 1, B), (1,), ()], ids=str)
def test_equals_a_linear_layer(num_steps, batch_shape, ours, theirs):
    """As often as announced, less often, more often; with particles, and with no batch at all."""
    inputs = torch.randn(T, *batch_shape, N)
    found, expected = (inputs.clone().requires_grad_() for _ in range(2))
    with summing_weight_gradients_once(num_steps):
        outputs = ours(found)
    reference = theirs(expected)
    assert_close(outputs, reference)
    weighted(outputs).backward()
    weighted(reference).backward()
    assert_close(found.grad, expected.grad)
    assert_same_gradients(ours, theirs)


def test_the_weights_get_one_product_each(ours):
    """What the context is for: no product of a single step is among the gradients."""

    def products(outputs):
        with torch.profiler.profile(record_shapes=True) as profile:
            outputs.sum().backward()
        wanted = [list(weight.shape) for weight in (ours.into.weight, ours.out.weight)]
        shapes = [e.input_shapes for e in profile.events() if e.name == "aten::mm"]
        return sum([left[0], right[1]] in wanted for left, right in shapes)

    inputs = torch.randn(T, B, N)
    assert products(ours(inputs)) == 2 * T
    with summing_weight_gradients_once(T):
        outputs = ours(inputs)
    assert products(outputs) == 2


def test_one_layer_called_more_often_in_a_step_than_another(ours, theirs):
    def twice(layers, inputs):
        hidden = inputs.new_zeros(B, H)
        for step in inputs:
            for _ in range(2):
                hidden = layers.into(torch.cat([step, hidden], dim=-1)).tanh()
        return layers.out(hidden)

    inputs = torch.randn(T, B, N)
    with summing_weight_gradients_once(T):
        outputs = twice(ours, inputs)
    weighted(outputs).backward()
    weighted(twice(theirs, inputs)).backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize(
    "sizes", [[(B,), (2, B), (B,)], [(2, B), (B,), (B,)], [(B,), (B + 1,), (B,), (B + 1,)]], ids=str
)
def test_batch_shapes_that_change(sizes, ours, theirs):
    inputs = [torch.randn(*size, H) for size in sizes]
    with summing_weight_gradients_once(len(sizes)):
        outputs = torch.cat([ours.out(step).flatten() for step in inputs])
    reference = torch.cat([theirs.out(step).flatten() for step in inputs])
    assert_close(outputs, reference)
    weighted(outputs).backward()
    weighted(reference).backward()
    assert_same_gradients(ours, theirs)


def test_a_layer_that_is_never_called_has_no_gradient(ours, theirs):
    inputs = torch.randn(B, H)
    with summing_weight_gradients_once(T):
        outputs = ours.out(inputs)
    weighted(outputs).backward()
    weighted(theirs.out(inputs)).backward()
    assert ours.into.weight.grad is None
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("frozen", [["weight"], ["bias"], ["weight", "bias"]], ids="+".join)
def test_frozen_parameters(frozen, ours, theirs):
    for layers in (ours, theirs):
        for name in frozen:
            getattr(layers.into, name).requires_grad_(False)
    inputs = torch.randn(T, B, N)
    with summing_weight_gradients_once(T):
        outputs = ours(inputs)
    weighted(outputs).backward()
    weighted(theirs(inputs)).backward()
    assert_same_gradients(ours, theirs)
    assert all(getattr(ours.into, name).grad is None for name in frozen)


@pytest.mark.parametrize("inside", [False, True], ids=["around the context", "inside it"])
def test_without_gradients(inside, ours, theirs):
    inputs = torch.randn(T, B, N)
    contexts = [torch.no_grad(), summing_weight_gradients_once(T)]
    one, two = reversed(contexts) if inside else contexts
    with one, two:
        outputs = ours(inputs)
    assert_close(outputs, theirs(inputs).detach())
    assert not outputs.requires_grad


def test_a_first_call_without_gradients_takes_none_from_the_others(ours, theirs):
    inputs = torch.randn(2, B, H)

    def run(layer):
        with torch.no_grad():
            shift = layer(inputs[0])
        return layer(inputs[1]) + shift

    with summing_weight_gradients_once(2):
        outputs = run(ours.out)
    weighted(outputs).backward()
    weighted(run(theirs.out)).backward()
    assert_same_gradients(ours, theirs)


def test_two_backward_passes(ours, theirs):
    """With retain_graph, of losses that differ: gradients add up as always."""
    inputs = torch.randn(T, B, N)
    with summing_weight_gradients_once(T):
        outputs = ours(inputs)
    for found in (outputs, theirs(inputs)):
        weighted(found).backward(retain_graph=True)
        found[2].square().sum().backward()
    assert_same_gradients(ours, theirs)


def test_a_backward_pass_amid_the_loop(ours, theirs):
    inputs = torch.randn(2, B, H)
    with summing_weight_gradients_once(2):
        for step in inputs:
            weighted(ours.out(step)).backward(retain_graph=True)
    for step in inputs:
        weighted(theirs.out(step)).backward()
    assert_same_gradients(ours, theirs)


def test_each_context_is_a_loop_of_its_own(ours, theirs):
    """One inside another, one after another, and an ordinary call outside all."""
    inputs = torch.randn(4, T, B, N)
    with summing_weight_gradients_once(2 * T):
        outer = ours(inputs[0])
        with summing_weight_gradients_once(T):
            inner = ours(inputs[1])
        outer = outer + ours(inputs[2])
    outside = ours(inputs[3])
    weighted(torch.stack([outer, inner, outside])).backward()
    expected = [theirs(sequence) for sequence in inputs]
    weighted(torch.stack([expected[0] + expected[2], expected[1], expected[3]])).backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("error", [KeyError, None], ids=["an exception", "its end"])
def test_the_loop_is_over_after(error, ours):
    """A call after it is PyTorch's own again: its gradients have gradients."""
    with suppress(KeyError), summing_weight_gradients_once(T):
        ours.out(torch.randn(B, H))
        if error is not None:
            raise error
    outputs = ours.out(torch.randn(B, H)).sin().sum()
    (gradient,) = torch.autograd.grad(outputs, ours.out.weight, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), ours.out.weight)
    assert second.any()


def test_no_bias(ours):
    """Nothing to collect gradients with, so it is PyTorch's layer within the context too."""
    layer = RecurrentLinear(H, N, bias=False)
    inputs = torch.randn(T, B, H)
    with summing_weight_gradients_once(T):
        outputs = torch.stack([layer(step) for step in inputs])
    (gradient,) = torch.autograd.grad(weighted(outputs), layer.weight)
    weight = layer.weight.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(weighted(F.linear(inputs, weight)), weight)
    assert_close(gradient, expected)


@pytest.mark.parametrize("loss", [torch.sum, weighted], ids=["linear loss", "curved loss"])
@pytest.mark.parametrize("of", ["weight", "bias"])
def test_gradients_of_gradients_are_refused(of, loss, ours):
    """They would lack a part without a word."""
    with summing_weight_gradients_once(T):
        outputs = ours(torch.randn(T, B, N))
    with pytest.raises(RuntimeError, match=r"[Gg]radients of gradients"):
        torch.autograd.grad(loss(outputs), getattr(ours.into, of), create_graph=True)


@pytest.mark.parametrize("changed", ["inputs", "weights"])
def test_what_changes_between_the_passes_is_refused(changed, ours):
    """As PyTorch refuses it: the gradient would be that of other numbers."""
    inputs = torch.randn(B, H)
    with summing_weight_gradients_once(1):
        outputs = ours.out(inputs.clone().requires_grad_() if changed == "weights" else inputs)
    with torch.no_grad():
        (inputs if changed == "inputs" else ours.out.weight).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_the_precision_of_autocast():
    """A user may wrap all in it: dtypes of values and gradients are those of nn.Linear."""
    torch.set_default_dtype(torch.float32)
    ours, inputs = Recurrence(RecurrentLinear), torch.randn(T, B, N)
    theirs = Recurrence(nn.Linear)
    theirs.load_state_dict(ours.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        with summing_weight_gradients_once(T):
            outputs = ours(inputs)
        reference = theirs(inputs)
    assert outputs.dtype == reference.dtype == torch.bfloat16
    outputs.float().square().sum().backward()
    reference.float().square().sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad.dtype == other.grad.dtype
        # Products in bfloat16 keep 8 bits: 2^-8 in each step, some of which add up.
        assert (one.grad - other.grad).norm() < 0.05 * other.grad.norm()
