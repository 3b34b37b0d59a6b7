"""Memories with slots found by content: their controller, interface and context.

Source: Gemici et al. 2017 (arXiv 1702.04649), equations 13-16 and Figure 2 (right).

In the paper's symbols, one step of any of them is::

    h_t   = LSTM(h_{t-1}, [z_{t-1}, c_t, φ_{t-1}])               (13)
    M_t   = what the memory makes of M_{t-1} and [h_t, z_{t-1}]
    φ_t^r = w_t^r · M_t,  r = 1..R                               (16)
    Ψ_t   = [φ_t^1, ..., φ_t^R, h_t]

What an NTM, an LRU memory and a DNC differ in is how the weights of reading and writing come about;
each says so in its own file.  All of it is emitted by one matrix product, the *interface*.

Deviations, for all of them:

- In step t the memory is first written and then read, as the DNC was published.  Only z_{t-1} and
  what came before it can have been written, so nothing of x_t leaks.
- ``initialisation="structured"`` (the default) starts from a memory that stores and keeps each
  latent, see :meth:`AddressedMemory._structure`, and from an LSTM that is a clock, see
  :class:`~pyro_gtm.memory.controller.LSTMController`.  ``"plain"`` starts both as PyTorch does, but
  for the forget gates; what else it switches is said in the file of each memory.
- The interface sees z_{t-1} beside h_t: Figure 2 draws an arrow from z to the write, while
  equation 14 has the keys from h_t alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from pyro_gtm.internals.checks import check_choice, check_positive
from pyro_gtm.internals.products import Linear
from pyro_gtm.memory.addressing import shares_of, trace_origins
from pyro_gtm.memory.base import MemoryModule, MemoryStep, check_control
from pyro_gtm.memory.controller import LSTMController

__all__ = ["TAG_SIZE", "AddressedMemory", "Initialisation", "LearnedInitialWeights"]

Initialisation = Literal["structured", "plain"]

INITIAL_WEIGHTS_RATE = 20.0
"""Factor on the learning rate of the logits of a head's start: an optimiser that
moves every weight by some 0.002 in a step would need thousands of steps to choose a slot."""

TAG_SIZE = 16
"""Size of the tag that follows the latent in a word of the LRU memory and the DNC."""

TAG_SCALE = 10.0
"""Factor on the initial weights from h_t to a tag, so that tags can be told apart though latents
share their words."""


class LearnedInitialWeights(nn.Module):
    """Where each of R heads starts among N slots: a learned weighting, near uniform at first.

    Called with no arguments, returns the weights, ``(R, N)``.
    """

    def __init__(self, heads: int, slots: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(heads, slots) * 0.1 / INITIAL_WEIGHTS_RATE)

    def forward(self) -> Tensor:
        return (INITIAL_WEIGHTS_RATE * self.logits).softmax(dim=-1)


class AddressedMemory(MemoryModule):
    """Base class of memories with N slots that are found by what they hold.

    A subclass names the parts of its interface, with their sizes, and defines
    :meth:`initial_state` and :meth:`access`.  Its state is a ``NamedTuple`` that has among its
    fields ``hidden`` and ``cell``, of the controller, and ``reads``, ``(*batch, R, W)``.  Of the
    parts, ``"add"`` is what is written, and parts whose name ends in ``"keys"`` are what is looked
    up: these two kinds have a structured initialisation.

    Args:
        interface: for each part what one of ``count`` heads emits, as ``(count, size)``.
        biases: what ``initialisation="structured"`` adds to the biases of some parts: numbers,
            nested or not, to be broadcast to ``(count, size)``.
        latent_dim: Z, size of what the program writes each step.
        slots: N, how many words the memory holds.
        heads: R, how many reads there are in a step.
        word_size: W, size of a word.
        hidden_dim: width of the LSTM.
        control_dim: size of the control.
        initialisation: ``"structured"`` or ``"plain"``, see :meth:`_structure`.
        recall: whether to follow through the slots what was written when, so that it is known what
            reads are made of (``recall_length`` is then the number of slots).  The state has a
            field ``origins`` for it, ``(*batch, N, K)``, and :meth:`access` tells among its details
            which share of each word was ``kept``, ``(*batch, N)``.
        tag_scale: factor on the initial weights from h_t to a tag.
    """

    controller_fields: ClassVar[tuple[str, ...]] = ("hidden", "cell")

    def __init__(
        self,
        interface: Mapping[str, tuple[int, int]],
        biases: Mapping[str, Any],
        *,
        latent_dim: int,
        slots: int,
        heads: int,
        word_size: int,
        hidden_dim: int,
        control_dim: int,
        initialisation: Initialisation,
        recall: bool = False,
        tag_scale: float = TAG_SCALE,
    ) -> None:
        name = type(self).__name__
        check_positive(
            name,
            latent_dim=latent_dim,
            slots=slots,
            heads=heads,
            word_size=word_size,
            hidden_dim=hidden_dim,
        )
        check_choice(name, "initialisation", initialisation, get_args(Initialisation))
        super().__init__(
            latent_dim=latent_dim,
            control_dim=control_dim,
            context_dim=heads * word_size + hidden_dim,
            read_shape=(heads, word_size),
            recall_length=slots if recall else 0,
        )
        self.slots = slots
        self.heads = heads
        self.word_size = word_size
        self.controller = LSTMController(
            latent_dim + control_dim + heads * word_size,
            hidden_dim,
            horizon=slots if initialisation == "structured" else None,
        )
        self.parts = dict(interface)
        self.sizes = [count * size for count, size in self.parts.values()]
        self.interface = Linear(hidden_dim + latent_dim, sum(self.sizes))
        if initialisation == "structured":
            self._structure(biases, tag_scale)

    @torch.no_grad()
    def _structure(self, biases: Mapping[str, Any], tag_scale: float) -> None:
        """Begin as a memory that stores each latent as it is, and keeps it.

        A network whose interface starts at random writes a little of everything everywhere, and has
        to learn to store, to keep and to find before any of them pays.  Here a word starts as
        [z_{t-1}, a tag made from h_t], as far as it has room, and keys look for tags if there
        are any.
        """
        hidden_dim, latent_dim = self.controller.hidden_dim, self.latent_dim
        weights = self.interface.weight.split(self.sizes)
        shifts = self.interface.bias.split(self.sizes)
        for name, weight, bias in zip(self.parts, weights, shifts, strict=True):
            count, size = self.parts[name]
            bias.view(count, size).add_(torch.tensor(biases.get(name, 0.0)))
            finds = name.endswith("keys") and self.word_size > latent_dim
            if name != "add" and not finds:
                continue
            from_hidden, from_latent = weight.view(count, size, -1).split(
                [hidden_dim, latent_dim], dim=-1
            )
            from_hidden[:, :latent_dim] = 0
            from_hidden[:, latent_dim:] *= tag_scale
            from_latent.zero_()
            bias.view(count, size)[:, :latent_dim] = 0
            if name == "add":
                from_latent.copy_(torch.eye(size, latent_dim))

    def step(
        self, state: Any, latent: Tensor, control: Tensor | None = None, *, write: bool = True
    ) -> MemoryStep:
        """One step: the controller moves on, what it asks for is written and read."""
        check_control(type(self).__name__, control, self.control_dim)
        inputs = [latent, state.reads.flatten(-2)]
        if control is not None:
            inputs.append(control)
        hidden, cell = self.controller(inputs, state.hidden, state.cell)
        vector = self.interface(torch.cat([hidden, latent], dim=-1))
        batch_shape = vector.shape[:-1]
        parts = torch.split_with_sizes(vector, self.sizes, dim=-1)
        emitted = {
            name: part.view(*batch_shape, *shape)  # (*batch, count, size)
            for (name, shape), part in zip(self.parts.items(), parts, strict=True)
        }
        state, details = self.access(state, emitted, write)
        if self.recall_length:
            if write:
                added = details["write_weights"].sum(dim=-2)  # (*, N)
                origins = trace_origins(state.origins, details["kept"], added)  # (*, N, K)
                state = state._replace(origins=origins)
            shares = shares_of(details["read_weights"], state.origins)  # (*, R, K)
            details = {**details, "log_shares": shares}
        context = torch.cat([state.reads.flatten(-2), hidden], dim=-1)  # (*batch, R * W + H)
        return MemoryStep(state._replace(hidden=hidden, cell=cell), context, details)

    def access(
        self, state: Any, emitted: Mapping[str, Tensor], write: bool = True
    ) -> tuple[Any, dict[str, Tensor]]:
        """Write and read, given what the controller asks for: a pure function without weights.

        Args:
            state: of the step before.
            emitted: the parts of the interface as the matrix product leaves them, before any
                sigmoid or softplus; ``(*batch, count, size)`` each.
            write: False to leave what is stored untouched.

        Returns:
            The state after the step, ``hidden`` and ``cell`` aside, and the details.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define access")

    def zero_reads(
        self, state: Any, context: Tensor, heads: Sequence[int] | None = None
    ) -> tuple[Any, Tensor]:
        """Zero the reads of the given heads, in the next step's input too."""
        state, context = super().zero_reads(state, context, heads)
        count, width = self.read_shape
        reads = context[..., : count * width].unflatten(-1, self.read_shape)  # (*batch, R, W)
        return state._replace(reads=reads), context
