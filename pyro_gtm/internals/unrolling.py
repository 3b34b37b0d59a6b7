"""The recurrence of a memory over a whole sequence, as a value, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from pyro_gtm.internals.activation_checkpointing import (
    checkpointed_with,
    graph_time,
    leaves_behind,
)
from pyro_gtm.internals.checks import check_not_negative
from pyro_gtm.internals.compiling import compiled_block
from pyro_gtm.internals.memory_step import (
    Intervenes,
    Observes,
    StepInputs,
    Steps,
    broadcast_batch,
    check_written,
    take_step,
)

__all__ = ["Cell", "LazyMap", "Recurrence", "Run", "Unrolling", "align"]

Cell = Callable[..., tuple[Tensor, ...]]
"""A step of a program: the context and the inputs of the step, to what is to be written,
``(*batch, latent_dim)``, and any further outputs, as one flat tuple of tensors."""

Map = Callable[[Tensor], Tensor]
Outputs = tuple[Tensor, ...]
Block = Callable[..., tuple[Any, Tensor, Outputs]]
"""As :func:`_run_block`: gives the state, the latent written last, and contexts with outputs."""


class LazyMap(NamedTuple):
    """A function's values along a sequence, computed block by block where they are needed.

    For values that are larger than what they are made from, in a block that is checkpointed.
    """

    function: Map
    """Of any steps at once: ``(n, ...)`` to ``(n, ...)``, each by itself."""

    sequence: Tensor
    """``(T, ...)``."""

    def values(self) -> Tensor:
        """Of all steps: ``(T, ...)``."""
        return self.function(self.sequence)


Input = Tensor | LazyMap | None


class Run(NamedTuple):
    """One run of a recurrence."""

    state: Any
    """Of the memory, after the last step."""

    latent: Tensor
    """The latent written last: ``(*batch, latent_dim)``."""

    length: int
    """T."""

    batch_shape: torch.Size
    """``batch``."""

    contexts: Tensor
    """Ψ_1..Ψ_T: ``(T, *batch, context_dim)``."""

    outputs: Outputs
    """The further outputs of the cell: ``(T, *batch, n)`` each."""


@dataclass(frozen=True)
class Unrolling:
    """The way in which the recurrence of a sequence is run.

    By default all T steps are one piece of ordinary PyTorch.  Each setting cuts the sequence into
    blocks of so many steps; 0 turns it off.  Blocks are for whole sequences
    (:func:`pyro_gtm.unroll`, the stacked layout).  Where steps are messages (the per-step layout)
    or another handler takes part in each (``record_memory``), nothing is compiled or checkpointed,
    of which a warning says so once.

    Args:
        checkpoint_every: activation checkpointing: keep for the backward pass only the state
            between blocks, and compute the rest of each block again when its turn comes.  Same
            loss, same gradients; the recurrence's part of the peak memory goes from that of T steps
            to that of n, and T / n states, so n near the root of T is best; the recurrence takes a
            forward pass more.  No double backward.
        compile_steps: compile so many steps, memory and heads, with ``torch.compile``.  The first
            training step takes longer by tens of seconds, and more for more steps at once.  Same
            numbers up to rounding: gradients are compared with those of plain steps at first, and
            where they differ the compiled block is refused.

    Raises:
        ValueError: a setting is negative or no integer.
    """

    checkpoint_every: int = 0
    compile_steps: int = 0

    def __post_init__(self) -> None:
        check_not_negative("Unrolling", **asdict(self))


@dataclass(frozen=True)
class Recurrence:
    """A memory from some step on, as a pure function of what is to be written.

    Made by :func:`pyro_gtm.ops.recurrence`.

    Args:
        memory: whose steps are taken.
        state: of the memory before the first step.
        latent: the latent written last, ``(*batch, latent_dim)``.
        batch_shape: ``batch``, which a run may broadcast to a larger one.
        step: how many steps the sequence has had before.
        settings: how it is run.
        interventions: asked in every step.
        observers: told of every step.
        resume_from: brings the memory that this was taken from to the end of a run.
    """

    memory: Steps
    state: Any
    latent: Tensor
    batch_shape: torch.Size
    step: int
    settings: Unrolling
    interventions: tuple[Intervenes, ...]
    observers: tuple[Observes, ...]
    resume_from: Callable[[Run], None]

    def run(
        self,
        cell: Cell,
        inputs: Sequence[Input],
        *,
        controls: Tensor | None,
        length: int,
        batch_shape: Sequence[int],
    ) -> Run:
        """Take ``length`` steps.

        Args:
            cell: must not draw random numbers, nor send messages.
            inputs: of the cell: ``(T, ...)`` each; None stays None.
            controls: ``(T, *batch, control_dim)``, and perhaps more steps.
            length: T.
            batch_shape: of what the cell writes; that of the sequences begun is broadcast to it.

        Raises:
            ValueError: the cell writes a latent of another size than the memory's, or batch shapes
                do not go together.
            CannotCompileError: the block cannot be compiled.
            RuntimeError: the memory draws random numbers and is to be checkpointed.
        """
        shapes = [batch_shape, *([] if controls is None else [controls.shape[1:-1]])]
        batch_shape = broadcast_batch(self.batch_shape, *shapes)
        state = self.state
        if batch_shape != self.batch_shape:
            state = self.memory.expand_state(state, batch_shape)
        latent = self.latent.expand(*batch_shape, -1)
        if controls is not None:
            controls = align(controls[:length], len(batch_shape)).expand(length, *batch_shape, -1)
        if self.interventions or self.observers:
            state, latent, outputs = self._run_watched(
                cell, state, latent, controls, inputs, batch_shape, length
            )
        else:
            state, latent, outputs = self._run_in_blocks(
                cell, state, latent, controls, inputs, length
            )
        return Run(state, latent, length, batch_shape, outputs[0], outputs[1:])

    def written_batch(self, cell: Cell, first: Sequence[Tensor | None], control: Any) -> torch.Size:
        """The batch shape of what the cell writes in the first step, whose inputs are given."""
        with torch.no_grad():
            shapes = () if control is None else (control.shape[:-1],)
            batch_shape = broadcast_batch(self.batch_shape, *shapes)
            state = self.memory.expand_state(self.state, batch_shape)
            latent = self.latent.expand(*batch_shape, -1)
            if control is not None:
                control = control.expand(*batch_shape, -1)
            written, *_ = cell(self.memory.step(state, latent, control).context, *first)
        return torch.Size(written.shape[:-1])

    def _run_watched(
        self,
        cell: Cell,
        state: Any,
        latent: Tensor,
        controls: Tensor | None,
        inputs: Sequence[Input],
        batch_shape: torch.Size,
        length: int,
    ) -> tuple[Any, Tensor, Outputs]:
        values = [s.values() if isinstance(s, LazyMap) else s for s in inputs]
        steps = []
        for number, (control, *here) in enumerate(_steps([controls, *values], length), self.step):
            result = take_step(
                self.memory,
                number,
                StepInputs(state, latent, control),
                self.interventions,
                self.observers,
            )
            state = result.state
            written, *outputs = cell(result.context, *here)
            check_written(self.memory, written, batch_shape)
            latent = written.expand(*batch_shape, -1)
            for observer in self.observers:
                observer.observe_write(latent)
            steps.append((result.context, *outputs))
        return state, latent, _join(steps)

    def _run_in_blocks(
        self,
        cell: Cell,
        state: Any,
        latent: Tensor,
        controls: Tensor | None,
        inputs: Sequence[Input],
        length: int,
    ) -> tuple[Any, Tensor, Outputs]:
        within = tuple(s.function if isinstance(s, LazyMap) else None for s in inputs)
        plain = [controls, *(s.sequence if isinstance(s, LazyMap) else s for s in inputs)]
        run_block = self._block(cell, state, latent, plain, within)
        boundaries = self._boundaries(length)
        lengths = [end - begin for begin, end in pairwise(boundaries)]
        # All pieces at once: the gradient of each slice by itself would be as long as the whole.
        pieces = [[None] * len(lengths) if s is None else s[:length].split(lengths) for s in plain]
        blocks: list[Outputs] = []
        for steps, *here in zip(lengths, *pieces, strict=True):
            state, latent, outputs = run_block(self.memory, cell, state, latent, steps, *here)
            blocks.append(outputs)
        if len(blocks) == 1:
            return state, latent, blocks[0]
        return state, latent, tuple(torch.cat(parts) for parts in zip(*blocks, strict=True))

    def _boundaries(self, length: int) -> list[int]:
        """Where blocks begin, and T."""
        sizes = [self.settings.checkpoint_every, self.settings.compile_steps]
        inner = {at for size in sizes if size for at in range(size, length, size)}
        return sorted({0, length} | inner)

    def _block(
        self,
        cell: Cell,
        state: Any,
        latent: Tensor,
        sequences: Sequence[Tensor | None],
        within: tuple[Map | None, ...],
    ) -> Block:
        block: Block = _run_block
        if not torch.is_grad_enabled():  # nothing else pays in a forward pass alone
            return _MappedBlock(block, within) if any(within) else block
        if self.settings.compile_steps:
            block = compiled_block(cast(Any, self.memory), cast(Any, _run_block))
        if any(within):
            block = _MappedBlock(block, within)
        if not self.settings.checkpoint_every:
            return block
        first = [None if s is None else s[:1].detach() for s in sequences]
        # A cell is any function: one step tells which weights blocks depend on.
        detached = type(state)(*(part.detach() for part in state))
        begun = graph_time()
        one_step = _MappedBlock(_run_block, within)(
            self.memory, cell, detached, latent.detach(), 1, *first
        )
        return _CheckpointedBlock(block, leaves_behind(_flatten(*one_step), made_since=begun))


@dataclass(frozen=True)
class _MappedBlock:
    """A block that maps some of its inputs first."""

    block: Block
    functions: tuple[Map | None, ...]

    def __call__(
        self,
        memory: Steps,
        cell: Cell,
        state: Any,
        latent: Tensor,
        length: int,
        controls: Tensor | None,
        *inputs: Tensor | None,
    ) -> tuple[Any, Tensor, Outputs]:
        mapped = [
            sequence if function is None or sequence is None else function(sequence)
            for function, sequence in zip(self.functions, inputs, strict=True)
        ]
        return self.block(memory, cell, state, latent, length, controls, *mapped)


@dataclass(frozen=True)
class _CheckpointedBlock:
    """A block of which nothing is kept but its inputs and outputs."""

    block: Block
    weights: list[Tensor]

    def __call__(
        self,
        memory: Steps,
        cell: Cell,
        state: Any,
        latent: Tensor,
        length: int,
        *sequences: Tensor | None,
    ) -> tuple[Any, Tensor, Outputs]:
        kind, parts = type(state), len(state)
        there = [s is not None for s in sequences]

        def run(*tensors: Tensor) -> Outputs:
            rest = iter(tensors[parts + 1 :])
            given = [next(rest) if one else None for one in there]
            return _flatten(
                *self.block(memory, cell, kind(*tensors[:parts]), tensors[parts], length, *given)
            )

        tensors = [*state, latent, *(s for s in sequences if s is not None)]
        return _unflatten(kind, parts, checkpointed_with(run, tensors, self.weights))


def _flatten(state: Any, latent: Tensor, outputs: Outputs) -> tuple[Tensor, ...]:
    """The outputs of a block, side by side."""
    return (*state, latent, *outputs)


def _unflatten(kind: Any, parts: int, flat: tuple[Tensor, ...]) -> tuple[Any, Tensor, Outputs]:
    """The inverse of :func:`_flatten`, for a state of such a kind with so many parts."""
    return kind(*flat[:parts]), flat[parts], flat[parts + 1 :]


def _run_block(
    memory: Steps,
    cell: Cell,
    state: Any,
    latent: Tensor,
    length: int,
    *sequences: Tensor | None,
) -> tuple[Any, Tensor, Outputs]:
    steps = []
    for control, *here in _steps(sequences, length):
        state, context, _ = memory.step(state, latent, control)
        written, *outputs = cell(context, *here)
        check_written(memory, written, context.shape[:-1])
        latent = written.expand(*context.shape[:-1], -1)
        steps.append((context, *outputs))
    return state, latent, _join(steps)


def _steps(sequences: Sequence[Tensor | None], length: int) -> Any:
    """All steps of all sequences, at once: the gradient of an index is as long as the whole."""
    return zip(
        *([None] * length if s is None else s[:length].unbind(0) for s in sequences), strict=True
    )


def _join(steps: Sequence[tuple[Tensor, ...]]) -> Outputs:
    return tuple(torch.stack(parts) for parts in zip(*steps, strict=True))


def align(sequence: Tensor, batch_dims: int, event_dims: int = 1) -> Tensor:
    """Room for more batch dimensions between time and batch: ``(T, B, n)`` to ``(T, 1.., B, n)``.

    Args:
        sequence: ``(T, *batch, *event)``.
        batch_dims: how many batch dimensions there are to be, at least.
        event_dims: how many dimensions an event has.
    """
    missing = batch_dims - (sequence.dim() - 1 - event_dims)
    index = (slice(None), *[None] * max(missing, 0))
    return sequence[index]
