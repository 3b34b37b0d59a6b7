"""The Introspective memory: the last L latents, read by position.

Source: Gemici et al. 2017 (arXiv 1702.04649), equations 9-12 and Figure 2 (middle).

In the paper's symbols, one step is::

    h_t   = LSTM(h_{t-1}, [z_{t-1}, c_t])                               (9)
    w_t^r = attention(h_t),  w > 0,  sum_i w_t^r[i] = 1,  r = 1..R     (10)
    φ_t^r = w_t^r · M_{t-1}                                            (11)
    Ψ_t^r = φ_t^r ⊙ sigmoid(g_t^r)                                     (12)

with M_{t-1} the first-in-first-out buffer that holds z_{t-1}, z_{t-2}, ..., z_{t-L}.

What the paper leaves open, and the choice made here:

- The form of the attention in (10): ``softmax`` of the logits (default) or ``softplus`` of the
  logits, normalised.
- Slot i counts backwards from the present (slot 0 is z_{t-1}), so an attention that stays put is a
  constant lag.  Slots not yet written hold zeros and may be attended to.
- The gate g_t^r is a linear map of h_t, with one number for each element of a read.
- The context is the gated reads alone, [Ψ^1, ..., Ψ^R]: in Figure 2 nothing leads from h_t into it.
  ``append_hidden=True`` puts h_t after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.internals.products import Linear
from pyro_gtm.memory.addressing import product
from pyro_gtm.memory.base import MemoryModule, MemoryStep, check_control
from pyro_gtm.memory.controller import LSTMController
from pyro_gtm.memory.registry import register_memory

__all__ = ["IntrospectiveMemory", "IntrospectiveState"]

Attention = Literal["softmax", "softplus"]


class IntrospectiveState(NamedTuple):
    """State of an :class:`IntrospectiveMemory`."""

    hidden: Tensor
    """h_t: ``(*batch, hidden_dim)``."""

    cell: Tensor
    """The LSTM's cell: ``(*batch, hidden_dim)``."""

    buffer: Tensor
    """M: the last L latents, newest first, zeros where none was written yet; ``(*batch, L, Z)``."""


@register_memory("introspective")
class IntrospectiveMemory(MemoryModule):
    """A buffer of the last ``slots`` latents, read by ``heads`` positional attentions.

    Details of a step: ``read_weights`` w ``(*batch, R, L)``, slot 0 being the newest latent, and
    ``read_gates`` sigmoid(g) ``(*batch, R, Z)``; ``log_shares`` log w ``(*batch, R, L)``.

    Args:
        latent_dim: Z, size of what is written each step.
        slots: L, how many of the latest latents are kept.  A recall over l frames needs L >= l.
        heads: R, how many reads there are in a step.
        hidden_dim: width of the LSTM that steers the attention.
        control_dim: size of the control.
        attention: ``"softmax"`` or ``"softplus"`` (normalised), equation 10.
        append_hidden: put h_t into the context too.
    """

    reads_by_age = True
    controller_fields = ("hidden", "cell")

    def __init__(
        self,
        latent_dim: int,
        slots: int = 16,
        heads: int = 3,
        hidden_dim: int = 128,
        control_dim: int = 0,
        attention: Attention = "softmax",
        append_hidden: bool = False,
    ) -> None:
        check_positive(
            "IntrospectiveMemory",
            latent_dim=latent_dim,
            slots=slots,
            heads=heads,
            hidden_dim=hidden_dim,
        )
        if attention not in ("softmax", "softplus"):
            raise ValueError(
                f"IntrospectiveMemory: attention must be 'softmax' or 'softplus', got {attention!r}"
            )
        super().__init__(
            latent_dim=latent_dim,
            control_dim=control_dim,
            context_dim=heads * latent_dim + (hidden_dim if append_hidden else 0),
            read_shape=(heads, latent_dim),
            recall_length=slots,
        )
        self.slots = slots
        self.heads = heads
        self.attention = attention
        self.append_hidden = append_hidden
        self.controller = LSTMController(latent_dim + control_dim, hidden_dim)
        # The logits of w and the gates g of all heads, from one matrix product.
        self.interface = Linear(hidden_dim, heads * (slots + latent_dim))

    def initial_state(self, batch_shape: Sequence[int] = ()) -> IntrospectiveState:
        hidden = self.controller.initial(batch_shape)
        return IntrospectiveState(
            hidden=hidden,
            cell=self.controller.initial(batch_shape),
            buffer=hidden.new_zeros(*batch_shape, self.slots, self.latent_dim),
        )

    def step(
        self,
        state: IntrospectiveState,
        latent: Tensor,
        control: Tensor | None = None,
        *,
        write: bool = True,
    ) -> MemoryStep:
        """One step; kept from writing, a slot's age is counted from the last write."""
        check_control("IntrospectiveMemory", control, self.control_dim)
        buffer = state.buffer
        if write:
            buffer = torch.cat([latent.unsqueeze(-2), buffer[..., :-1, :]], dim=-2)  # (*, L, Z)
        inputs = [latent] if control is None else [latent, control]
        hidden, cell = self.controller(inputs, state.hidden, state.cell)
        interface = self.interface(hidden).view(*hidden.shape[:-1], self.heads, -1)  # (*, R, L + Z)
        logits, gate_logits = torch.split_with_sizes(
            interface, [self.slots, self.latent_dim], dim=-1
        )
        log_weights = self._log_weights(logits)  # (*, R, L)
        weights = log_weights.exp()
        gates = gate_logits.sigmoid()  # (*, R, Z)
        reads = product(weights, buffer) * gates  # (*, R, Z)

        context = reads.flatten(-2)  # (*, R * Z)
        if self.append_hidden:
            context = torch.cat([context, hidden], dim=-1)
        return MemoryStep(
            IntrospectiveState(hidden, cell, buffer),
            context,
            details={
                "read_weights": weights,
                "read_gates": gates,
                "log_shares": log_weights,
            },
        )

    def _log_weights(self, logits: Tensor) -> Tensor:
        """Equation 10: a positive distribution over the slots; shapes ``(*, R, L)``."""
        if self.attention == "softmax":
            return logits.log_softmax(dim=-1)
        positive = F.softplus(logits) + 1e-8  # softplus underflows to zero in single precision
        return positive.log() - positive.sum(dim=-1, keepdim=True).log()
