"""How a memory runs through a whole sequence, when nobody asks to see each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from pyro_gtm.internals.checkpointing import leaves_behind, recomputed_with
from pyro_gtm.internals.checks import check_whole
from pyro_gtm.internals.compiling import compiled_block
from pyro_gtm.internals.recurrent_linear import FirstOrderOnly, summing_weight_gradients_once
from pyro_gtm.memory import MemoryModule
from pyro_gtm.ops import Cell, Mapped, join, parts_of

__all__ = ["Unrolling", "check_written", "detached"]

Map = Callable[[Tensor], Tensor]
Outputs = tuple[Tensor, ...]
Block = Callable[..., tuple[Any, Tensor, Outputs]]
"""As :func:`_run_block`: gives the state, what was written last, and contexts with outputs."""


@dataclass(frozen=True)
class Unrolling:
    """How the recurrence of a sequence is run.

    By default all T steps are one piece of ordinary PyTorch.  Each setting cuts the sequence into
    blocks of so many steps; 0 turns it off.

    Blocks are for :func:`pyro_gtm.ops.unroll`, in which the stacked layout is written.  Where
    steps are messages (the per-step layout, or beside a handler that wants to see each, such as
    ``record_memory``), gradients are truncated all the same, but nothing is compiled or
    checkpointed, of which a warning says so once.  Gradients of gradients can be had from messages
    only.

    Args:
        checkpoint_every: keep for the backward pass only the state between blocks, and run each
            block again when its turn comes.  Same loss, same gradients; the recurrence's part of
            the peak memory goes from that of T steps to that of n, and T / n states, so n near the
            root of T is best; the recurrence takes a forward pass more.
        truncate_every: stop gradients between blocks (truncated backpropagation through time).
            The loss is the same.  **The gradient is biased**: what a frame owes to latents and
            states before its own block does not count, so nothing further back than a block is
            learned to be stored or found; weights still see each step's own part.  It saves
            the time of no product, and no memory.
        compile_steps: compile so many steps, memory and heads, with ``torch.compile``.  The first
            training step takes longer by tens of seconds, and more for more steps at once.  Same
            numbers up to rounding: gradients are compared with those of plain steps at first, and
            where they differ the compiled block is refused.

    Raises:
        ValueError: a setting is no whole number of at least 0.
    """

    checkpoint_every: int = 0
    truncate_every: int = 0
    compile_steps: int = 0

    def __post_init__(self) -> None:
        check_whole("Unrolling", **asdict(self))

    def cuts_before(self, step: int) -> bool:
        """Whether gradients stop before a step, counted from 0."""
        return self.truncate_every > 0 and step > 0 and step % self.truncate_every == 0

    def run(
        self,
        memory: MemoryModule,
        cell: Cell,
        state: Any,
        latent: Tensor,
        controls: Tensor | None,
        sequences: Sequence[Tensor | Mapped | None],
        *,
        num_steps: int,
        first_step: int = 0,
    ) -> tuple[Any, Tensor, Outputs]:
        """Take ``num_steps`` steps from ``state`` and the latent written last.

        Args:
            memory: whose step is taken.
            cell: see :func:`pyro_gtm.ops.unroll`.
            state: of the memory, before the first step.
            latent: what was written last, ``(*batch, latent_dim)``.
            controls: ``(T, *batch, control_dim)``.
            sequences: see :func:`pyro_gtm.ops.unroll`.
            num_steps: T.
            first_step: how many steps the sequence has had before.

        Returns:
            The state and the latent after the last step; contexts and outputs of all steps.

        Raises:
            ValueError: the cell writes a latent of another size than the memory's.
            CannotCompileError: so it is.
            RuntimeError: the memory draws random numbers and is to be checkpointed.
        """
        within = tuple(s.function if isinstance(s, Mapped) else None for s in sequences)
        plain = [controls, *(s.sequence if isinstance(s, Mapped) else s for s in sequences)]
        run_block = self._block(memory, cell, state, latent, plain, within)
        boundaries = list(pairwise(self._boundaries(first_step, num_steps)))
        lengths = [end - begin for begin, end in boundaries]
        # All pieces at once: the gradient of each slice by itself would be as long as the whole.
        pieces = [
            [None] * len(lengths) if s is None else s[:num_steps].split(lengths) for s in plain
        ]
        blocks: list[Outputs] = []
        for (begin, end), *here in zip(boundaries, *pieces, strict=True):
            if self.cuts_before(first_step + begin):
                state, latent = detached(state), latent.detach()
            state, latent, outputs = run_block(memory, cell, state, latent, end - begin, *here)
            blocks.append(outputs)
        if len(blocks) == 1:
            return state, latent, blocks[0]
        time = 0 if blocks[0][0].dim() == 3 else -3
        whole = tuple(torch.cat(parts, dim=time) for parts in zip(*blocks, strict=True))
        return state, latent, whole

    def _boundaries(self, first_step: int, num_steps: int) -> list[int]:
        """Where blocks begin, and T."""
        lengths = [self.checkpoint_every, self.truncate_every, self.compile_steps]
        inner = {
            at
            for length in lengths
            if length
            for at in range(-first_step % length, num_steps, length)
        }
        return sorted({0, num_steps} | inner)

    def _block(
        self,
        memory: MemoryModule,
        cell: Cell,
        state: Any,
        latent: Tensor,
        sequences: Sequence[Tensor | None],
        within: tuple[Map | None, ...],
    ) -> Block:
        # Nothing else pays in a forward pass alone.
        block: Block = _run_block
        if torch.is_grad_enabled():
            block = (
                compiled_block(memory, cast(Any, _run_block))
                if self.compile_steps
                else _run_block_summing_once
            )
        if any(within):
            block = _Mapping(block, within)
        if not (self.checkpoint_every and torch.is_grad_enabled()):
            return block
        first = [None if s is None else s[:1].detach() for s in sequences]
        # A cell is any function: what blocks depend on beside their inputs, a step tells.
        one_step = _Mapping(_run_block, within)(
            memory, cell, detached(state), latent.detach(), 1, *first
        )
        return _RunAgain(block, leaves_behind(_flat(*one_step)))


@dataclass(frozen=True)
class _Mapping:
    """A block that maps some of its sequences first."""

    block: Block
    functions: tuple[Map | None, ...]

    def __call__(
        self,
        memory: MemoryModule,
        cell: Cell,
        state: Any,
        latent: Tensor,
        num_steps: int,
        controls: Tensor | None,
        *sequences: Tensor | None,
    ) -> tuple[Any, Tensor, Outputs]:
        mapped = [
            sequence if function is None or sequence is None else function(sequence)
            for function, sequence in zip(self.functions, sequences, strict=True)
        ]
        return self.block(memory, cell, state, latent, num_steps, controls, *mapped)


@dataclass(frozen=True)
class _RunAgain:
    """A block of which nothing is kept but what goes in and out."""

    block: Block
    weights: list[Tensor]

    def __call__(
        self,
        memory: MemoryModule,
        cell: Cell,
        state: Any,
        latent: Tensor,
        num_steps: int,
        *sequences: Tensor | None,
    ) -> tuple[Any, Tensor, Outputs]:
        kind, parts = type(state), len(state)
        there = [s is not None for s in sequences]

        def run(*tensors: Tensor) -> Outputs:
            rest = iter(tensors[parts + 1 :])
            given = [next(rest) if one else None for one in there]
            state, latent, outputs = self.block(
                memory, cell, kind(*tensors[:parts]), tensors[parts], num_steps, *given
            )
            return _flat(state, latent, outputs)

        inputs = [*state, latent, *(s for s in sequences if s is not None)]
        return _packed(kind, parts, recomputed_with(run, inputs, self.weights))


def _flat(state: Any, latent: Tensor, outputs: Outputs) -> tuple[Tensor, ...]:
    """What a block gives, as tensors side by side."""
    return (*state, latent, *outputs)


def _packed(kind: Any, parts: int, flat: tuple[Tensor, ...]) -> tuple[Any, Tensor, Outputs]:
    """The inverse of :func:`_flat`, for a state of such a kind with so many parts."""
    return kind(*flat[:parts]), flat[parts], flat[parts + 1 :]


def detached(state: Any) -> Any:
    """A memory's state, through which no gradient goes back."""
    return type(state)(*(part.detach() for part in state))


