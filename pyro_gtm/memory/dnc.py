"""The Differentiable Neural Computer's memory: allocated slots, linked in the order of writing.

Sources: Graves et al. 2016 (Nature 538, 471-476), Methods, and DeepMind's implementation of it
(github.com/google-deepmind/dnc), as the DNC-GTMM of Gemici et al. 2017 (arXiv 1702.04649),
equations 13-16.

One step, with one head that writes and R heads that read::

    usage     u_t = (u_{t-1} + w_w - u_{t-1} ∘ w_w) ∘ ∏_r (1 - f_r w_r),  w_w and w_r of t - 1
    allocate  a[φ_j] = (1 - u_t[φ_j]) ∏_{i<j} u_t[φ_i],  φ sorting u_t upwards
    write     w_w = g_w (g_a a + (1 - g_a) C(M_{t-1}, k_w, β_w))
              M_t[i] = M_{t-1}[i] (1 - w_w[i] e) + w_w[i] v
    link      L_t[i, j] = (1 - w_w[i] - w_w[j]) L_{t-1}[i, j] + w_w[i] p_{t-1}[j],  L_t[i, i] = 0
              p_t = (1 - Σ_i w_w[i]) p_{t-1} + w_w
    read      w_r = π_1 L_tᵀ w_r + π_2 C(M_t, k_r, β_r) + π_3 L_t w_r,  w_r on the right of t - 1
              φ_t^r = Σ_i w_r[i] M_t[i]

with C(M, k, β) = softmax_i(β cos(k, M[i])), the strengths β = 1 + softplus, all gates sigmoids and
π a softmax.  The links make time and memory grow with the square of the slots.

Where DeepMind's implementation differs from the publication this is the publication: there the
strengths are softplus, without the 1, no gradient flows through w_w into the usage, and the cosine
has its constant in the denominator once more.

Deviations:

- Slots whose usage rounds to the same multiple of ``tie`` are allocated in the order of their
  numbers.  As published, every write makes the next free slot some 1e-6 less free than the others,
  and rounding decides between these: which slot is taken differs from sequence to sequence, and
  from machine to machine.
- With ``initialisation="structured"`` the slots begin as if they had once been written in order and
  then freed: L_0[i, i - 1] = 1 and p_0 is at the last.  Where each read head begins is learned,
  from near uniform, and modes begin with forward: heads that go on in order read at a constant lag,
  which their learned start decides.  As published, all of these are zeros (``"plain"``).

Options, after Csordás and Schmidhuber 2019 (arXiv 1904.10278); off by default, as they were only
tried together and on a few tasks (docs/learning.md):

- ``masked_keys``: C(m ∘ M, m ∘ k, β) in place of C(M, k, β), with a mask m, a sigmoid, for each
  head, so that a head can look for a part of a word whatever the rest is.
- ``erase_freed``: M_{t-1}[i] ∏_r (1 - f_r w_r[i]) in place of M_{t-1}[i], so that what is freed is
  found no more.
- ``sharpened_links``: S(L_tᵀ w_r, s) and S(L_t w_r, s) in place of L_tᵀ w_r and L_t w_r, with
  S(d, s)[i] = d[i]^s / Σ_j d[j]^s and each s = 1 + softplus, so that following links does not
  blur.  A head that no link leads on reads all slots alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.memory.addressing import (
    allocate,
    content_weights,
    erase_and_add,
    follow_links,
    interpolate,
    kept_shares,
    mix_read_modes,
    read_words,
    retention,
    sharpen,
    update_links,
    update_precedence,
    update_usage,
)
from pyro_gtm.memory.registry import register_memory
from pyro_gtm.memory.slots import TAG_SIZE, AddressedMemory, Initialisation, LearnedInitialWeights

__all__ = ["DNCMemory", "DNCState"]


class DNCState(NamedTuple):
    """State of a :class:`DNCMemory`."""

    hidden: Tensor
    """h_t: ``(*batch, hidden_dim)``."""

    cell: Tensor
    """The LSTM's cell: ``(*batch, hidden_dim)``."""

    memory: Tensor
    """M_t: ``(*batch, N, W)``."""

    usage: Tensor
    """u_t: ``(*batch, N)``."""

    links: Tensor
    """L_t: ``(*batch, N, N)``."""

    precedence: Tensor
    """p_t: ``(*batch, N)``."""

    read_weights: Tensor
    """w_r: ``(*batch, R, N)``."""

    write_weights: Tensor
    """w_w: ``(*batch, N)``."""

    reads: Tensor
    """φ_t, fed to the controller in the next step: ``(*batch, R, W)``."""

    origins: Tensor
    """How much of what was written 1..K writes ago is in each slot: ``(*batch, N, K)``, K = N with
    ``recall``, else 0."""


