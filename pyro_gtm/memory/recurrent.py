"""The memory of the Variational RNN: the hidden state of an LSTM alone.

Source: Chung et al. 2015 (arXiv 1506.02216), as the baseline of Gemici et al. 2017, Figure 1.

The baseline's context is the controller's own state, Ψ_t = h_t.  As it stands it is variant (c) of
Figure 1, where h_t sees the latents alone; which variant the paper's experiments used is not known.
Variant (a), where h_t sees the frames too, is the same module in a program that writes the frame's
features beside the latent
(``GenerativeTemporalModel(..., writes="latent+frame")``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.memory.base import MemoryModule, MemoryStep, check_control
from pyro_gtm.memory.controller import LSTMController
from pyro_gtm.memory.registry import register_memory

__all__ = ["RecurrentMemory", "RecurrentState"]


class RecurrentState(NamedTuple):
    """State of a :class:`RecurrentMemory`."""

    hidden: Tensor
    """h_t: ``(*batch, hidden_dim)``."""

    cell: Tensor
    """The LSTM's cell: ``(*batch, hidden_dim)``."""


@register_memory("vrnn")
class RecurrentMemory(MemoryModule):
    """No external memory: the context is the LSTM's hidden state, Ψ_t = h_t.

    Args:
        latent_dim: size of what is written each step.
        hidden_dim: width of the LSTM, and of the context.
        control_dim: size of the control.
    """

    def __init__(self, latent_dim: int, hidden_dim: int = 128, control_dim: int = 0) -> None:
        check_positive("RecurrentMemory", latent_dim=latent_dim, hidden_dim=hidden_dim)
        super().__init__(
            latent_dim=latent_dim,
            control_dim=control_dim,
            context_dim=hidden_dim,
            read_shape=(1, hidden_dim),
        )
        self.controller = LSTMController(latent_dim + control_dim, hidden_dim)

    def initial_state(self, batch_shape: Sequence[int] = ()) -> RecurrentState:
        return RecurrentState(
            hidden=self.controller.initial(batch_shape), cell=self.controller.initial(batch_shape)
        )

    def step(
        self,
        state: RecurrentState,
        latent: Tensor,
        control: Tensor | None = None,
        *,
        write: bool = True,
    ) -> MemoryStep:
        """One step of the LSTM; kept from writing, nothing moves: its state is all it holds."""
        check_control("RecurrentMemory", control, self.control_dim)
        if not write:
            return MemoryStep(state, context=state.hidden, details={})
        inputs = [latent] if control is None else [latent, control]
        hidden, cell = self.controller(inputs, state.hidden, state.cell)
        return MemoryStep(RecurrentState(hidden, cell), context=hidden, details={})