def check_written(memory: MemoryModule, latent: Tensor) -> None:
    """Refuse a latent of another size than the memory's.

    Raises:
        ValueError: so it is.
    """
    if latent.shape[-1] != memory.latent_dim:
        raise ValueError(
            f"gtm.write: the memory takes latents of size {memory.latent_dim}, got one of "
            f"size {latent.shape[-1]}"
        )


def _run_block(
    memory: MemoryModule,
    cell: Cell,
    state: Any,
    latent: Tensor,
    num_steps: int,
    controls: Tensor | None,
    *sequences: Tensor | None,
) -> tuple[Any, Tensor, Outputs]:
    steps = []
    # As above: all steps of a sequence at once.
    here = [[None] * num_steps if s is None else s.unbind(0) for s in (controls, *sequences)]
    for control, *seen in zip(*here, strict=True):
        state, context, _ = memory.step(state, latent, control)
        latent, *outputs = parts_of(cell(context, *seen))
        check_written(memory, latent)
        latent = latent.expand(*context.shape[:-1], -1)
        steps.append((context, *outputs))
    return state, latent, tuple(join(parts) for parts in zip(*steps, strict=True))


def _run_block_summing_once(*arguments: Any) -> tuple[Any, Tensor, Outputs]:
    num_steps = arguments[4]
    with summing_weight_gradients_once(num_steps):
        state, latent, outputs = _run_block(*arguments)
    passed = FirstOrderOnly.apply(*_flat(state, latent, outputs))
    return _packed(type(state), len(state), passed)
