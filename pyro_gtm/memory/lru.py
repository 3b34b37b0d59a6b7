"""Least-recently-used access: look up by content, write where nobody has been for long.

Sources: Santoro et al. 2016 (arXiv 1605.06065), section 3.2, as the LRU-GTMM of Gemici et al. 2017
(arXiv 1702.04649), equations 13-16.

One step, for each of R heads that read and write::

    w_lu       one-hot at the least used slots by u_{t-1}, one for each head
    w_w        = σ(α) w_r(t-1) + (1 - σ(α)) w_lu
    M_t[i]     = M_{t-1}[i] + Σ_r w_w[i] T(t ω) a_r, the least used slots zeroed before
    w_r        = softmax_i(β cos(T(t ω) k, M_t[i]))
    φ_t^r      = T(-t ω) Σ_i w_r[i] M_t[i]
    u_t        = γ u_{t-1} + Σ_r w_w + min(1, u_{t-1} + Σ_r w_w) Σ_r w_r

Deviations from the source:

- What is written is a vector a_r of its own, not the key: what is written and read in the same step
  with the same key would find itself.
- Each head has a slot of its own among the least used, in order, where the source's one indicator
  marks the same R slots for all heads.
- Keys have a strength β = 1 + softplus, without which a look-up among N slots cannot put more than
  e² times as much weight on the best of them as on the worst.
- α is emitted for each head and step.
- M_0 is 1e-6 everywhere, so that a slot never written resembles no key; w_r and u are zero.
- Reading a slot counts as use only as far as it is in use,
  :func:`~pyro_gtm.memory.addressing.decay_usage`.
- With ``initialisation="structured"`` the tag of a word is a mark that turns: T(t ω) turns its J
  pairs of numbers by t ω_j (:func:`~pyro_gtm.memory.addressing.turn`), and what a_r and k hold
  there is seen relative to the present.  All words begin with the same mark, and a constant lag l
  is one constant key, that mark turned by -l ω.  So the memory, which by its source finds by
  content alone, can go through a list in order.  Elsewhere T is the identity (``"plain"``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.memory.addressing import (
    content_weights,
    decay_usage,
    interpolate,
    least_used,
    read_words,
    turn,
)
from pyro_gtm.memory.registry import register_memory
from pyro_gtm.memory.slots import TAG_SIZE, AddressedMemory, Initialisation

__all__ = ["LRUMemory", "LRUState"]


class LRUState(NamedTuple):
    """State of an :class:`LRUMemory`."""

    hidden: Tensor
    """h_t: ``(*batch, hidden_dim)``."""

    cell: Tensor
    """The LSTM's cell: ``(*batch, hidden_dim)``."""

    memory: Tensor
    """M_t: ``(*batch, N, W)``."""

    usage: Tensor
    """u_t: ``(*batch, N)``."""

    read_weights: Tensor
    """w_r: ``(*batch, R, N)``."""

    reads: Tensor
    """φ_t, fed to the controller in the next step: ``(*batch, R, W)``."""

    origins: Tensor
    """How much of what was written 1..K writes ago is in each slot: ``(*batch, N, K)``, K = N with
    ``recall``, else 0."""

    time: Tensor
    """t, how many steps there were: ``(*batch,)``."""


MARK_SIZE = 3.0
"""Length that each pair of a mark starts with, several times that of a number of a latent: so the
mark decides what a word resembles."""


def mark_frequencies(pairs: int, slots: int) -> Tensor:
    """ω_j = (2 j - 1) π / max(2 J, N), j = 1..J: by how much each pair of a mark turns in a step.

    Marks less than 2 J steps apart are orthogonal if N <= 2 J, and in any case none of the N before
    the present resembles another as much as itself.
    """
    odd = 2 * torch.arange(pairs, dtype=torch.get_default_dtype()) + 1
    return odd * math.pi / max(2 * pairs, slots)


