"""The VRNN's memory against torch's own LSTM cell."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyro_gtm as gtm

Z, H, C = 3, 5, 2


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("control_dim", [0, C])
@pytest.mark.parametrize("shape", [(), (4,), (2, 4)], ids=str)
def test_equals_torchs_lstm_cell(control_dim, shape):
    memory = gtm.RecurrentMemory(Z, hidden_dim=H, control_dim=control_dim)
    cell = nn.LSTMCell(Z + control_dim, H)
    with torch.no_grad():
        weight_ih, weight_hh = memory.controller.gates.weight.split([Z + control_dim, H], dim=1)
        cell.weight_ih.copy_(weight_ih)
        cell.weight_hh.copy_(weight_hh)
        cell.bias_ih.copy_(memory.controller.gates.bias)
        cell.bias_hh.zero_()

    latents, controls = torch.randn(6, *shape, Z), torch.randn(6, *shape, control_dim)
    state = memory.initial_state(shape)
    hidden = carry = torch.zeros(max(1, torch.Size(shape).numel()), H)
    total = expected_total = 0.0
    for t in range(6):
        state, context, details = memory.step(
            state, latents[t], controls[t] if control_dim else None
        )
        inputs = torch.cat([latents[t], controls[t]], -1).reshape(-1, Z + control_dim)
        hidden, carry = cell(inputs, (hidden, carry))
        torch.testing.assert_close(context.reshape(-1, H), hidden, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(state.cell.reshape(-1, H), carry, rtol=1e-12, atol=1e-14)
        assert details == {}
        total, expected_total = (
            total + context.square().sum(),
            expected_total + hidden.square().sum(),
        )

    total.backward()
    expected_total.backward()
    expected = torch.cat([cell.weight_ih.grad, cell.weight_hh.grad], dim=1)
    torch.testing.assert_close(memory.controller.gates.weight.grad, expected)
    torch.testing.assert_close(memory.controller.gates.bias.grad, cell.bias_ih.grad)


def test_the_context_is_the_hidden_state():
    memory = gtm.RecurrentMemory(Z, hidden_dim=H)
    state, context, _ = memory.step(memory.initial_state((2,)), torch.randn(2, Z))
    assert context is state.hidden
    assert (memory.context_dim, memory.read_shape) == (H, (1, H))
