"""The Neural Turing Machine's memory: heads that look up by content and move by location.

Sources: Graves, Wayne and Danihelka 2014 (arXiv 1410.5401), section 3, as the NTM-GTMM of Gemici et
al. 2017 (arXiv 1702.04649), equations 13-16.

Each head, of reading or of writing, emits a key k, its strength β, a gate g, a distribution s over
shifts by -1, 0 and 1, and an exponent γ.  From these and its weights before, in order::

    content      w_c = softmax_i(β cos(k, M_{t-1}[i]))        β = softplus    (5-6)
    gate         w_g = g w_c + (1 - g) w_{t-1}                g = sigmoid     (7)
    shift        w_s[i] = Σ_o s[o] w_g[(i - o) mod N]         s = softmax     (8)
    sharpen      w_t[i] = w_s[i]^γ / Σ_j w_s[j]^γ             γ = 1 + softplus (9)

    write        M_t[i] = M_{t-1}[i] ∏_h (1 - w_h[i] e_h) + Σ_h w_h[i] a_h    (3-4)
    read         φ_t^r = Σ_i w_r[i] M_t[i]                                    (2)

Choices where the sources differ or are silent:

- All heads look content up in M_{t-1}, before the write, which is equation 15 of Gemici et al. and
  lets one computation serve them all.
- M_0 is 1e-6 everywhere, which Collier and Beel 2018 (arXiv 1807.08518) found to train best of
  several ways; or ``initial_memory="learned"``.
- A head that writes starts at the first slot: with a constant M_0 nothing else would tell one slot
  from another, since the computation is the same under a circular shift of all.  Where each head
  that reads starts is learned, from near uniform.  Heads that all move one slot on in each step
  then read at a constant lag, which is what the learned start decides.
- ``initialisation="structured"`` (:class:`AddressedMemory`): gates start at location, shifts at +1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.memory.addressing import (
    content_weights,
    erase_and_add,
    interpolate,
    kept_shares,
    read_words,
    sharpen,
    shift,
)
from pyro_gtm.memory.registry import register_memory
from pyro_gtm.memory.slots import AddressedMemory, Initialisation, LearnedInitialWeights

__all__ = ["NTMMemory", "NTMState"]

SHIFTS = 3
"""A head moves by -1, 0 or 1 slots in a step."""


class NTMState(NamedTuple):
    """State of an :class:`NTMMemory`."""

    hidden: Tensor
    """h_t: ``(*batch, hidden_dim)``."""

    cell: Tensor
    """The LSTM's cell: ``(*batch, hidden_dim)``."""

    memory: Tensor
    """M_t: ``(*batch, N, W)``."""

    weights: Tensor
    """Where the heads are, those that read and then those that write: ``(*batch, R + H, N)``."""

    reads: Tensor
    """φ_t, fed to the controller in the next step: ``(*batch, R, W)``."""

    origins: Tensor
    """How much of what was written 1..K writes ago is in each slot: ``(*batch, N, K)``, K = N with
    ``recall``, else 0."""