@register_memory("lru")
class LRUMemory(AddressedMemory):
    """N slots, looked up by content and written where they were used least.

    Details of a step: ``read_weights`` ``(*batch, R, N)``; ``write_weights`` ``(*batch, R, N)``;
    ``usage`` u_t ``(*batch, N)``; ``write_gates`` σ(α) ``(*batch, R)``, 1 to write where the head
    has read and 0 to write to the least used slot; ``memory`` M_t ``(*batch, N, W)``.

    Args:
        latent_dim: Z, size of what the program writes each step.
        slots: N, at least as many as heads.
        heads: R, how many heads read and write.  Each takes a slot of its own in every step, so
            with R heads N slots are used up after N / R steps.
        word_size: W; Z + 16 if None, which leaves room for a mark of 8 pairs.
        hidden_dim: width of the LSTM.
        control_dim: size of the control.
        initialisation: ``"structured"``, a memory that stores and keeps each latent from the start,
            or ``"plain"``, an interface drawn at random.
        usage_decay: γ, how much of the usage lasts to the next step.
        recall: tell what its reads are made of, as a mixture prior needs.
    """

    controller_fields = ("hidden", "cell", "time")

    def __init__(
        self,
        latent_dim: int,
        slots: int = 16,
        heads: int = 1,
        word_size: int | None = None,
        hidden_dim: int = 128,
        control_dim: int = 0,
        usage_decay: float = 0.99,
        initialisation: Initialisation = "structured",
        recall: bool = False,
    ) -> None:
        check_positive("LRUMemory", latent_dim=latent_dim, heads=heads)
        word_size = latent_dim + TAG_SIZE if word_size is None else word_size
        check_positive("LRUMemory", word_size=word_size)
        tag_size = max(word_size - latent_dim, 0) if initialisation == "structured" else 0
        pairs = tag_size // 2
        unmarked = [0.0] * (word_size - 2 * pairs)
        super().__init__(
            {
                "keys": (heads, word_size),
                "strengths": (heads, 1),
                "gates": (heads, 1),
                "add": (heads, word_size),
            },
            # Look up sharply, write to the least used slot, mark each word alike but for the turn.
            {
                "strengths": 3.0,
                "gates": -5.0,
                "add": unmarked + [MARK_SIZE] * pairs + [0.0] * pairs,
            },
            latent_dim=latent_dim,
            slots=slots,
            heads=heads,
            word_size=word_size,
            hidden_dim=hidden_dim,
            control_dim=control_dim,
            initialisation=initialisation,
            recall=recall,
            tag_scale=0.0,
        )
        self.frequencies: Tensor
        self.register_buffer("frequencies", mark_frequencies(pairs, slots), persistent=False)
        if slots < heads:
            raise ValueError(
                f"LRUMemory: slots must be at least heads={heads}, since each head writes to a "
                f"slot of its own; got {slots}"
            )
        if not 0 <= usage_decay <= 1:
            raise ValueError(f"LRUMemory: usage_decay must lie in [0, 1], got {usage_decay!r}")
        self.usage_decay = usage_decay

    def initial_state(self, batch_shape: Sequence[int] = ()) -> LRUState:
        hidden = self.controller.initial(batch_shape)
        return LRUState(
            hidden=hidden,
            cell=self.controller.initial(batch_shape),
            memory=hidden.new_full((*batch_shape, self.slots, self.word_size), 1e-6),
            usage=hidden.new_zeros(*batch_shape, self.slots),
            read_weights=hidden.new_zeros(*batch_shape, self.heads, self.slots),
            reads=hidden.new_zeros(*batch_shape, self.heads, self.word_size),
            origins=hidden.new_zeros(*batch_shape, self.slots, self.recall_length),
            time=hidden.new_zeros(tuple(batch_shape)),
        )

    def access(
        self, state: LRUState, emitted: Mapping[str, Tensor], write: bool = True
    ) -> tuple[LRUState, dict[str, Tensor]]:
        gates = emitted["gates"].squeeze(-1).sigmoid()  # (*, R)
        unused = least_used(state.usage, self.heads)  # (*, R, N)
        write_weights = interpolate(state.read_weights, unused, gates)  # (*, R, N)
        angles = state.time.unsqueeze(-1) * self.frequencies  # (*, J)
        cosines, sines = angles.cos(), angles.sin()
        memory = state.memory
        kept = torch.ones_like(state.usage)
        if write:
            add = turn(emitted["add"], cosines, sines)  # (*, R, W)
            kept = 1 - unused.sum(dim=-2)  # (*, N)
            memory = memory * kept.unsqueeze(-1) + write_weights.mT @ add  # (*, N, W)
        else:
            write_weights = torch.zeros_like(write_weights)

        read_weights = content_weights(
            memory,
            turn(emitted["keys"], cosines, sines),
            1 + F.softplus(emitted["strengths"].squeeze(-1)),
        )  # (*, R, N)
        reads = turn(read_words(memory, read_weights), cosines, -sines)  # (*, R, W)
        usage = decay_usage(state.usage, read_weights, write_weights, self.usage_decay)
        state = state._replace(
            memory=memory,
            usage=usage,
            read_weights=read_weights,
            reads=reads,
            time=state.time + 1,
        )
        return state, {
            "read_weights": read_weights,
            "write_weights": write_weights,
            "usage": usage,
            "write_gates": gates,
            "memory": memory,
            **({"kept": kept} if self.recall_length else {}),
        }
