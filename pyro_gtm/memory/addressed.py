"""What the content-addressed memories share: controller, interface and context.

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
- The interface sees z_{t-1} beside h_t: Figure 2 draws an arrow from z to the write, while
  equation 14 has the keys from h_t alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gtm.memory.base import MemoryModule, MemoryStep, check_control
from pyro_gtm.memory.controller import LSTMController

__all__ = ["AddressedMemory"]


class AddressedMemory(MemoryModule):
    """Base class of memories with N slots that are found by what they hold.

    A subclass names the parts of its interface, with their sizes, and defines
    :meth:`initial_state` and :meth:`access`.  Its state is a ``NamedTuple`` that has among its
    fields ``hidden`` and ``cell``, of the controller, and ``reads``, ``(*batch, R, W)``.

    Args:
        interface: for each part what one of ``count`` heads emits, as ``(count, size)``.
        latent_dim: Z, size of what the program writes each step.
        slots: N, how many words the memory holds.
        heads: R, how many reads there are in a step.
        word_size: W, size of a word; that of the latent if None.
        hidden_dim: width of the LSTM.
        control_dim: size of the control.
    """

    controller_fields = ("hidden", "cell")

    def __init__(
        self,
        interface: Mapping[str, tuple[int, int]],
        *,
        latent_dim: int,
        slots: int,
        heads: int,
        word_size: int,
        hidden_dim: int,
        control_dim: int,
    ) -> None:
        super().__init__(
            latent_dim=latent_dim,
            control_dim=control_dim,
            context_dim=heads * word_size + hidden_dim,
            read_shape=(heads, word_size),
        )
        self.slots = slots
        self.heads = heads
        self.word_size = word_size
        self.controller = LSTMController(latent_dim + control_dim + heads * word_size, hidden_dim)
        self.parts = dict(interface)
        sizes = [count * size for count, size in self.parts.values()]
        self.interface = nn.Linear(hidden_dim + latent_dim, sum(sizes))

    def step(self, state: Any, latent: Tensor, control: Tensor | None = None) -> MemoryStep:
        return self._advance(state, latent, control, writes=True)

    def step_without_writing(
        self, state: Any, latent: Tensor, control: Tensor | None = None
    ) -> MemoryStep:
        return self._advance(state, latent, control, writes=False)

    @abstractmethod
    def access(
        self, state: Any, emitted: Mapping[str, Tensor], writes: bool = True
    ) -> tuple[Any, dict[str, Tensor]]:
        """Write and read, given what the controller asks for: a pure function without weights.

        Args:
            state: of the step before.
            emitted: the parts of the interface as the matrix product leaves them, before any
                sigmoid or softplus; ``(*batch, count, size)`` each.
            writes: False to leave what is stored untouched.

        Returns:
            The state after the step, ``hidden`` and ``cell`` aside, and the details.
        """

    def cut_reads(
        self, state: Any, context: Tensor, heads: Sequence[int] | None = None
    ) -> tuple[Any, Tensor]:
        """Zero what the heads have read, in the next step's input too."""
        state, context = super().cut_reads(state, context, heads)
        count, width = self.read_shape
        reads = context[..., : count * width].unflatten(-1, self.read_shape)  # (*batch, R, W)
        return state._replace(reads=reads), context

    def _advance(
        self, state: Any, latent: Tensor, control: Tensor | None, writes: bool
    ) -> MemoryStep:
        check_control(type(self).__name__, control, self.control_dim)
        inputs = [latent, state.reads.flatten(-2)]
        if control is not None:
            inputs.append(control)
        hidden, cell = self.controller(inputs, state.hidden, state.cell)
        vector = self.interface(torch.cat([hidden, latent], dim=-1))
        shapes = self.parts.values()
        parts = vector.split([count * size for count, size in shapes], dim=-1)
        emitted = {
            name: part.unflatten(-1, shape)
            for name, part, shape in zip(self.parts, parts, shapes, strict=True)
        }  # (*batch, count, size) each
        state, details = self.access(state, emitted, writes)
        context = torch.cat([state.reads.flatten(-2), hidden], dim=-1)  # (*batch, R * W + H)
        return MemoryStep(state._replace(hidden=hidden, cell=cell), context, details)
