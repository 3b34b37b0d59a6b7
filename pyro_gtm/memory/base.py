"""The interface of every memory: weights and one pure step.

A memory module knows nothing of Pyro, of plates or of tasks.  It can be unrolled by hand::

    state = memory.initial_state((batch,))
    for latent in latents:  # (batch, latent_dim) each
        state, context, details = memory.step(state, latent)

and it is given to a Pyro program by :class:`pyro_gtm.use_memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pyro_gtm.internals.memory_step import NEVER, StepInputs

__all__ = [
    "NEVER",
    "MemoryModule",
    "MemoryStep",
    "MemoryUnroll",
    "State",
    "StepInputs",
    "check_control",
]

State = Any
"""A ``NamedTuple`` of tensors, batch dimensions first: each memory defines its own."""


class MemoryStep(NamedTuple):
    """The result of one step of a memory."""

    state: State
    """The state after the step."""

    context: Tensor
    """The context that the program reads, Ψ: ``(*batch, context_dim)``."""

    details: dict[str, Tensor]
    """Internals of the step that a figure may want, by name, batch dimensions first.

    Figures of runs know ``read_weights`` ``(*batch, R, N)``, ``write_weights`` ``(*batch, H, N)``,
    ``usage`` ``(*batch, N)`` and gates; other names and shapes are left out.
    """

    @property
    def log_shares(self) -> Tensor | None:
        """What the reads are made of, the detail ``log_shares``: of what was written 1, 2, ..., K
        writes ago, the logarithm of the share it has in each head's read, ``(*batch, R, K)``;
        :data:`NEVER` for none or, where slots are overwritten, log 1e-6.  None from a memory that
        does not tell (:attr:`MemoryModule.recall_length`)."""
        return self.details.get("log_shares")


class MemoryUnroll(NamedTuple):
    """All steps of a fresh sequence at once."""

    state: State
    """The state after the last step."""

    contexts: Tensor
    """Ψ_1..Ψ_T: ``(T, *batch, context_dim)``."""

    log_shares: Tensor | None
    """As :attr:`MemoryStep.log_shares`, but by step: of what was written in steps 1..T-1, the
    logarithm of the share it has in each head's read, ``(T, *batch, R, T - 1)``."""


class MemoryModule(nn.Module):
    """Base class of all memories.

    A subclass defines :meth:`initial_state` and :meth:`step`, and lays its context out as
    ``[reads flattened, anything else]`` with ``reads`` of shape :attr:`read_shape`.  It is an
    ordinary ``nn.Module``, which ``pyro.nn.PyroModule`` can wrap and make Bayesian.

    Args:
        latent_dim: size of what is written each step, usually the latent z_t.
        context_dim: size of what is read each step.
        read_shape: ``(heads, word_size)`` of the reads at the front of the context.
        control_dim: size of the control c_t; 0 for tasks without one.
        recall_length: K, of how many of the last writes it tells what share they have in a read
            (:attr:`MemoryStep.log_shares`); 0 for none.
    """

    reads_by_age: ClassVar[bool] = False
    """Slot i of its read weights is what was written i + 1 steps ago."""

    controller_fields: ClassVar[tuple[str, ...]] = ()
    """Fields of the state that belong to the controller; all others are contents."""

    def __init__(
        self,
        *,
        latent_dim: int,
        context_dim: int,
        read_shape: tuple[int, int],
        control_dim: int = 0,
        recall_length: int = 0,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.control_dim = control_dim
        self.context_dim = context_dim
        self.read_shape = read_shape
        self.recall_length = recall_length

    def initial_state(self, batch_shape: Sequence[int] = ()) -> State:
        """The state before the first step, for sequences of shape ``batch_shape``."""
        raise NotImplementedError(f"{type(self).__name__} does not define initial_state")

    def step(
        self, state: State, latent: Tensor, control: Tensor | None = None, *, write: bool = True
    ) -> MemoryStep:
        """Advance by one step: a pure function of its arguments and the weights.

        Args:
            state: from :meth:`initial_state` or the step before, batch shape ``batch``.
            latent: what was written last, zeros in the first step; ``(*batch, latent_dim)``.
            control: c_t of this step, ``(*batch, control_dim)``, or None if ``control_dim == 0``.
            write: False to leave the contents as they are, the lesion of all writing: the
                controller sees the latent and moves on.  A memory may do without this argument;
                it cannot be kept from writing then (:class:`pyro_gtm.freeze_writes`).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def unroll(
        self, state: State, latent: Tensor, latents: Tensor, controls: Tensor | None = None
    ) -> MemoryUnroll | None:
        """All steps of a fresh sequence at once; None from a memory that can only take them in
        turn, as most can.

        Args:
            state: from :meth:`initial_state`.
            latent: what was written before, usually zeros: ``(*batch, latent_dim)``.
            latents: what will be written in steps 1..T, ``(T, *batch, latent_dim)``.
            controls: c_1..c_T, ``(T, *batch, control_dim)``.
        """
        return None

    def swap_contents(self, state: State, first: int, second: int) -> State:
        """Exchange the contents of two sequences, leaving each its controller.

        Args:
            state: of batch shape ``(*, B)``.
            first: a sequence, by its index in the last batch dimension.
            second: another.
        """
        lone = self.initial_state(())

        def swapped(tensor: Tensor, dim: int) -> Tensor:
            order = torch.arange(tensor.shape[dim], device=tensor.device)
            order[first], order[second] = second, first
            return tensor.index_select(dim, order)

        return state._replace(
            **{
                name: swapped(getattr(state, name), -1 - getattr(lone, name).dim())
                for name in state._fields
                if name not in self.controller_fields
            }
        )

    def expand_state(self, state: State, batch_shape: Sequence[int]) -> State:
        """Broadcast a state to more or larger batch dimensions, such as a plate of particles."""
        lone = self.initial_state(())
        return type(state)(
            *(
                tensor.expand((*batch_shape, *single.shape))  # a single may be one number
                for tensor, single in zip(state, lone, strict=True)
            )
        )

    def zero_reads(
        self, state: State, context: Tensor, heads: Sequence[int] | None = None
    ) -> tuple[State, Tensor]:
        """Zero the reads of the given heads (all by default): the lesion of one step.

        A memory whose state carries its reads to the next step overrides this to zero them there.
        """
        count, width = self.read_shape
        keep = torch.ones(count, 1, dtype=context.dtype, device=context.device)  # (R, 1)
        keep[slice(None) if heads is None else list(heads)] = 0
        mask = context.new_ones(self.context_dim)  # (context_dim,)
        mask[: count * width] = keep.expand(count, width).reshape(-1)
        return state, context * mask


def check_control(owner: str, control: Tensor | None, control_dim: int) -> None:
    """Refuse a control where none is expected, a missing one, and one of the wrong size."""
    given = 0 if control is None else control.shape[-1]
    if given != control_dim:
        raise ValueError(
            f"{owner}: control of size {given} given, control_dim={control_dim} allowed"
            if control is not None
            else f"{owner}: no control given, one of size control_dim={control_dim} needed"
        )
