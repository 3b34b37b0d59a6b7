"""The Introspective memory against equations 9-12, written out number by number."""

from __future__ import annotations

import math

import pytest
import torch

import pyro_gtm as gtm

Z, L, R, H, C = 2, 3, 2, 4, 2


@pytest.fixture(params=["softmax", "softplus"])
def attention(request):
    return request.param


def make(**options):
    sizes = {"latent_dim": Z, "slots": L, "heads": R, "hidden_dim": H, **options}
    return gtm.IntrospectiveMemory(**sizes)


def sigmoid(a):
    return 1 / (1 + (-a).exp())


def linear(weight, bias, inputs):
    return [
        sum((weight[i, j] * inputs[j] for j in range(len(inputs))), start=bias[i])
        for i in range(len(bias))
    ]


def lstm(weight, bias, inputs, h, c):
    """Equation 9: gates in the order of torch.nn.LSTMCell, one unit after the other."""
    a = linear(weight, bias, [*inputs, *h])
    n = len(h)
    new_c = [sigmoid(a[n + i]) * c[i] + sigmoid(a[i]) * torch.tanh(a[2 * n + i]) for i in range(n)]
    return [sigmoid(a[3 * n + i]) * torch.tanh(new_c[i]) for i in range(n)], new_c


def attend(kind, logits):
    """Equation 10."""
    if kind == "softmax":
        positive = [logit.exp() for logit in logits]
    else:
        positive = [(1 + logit.exp()).log() + 1e-8 for logit in logits]
    return [p / sum(positive) for p in positive]


def oracle(memory, latents, controls):
    """Contexts of one sequence: latents (T, Z), controls (T, C) or None."""
    zero = torch.zeros(())
    gates, interface = memory.controller.gates, memory.interface
    h, c, buffer = [zero] * H, [zero] * H, [[zero] * Z for _ in range(L)]
    contexts = []
    for t, latent in enumerate(latents):
        latent = list(latent)
        inputs = latent if controls is None else latent + list(controls[t])
        h, c = lstm(gates.weight, gates.bias, inputs, h, c)
        buffer = [latent, *buffer][:L]
        raw = linear(interface.weight, interface.bias, h)
        context = []
        for r in range(R):
            part = raw[r * (L + Z) : (r + 1) * (L + Z)]
            w = attend(memory.attention, part[:L])
            phi = [sum(w[i] * buffer[i][k] for i in range(L)) for k in range(Z)]  # (11)
            context += [phi[k] * sigmoid(part[L + k]) for k in range(Z)]  # (12)
        contexts.append(torch.stack(context + (h if memory.append_hidden else [])))
    return torch.stack(contexts)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("append_hidden", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("control_dim", [0, C])
def test_equals_the_scalar_oracle(attention, append_hidden, shape, control_dim):
    """Values and gradients over more steps than there are slots."""
    memory = make(attention=attention, append_hidden=append_hidden, control_dim=control_dim)
    steps = L + 2
    latents = torch.randn(steps, *shape, Z, requires_grad=True)
    controls = torch.randn(steps, *shape, C) if control_dim else None

    state, contexts = memory.initial_state(shape), []
    for t in range(steps):
        control = None if controls is None else controls[t]
        state, context, _ = memory.step(state, latents[t], control)
        contexts.append(context)
    contexts = torch.stack(contexts).reshape(steps, -1, memory.context_dim)

    alone = latents.reshape(steps, -1, Z)
    told = None if controls is None else controls.reshape(steps, -1, C)
    expected = torch.stack(
        [
            oracle(memory, alone[:, b], None if told is None else told[:, b])
            for b in range(alone.shape[1])
        ],
        dim=1,
    )
    torch.testing.assert_close(contexts, expected, rtol=1e-10, atol=1e-12)

    direction = torch.randn_like(contexts)
    inputs = [latents, *memory.parameters()]
    gradients = [
        torch.autograd.grad((direction * found).sum(), inputs) for found in (contexts, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_first_in_first_out():
    """Newest first, zeros where nothing was written, the oldest forgotten."""
    memory = make()
    latents = torch.randn(2 * L + 1, 5, Z)
    state, kept = memory.initial_state((5,)), []
    for latent in latents:
        state = memory.step(state, latent).state
        kept.insert(0, latent)
        expected = kept[:L] + [torch.zeros(5, Z)] * (L - len(kept))
        assert state.buffer.equal(torch.stack(expected, dim=1))


def test_an_attention_that_stays_put_is_a_constant_lag():
    """Slot i holds the latent of i+1 steps ago: a recall is one fixed slot."""
    memory = make(heads=1)
    with torch.no_grad():
        memory.interface.weight.zero_()
        memory.interface.bias.copy_(torch.tensor([-50.0, -50.0, 50.0, 50.0, 50.0]))  # slot 2, open
    latents, state = torch.randn(6, 4, Z), memory.initial_state((4,))
    for t, latent in enumerate(latents):
        state, context, _ = memory.step(state, latent)
        expected = latents[t - 2] if t >= 2 else torch.zeros(4, Z)
        torch.testing.assert_close(context, expected)


@pytest.mark.parametrize(
    "scale", [1.0, 100.0, 1e4, 1e30], ids=["ordinary", "large", "extreme", "absurd"]
)
def test_attention_is_a_distribution(attention, scale):
    memory = make(attention=attention)
    with torch.no_grad():
        memory.interface.bias.copy_(scale * torch.randn_like(memory.interface.bias))
    weights = memory.step(memory.initial_state((50,)), torch.randn(50, Z)).details["read_weights"]
    assert weights.shape == (50, R, L)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(50, R))
    if scale == 1.0 or (attention == "softplus" and scale <= 1e4):
        assert (weights > 0).all()


def test_attention_where_all_logits_are_very_low(attention):
    """Softplus underflows there: no slot may come out as 0 / 0."""
    memory = make(attention=attention)
    with torch.no_grad():
        memory.interface.weight.zero_()
        memory.interface.bias.fill_(-1e4)
    result = memory.step(memory.initial_state((2,)), torch.randn(2, Z))
    weights = result.details["read_weights"]
    torch.testing.assert_close(weights, torch.full((2, R, L), 1 / L))
    result.context.sum().backward()
    assert all(p.grad.isfinite().all() for p in memory.parameters())


def test_gates_close_and_open():
    memory = make(heads=1)
    with torch.no_grad():
        memory.interface.weight.zero_()
        memory.interface.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -200.0, 200.0]))
    latent = torch.ones(1, Z)
    context = memory.step(memory.initial_state((1,)), latent).context
    torch.testing.assert_close(context, torch.tensor([[0.0, 1 / L]]))


def test_unknown_attention_is_named():
    with pytest.raises(ValueError, match="attention must be 'softmax' or 'softplus', got 'cosine'"):
        make(attention="cosine")


@pytest.mark.parametrize("option", ["slots", "heads"])
def test_impossible_sizes_are_named(option):
    with pytest.raises(ValueError, match=f"{option} must be a positive integer, got 0"):
        make(**{option: 0})


def test_context_dim():
    assert make().context_dim == R * Z
    assert make(append_hidden=True).context_dim == R * Z + H
    assert make().read_shape == make(append_hidden=True).read_shape == (R, Z)


def test_forget_gate_starts_open():
    """At initialisation the controller remembers."""
    gates = make(hidden_dim=16).controller.gates
    assert gates.bias[16:32].eq(1).all()
    assert gates.bias[:16].eq(0).all() and gates.bias[32:].eq(0).all()
    assert gates.weight.abs().max() <= 1 / math.sqrt(16)