@register_memory("ntm")
class NTMMemory(AddressedMemory):
    """N slots, with heads that look up by content and move by location.

    Details of a step: ``read_weights`` ``(*batch, R, N)``; ``write_weights`` ``(*batch, H, N)``;
    ``content_gates`` g ``(*batch, R + H)``; ``shifts`` s ``(*batch, R + H, 3)``, for -1, 0 and 1;
    ``memory`` M_t ``(*batch, N, W)``.

    Args:
        latent_dim: Z, size of what the program writes each step.
        slots: N.
        heads: R, how many heads read.
        write_heads: H, how many heads write.  All start at the first slot; structured, they write
            the same, and their sum is stored.
        word_size: W; that of the latent if None.
        hidden_dim: width of the LSTM that moves the heads.
        control_dim: size of the control.
        initialisation: ``"structured"``, a memory that stores and keeps each latent from the start,
            or ``"plain"``, an interface drawn at random.
        initial_memory: M_0, ``"constant"`` or ``"learned"``.
        recall: tell what its reads are made of, as a mixture prior needs.
    """

    def __init__(
        self,
        latent_dim: int,
        slots: int = 16,
        heads: int = 3,
        write_heads: int = 1,
        word_size: int | None = None,
        hidden_dim: int = 128,
        control_dim: int = 0,
        initial_memory: Literal["constant", "learned"] = "constant",
        initialisation: Initialisation = "structured",
        recall: bool = False,
    ) -> None:
        word_size = latent_dim if word_size is None else word_size
        check_positive("NTMMemory", heads=heads, write_heads=write_heads, word_size=word_size)
        if initial_memory not in ("constant", "learned"):
            raise ValueError(
                f"NTMMemory: initial_memory must be 'constant' or 'learned', got {initial_memory!r}"
            )
        super().__init__(
            {
                "keys": (heads + write_heads, word_size),
                "strengths": (heads + write_heads, 1),
                "gates": (heads + write_heads, 1),
                "shifts": (heads + write_heads, SHIFTS),
                "exponents": (heads + write_heads, 1),
                "erase": (write_heads, word_size),
                "add": (write_heads, word_size),
            },
            # Heads go by location, one slot on in each step; those that read start out blurred.
            {
                "gates": -4.0,
                "shifts": (0.0, 0.0, 5.0),
                "exponents": [[-4.0]] * heads + [[1.0]] * write_heads,
            },
            latent_dim=latent_dim,
            slots=slots,
            heads=heads,
            word_size=word_size,
            hidden_dim=hidden_dim,
            control_dim=control_dim,
            initialisation=initialisation,
            recall=recall,
        )
        self.write_heads = write_heads
        self.initial_read_weights = LearnedInitialWeights(heads, slots)
        constant = torch.full((slots, word_size), 1e-6)
        self.initial_memory: Tensor
        if initial_memory == "learned":
            self.initial_memory = nn.Parameter(constant + 0.1 * torch.randn(slots, word_size))
        else:
            self.register_buffer("initial_memory", constant, persistent=False)

    def initial_state(self, batch_shape: Sequence[int] = ()) -> NTMState:
        hidden = self.controller.initial(batch_shape)
        at_first = hidden.new_zeros(self.write_heads, self.slots)
        at_first[:, 0] = 1
        weights = torch.cat([self.initial_read_weights(), at_first])  # (R + H, N)
        return NTMState(
            hidden=hidden,
            cell=self.controller.initial(batch_shape),
            memory=self.initial_memory.expand(*batch_shape, self.slots, self.word_size),
            weights=weights.expand(*batch_shape, *weights.shape),
            reads=hidden.new_zeros(*batch_shape, self.heads, self.word_size),
            origins=hidden.new_zeros(*batch_shape, self.slots, self.recall_length),
        )

    def access(
        self, state: NTMState, emitted: Mapping[str, Tensor], write: bool = True
    ) -> tuple[NTMState, dict[str, Tensor]]:
        gates = emitted["gates"].squeeze(-1).sigmoid()  # (*, R + H)
        shifts = emitted["shifts"].softmax(dim=-1)  # (*, R + H, 3)
        content = content_weights(
            state.memory, emitted["keys"], F.softplus(emitted["strengths"].squeeze(-1))
        )  # (*, R + H, N)
        weights = shift(interpolate(content, state.weights, gates), shifts)
        weights = sharpen(weights, 1 + F.softplus(emitted["exponents"].squeeze(-1)))
        read_weights, write_weights = weights.split([self.heads, self.write_heads], dim=-2)

        memory, erase = state.memory, emitted["erase"].sigmoid()
        if write:
            memory = erase_and_add(memory, write_weights, erase, emitted["add"])  # (*, N, W)
        else:
            write_weights = torch.zeros_like(write_weights)
        reads = read_words(memory, read_weights)  # (*, R, W)
        return state._replace(memory=memory, weights=weights, reads=reads), {
            "read_weights": read_weights,
            "write_weights": write_weights,
            "content_gates": gates,
            "shifts": shifts,
            "memory": memory,
            **({"kept": kept_shares(write_weights, erase)} if self.recall_length else {}),
        }
