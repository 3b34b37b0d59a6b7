"""The deterministic recurrent controller inside every memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_gtm.internals.products import Linear

__all__ = ["LSTMController"]


class LSTMController(nn.Module):
    """An LSTM cell for any leading batch shape: h_t, cell_t = LSTM([inputs], h_{t-1}, cell_{t-1}).

    The four gates come from one matrix product on the concatenated inputs and h_{t-1};
    the weights are laid out and initialised as in :class:`torch.nn.LSTMCell` (uniform in
    ±1/sqrt(hidden_dim)), except that there is one bias instead of a redundant pair, and that the
    forget gate's starts at one, so that it remembers from the start (Jozefowicz et al. 2015).

    With a ``horizon``, units start with spans of memory from 2 to ``horizon`` steps, the forget
    gates' biases being log(span - 1) and the input gates' its negative (Tallec and Ollivier 2018,
    arXiv 1804.11188), and with candidates of their own bias, drawn from N(0, 1).  Together that
    makes a controller a clock from the start: how far each unit has come says what time it is.
    """

    def __init__(self, input_dim: int, hidden_dim: int, horizon: int | None = None) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.gates = Linear(input_dim + hidden_dim, 4 * hidden_dim)
        bound = hidden_dim**-0.5
        nn.init.uniform_(self.gates.weight, -bound, bound)
        with torch.no_grad():
            self.gates.bias.zero_()
            into, forget, candidate, _ = self.gates.bias.chunk(4)  # views, (hidden_dim,) each
            if horizon is None:
                forget.fill_(1.0)
            else:
                forget.uniform_(1.0, max(horizon - 1, 1)).log_()
                into.copy_(-forget)
                candidate.normal_()

    def initial(self, batch_shape: Sequence[int]) -> Tensor:
        """Zeros for the hidden and the cell state: ``(*batch_shape, hidden_dim)``."""
        return self.gates.weight.new_zeros(*batch_shape, self.hidden_dim)

    def forward(
        self, inputs: Sequence[Tensor], hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advance by one step.

        Args:
            inputs: tensors of shape ``(*batch, n_i)``, their n_i summing to ``input_dim``.
            hidden: h_{t-1}, ``(*batch, hidden_dim)``.
            cell: the cell state before, ``(*batch, hidden_dim)``.

        Returns:
            h_t and the new cell state.
        """
        gates = self.gates(torch.cat([*inputs, hidden], dim=-1))  # (*batch, 4 * hidden_dim)
        into, forget, candidate, out = gates.chunk(4, dim=-1)  # (*batch, hidden_dim) each
        cell = torch.addcmul(forget.sigmoid() * cell, into.sigmoid(), candidate.tanh())
        return out.sigmoid() * cell.tanh(), cell

    def run(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Advance by T steps, in one call of PyTorch's own LSTM.

        Args:
            inputs: ``(T, B, input_dim)``.
            hidden: h_0, ``(B, hidden_dim)``.
            cell: the cell state before, ``(B, hidden_dim)``.

        Returns:
            h_1..h_T ``(T, B, hidden_dim)``, h_T and the last cell state.
        """
        weight, bias = self.gates.weight, self.gates.bias
        state = (hidden.unsqueeze(0).contiguous(), cell.unsqueeze(0).contiguous())
        # Its two biases are redundant: ours, and zeros.  One piece of memory, as cuDNN wants it.
        from_inputs, from_hidden = weight.split([inputs.shape[-1], self.hidden_dim], dim=1)
        parts = from_inputs, from_hidden, bias, torch.zeros_like(bias)
        packed = torch.cat([part.reshape(-1) for part in parts])
        pieces = packed.split([part.numel() for part in parts])
        weights = [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]
        # As in training, whatever the mode: without dropout it is the same, but for what a GPU
        # keeps for gradients.
        outputs, last_hidden, last_cell = torch.lstm(
            inputs, state, weights, True, 1, 0.0, True, False, False
        )
        return outputs, last_hidden.squeeze(0), last_cell.squeeze(0)