@register_memory("dnc")
class DNCMemory(AddressedMemory):
    """N slots, allocated when they are free and linked in the order of writing.

    Details of a step: ``read_weights`` ``(*batch, R, N)``; ``write_weights`` ``(*batch, 1, N)``;
    ``usage`` u_t ``(*batch, N)``; ``allocation_gates`` g_a, ``write_gates`` g_w ``(*batch, 1)``;
    ``free_gates`` f ``(*batch, R)``; ``read_modes`` π ``(*batch, R, 3)``: backward, content,
    forward; ``link_sharpness`` ``(*batch, N)``, the greatest link into each slot, which is near one
    where it is known after which other slot it was written (structured, also for slots not yet
    written, which begin linked); ``memory`` M_t ``(*batch, N, W)``.

    Args:
        latent_dim: Z, size of what the program writes each step.
        slots: N.
        heads: R, how many heads read.
        word_size: W; Z + 16 if None, which leaves room for a tag to be found by.
        hidden_dim: width of the LSTM.
        control_dim: size of the control.
        initialisation: ``"structured"``, a memory that stores and keeps each latent from the start,
            or ``"plain"``, an interface drawn at random.
        tie: usage that is the same when rounded to multiples of this counts as equal in the
            allocation, so that of fresh slots the lowest is taken; 0 as published.
        recall: tell what its reads are made of, as a mixture prior needs.
        masked_keys: look up with masks.
        erase_freed: erase what is freed.
        sharpened_links: sharpen where links lead.
    """

    def __init__(
        self,
        latent_dim: int,
        slots: int = 16,
        heads: int = 3,
        word_size: int | None = None,
        hidden_dim: int = 128,
        control_dim: int = 0,
        initialisation: Initialisation = "structured",
        tie: float = 0.01,
        recall: bool = False,
        masked_keys: bool = False,
        erase_freed: bool = False,
        sharpened_links: bool = False,
    ) -> None:
        check_positive("DNCMemory", latent_dim=latent_dim, heads=heads)
        word_size = latent_dim + TAG_SIZE if word_size is None else word_size
        masks = {"read_masks": (heads, word_size), "write_masks": (1, word_size)}
        exponents = {"link_exponents": (heads, 2)}
        super().__init__(
            {
                "read_keys": (heads, word_size),
                "read_strengths": (heads, 1),
                "read_modes": (heads, 3),
                "free_gates": (heads, 1),
                "write_keys": (1, word_size),
                "write_strengths": (1, 1),
                "allocation_gates": (1, 1),
                "write_gates": (1, 1),
                "erase": (1, word_size),
                "add": (1, word_size),
                **(masks if masked_keys else {}),
                **(exponents if sharpened_links else {}),
            },
            # Write all of each word to a fresh slot, free none, and read on in order; where links
            # are sharpened, hardly so at first.
            {
                "read_modes": (0.0, 0.0, 5.0),
                "free_gates": -4.0,
                "allocation_gates": 7.0,
                "write_gates": 5.0,
                "link_exponents": -4.0,
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
        if not isinstance(tie, (int, float)) or not 0 <= tie < 1:
            raise ValueError(f"DNCMemory: tie must lie in [0, 1), got {tie!r}")
        self.tie = tie
        self.masked_keys = masked_keys
        self.erase_freed = erase_freed
        self.sharpened_links = sharpened_links
        self.itself: Tensor
        self.register_buffer("itself", torch.eye(slots, dtype=torch.bool), persistent=False)
        self.starts_in_order = initialisation == "structured"
        if self.starts_in_order:
            self.initial_read_weights = LearnedInitialWeights(heads, slots)

    def initial_state(self, batch_shape: Sequence[int] = ()) -> DNCState:
        hidden = self.controller.initial(batch_shape)
        if self.starts_in_order:
            slots = torch.eye(self.slots, dtype=hidden.dtype, device=hidden.device)  # (N, N)
            links = slots.roll(1, dims=0).tril(-1)  # (N, N): from each slot to the next
            precedence = slots[-1]  # (N,)
            read_weights = self.initial_read_weights()  # (R, N)
        else:
            links = hidden.new_zeros(self.slots, self.slots)
            precedence = hidden.new_zeros(self.slots)
            read_weights = hidden.new_zeros(self.heads, self.slots)
        return DNCState(
            hidden=hidden,
            cell=self.controller.initial(batch_shape),
            memory=hidden.new_zeros(*batch_shape, self.slots, self.word_size),
            usage=hidden.new_zeros(*batch_shape, self.slots),
            links=links.expand(*batch_shape, *links.shape),
            precedence=precedence.expand(*batch_shape, *precedence.shape),
            read_weights=read_weights.expand(*batch_shape, *read_weights.shape),
            write_weights=hidden.new_zeros(*batch_shape, self.slots),
            reads=hidden.new_zeros(*batch_shape, self.heads, self.word_size),
            origins=hidden.new_zeros(*batch_shape, self.slots, self.recall_length),
        )

    def access(
        self, state: DNCState, emitted: Mapping[str, Tensor], write: bool = True
    ) -> tuple[DNCState, dict[str, Tensor]]:
        free_gates = emitted["free_gates"].squeeze(-1).sigmoid()  # (*, R)
        allocation_gates = emitted["allocation_gates"].squeeze(-1).sigmoid()  # (*, 1)
        write_gates = emitted["write_gates"].squeeze(-1).sigmoid()  # (*, 1)
        if not write:
            write_gates = torch.zeros_like(write_gates)

        usage = update_usage(state.usage, state.write_weights)
        retained = retention(state.read_weights, free_gates)  # (*, N)
        usage = usage * retained
        memory, left = state.memory, torch.ones_like(retained)
        if self.erase_freed and write:
            left = retained
            memory = memory * left.unsqueeze(-1)
        similar = content_weights(
            memory,
            emitted["write_keys"],
            _oneplus(emitted["write_strengths"]),
            emitted["write_masks"].sigmoid() if self.masked_keys else None,
        )  # (*, 1, N)
        free = allocate(usage, self.tie).unsqueeze(-2)  # (*, 1, N)
        written = write_gates.unsqueeze(-1) * interpolate(free, similar, allocation_gates)
        erase = emitted["erase"].sigmoid()  # (*, 1, W)
        memory = erase_and_add(memory, written, erase, emitted["add"])  # (*, N, W)

        write_weights = written.squeeze(-2)  # (*, N)
        links = update_links(state.links, state.precedence, write_weights, self.itself)  # (*, N, N)
        precedence = update_precedence(state.precedence, write_weights)  # (*, N)

        modes = emitted["read_modes"].softmax(dim=-1)  # (*, R, 3)
        forward, backward = follow_links(links, state.read_weights)  # (*, R, N)
        if self.sharpened_links:
            to_back, to_forward = _oneplus(emitted["link_exponents"].unsqueeze(-1)).unbind(-1)
            backward, forward = sharpen(backward, to_back), sharpen(forward, to_forward)
        content = content_weights(
            memory,
            emitted["read_keys"],
            _oneplus(emitted["read_strengths"]),
            emitted["read_masks"].sigmoid() if self.masked_keys else None,
        )  # (*, R, N)
        read_weights = mix_read_modes(backward, content, forward, modes)  # (*, R, N)
        reads = read_words(memory, read_weights)  # (*, R, W)
        state = state._replace(
            memory=memory,
            usage=usage,
            links=links,
            precedence=precedence,
            read_weights=read_weights,
            write_weights=write_weights,
            reads=reads,
        )
        return state, {
            "read_weights": read_weights,
            "write_weights": written,
            "usage": usage,
            "allocation_gates": allocation_gates,
            "write_gates": write_gates,
            "free_gates": free_gates,
            "read_modes": modes,
            "link_sharpness": links.detach().amax(dim=-1),
            "memory": memory,
            **({"kept": left * kept_shares(written, erase)} if self.recall_length else {}),
        }


def _oneplus(emitted: Tensor) -> Tensor:
    """1 + log(1 + exp(x)), the last dimension of size one taken away."""
    return 1 + F.softplus(emitted.squeeze(-1))
