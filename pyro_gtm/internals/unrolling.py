"""The recurrence of a memory over a whole sequence, as a value, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
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
    NEVER,
    Intervenes,
    Observes,
    StepInputs,
    Steps,
    Taken,
    broadcast_batch,
    check_written,
    log_shares_of,
    take_step,
)

__all__ = ["Cell", "LazyMap", "Recalls", "Recurrence", "Run", "Unrolling", "align", "stretch"]

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


class Recalls(NamedTuple):
    """What each step of a run read, in shares of what was written before it."""

    shares: Tensor
    """Logarithms, by step as :meth:`by_step` gives them; or, with ``ages``, by age: of what was
    written 1..K writes before, ``(T, *batch, R, K)``."""

    ages: Tensor | None = None
    """At which age what was written in step s is found in step t, -1 for none:
    ``(T, T - 1)`` of int64."""

    owners: Tensor | None = None
    """Which sequence wrote in step s what a sequence finds in step t, where contents were
    exchanged: ``(T, T - 1, B)`` of int64; None: itself."""

    def by_step(self) -> Tensor:
        """The log-share of what was written in step s in each head's read of step t:
        ``(T, *batch, R, T - 1)``."""
        if self.ages is None:
            return self.shares
        length, *inner, count = self.shares.shape
        if length == 1:
            return self.shares[..., :0]
        there = (self.ages >= 0) & (self.ages < count)
        index = self.ages.clamp(0, count - 1).view(length, *[1] * len(inner), length - 1)
        shares = self.shares.gather(-1, index.expand(length, *inner, length - 1))
        return shares.masked_fill(~there.view(index.shape), NEVER)


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

    recalls: Recalls | None
    """None where the memory does not tell."""

    watched: Sequence[Taken] | None = None
    """The steps, where others took part in them."""


class Walk(NamedTuple):
    """The end of a walk."""

    state: Any
    latent: Tensor
    batch_shape: torch.Size
    recalls: Recalls | None
    taken: list[Taken]


class _Begun(NamedTuple):
    """Where a run begins."""

    batch_shape: torch.Size
    state: Any
    latent: Tensor
    controls: Tensor | None


class _History:
    """What a memory holds in each step of a walk: which steps' latents, and of which sequence."""

    def __init__(self, batch_shape: torch.Size) -> None:
        self.sequences = batch_shape[-1] if batch_shape else 1
        self.held: list[tuple[int, list[int]]] = []  # newest first: the step, whose each is
        self.steps: list[list[tuple[int, list[int]]]] = []
        self.taken: list[Taken] = []

    def add_step(self, written: int, taken: Taken) -> None:
        """The contents in a step whose write would be that of the latent of step ``written``."""
        for pair in taken.swapped:
            self.held = [(step, _exchanged(owners, *pair)) for step, owners in self.held]
        if taken.write:
            self.held = [(written, [*range(self.sequences)]), *self.held]
        self.steps.append(self.held)
        self.taken.append(taken)

    def tables(self, length: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """``ages`` and ``owners`` of :class:`Recalls`."""
        if all(step == (True, ()) for step in self.taken):
            return _ages(length, device), None
        swapped = any(step.swapped for step in self.taken)
        ages = torch.full((length, length - 1), -1)
        owners = torch.arange(self.sequences).repeat(length, length - 1, 1)
        for t, held in enumerate(self.steps):
            for age, (step, whose) in enumerate(held):
                if step >= 0:
                    ages[t, step] = age
                    if swapped:
                        owners[t, step] = torch.tensor(whose)
        return ages.to(device), owners.to(device) if swapped else None


def _ages(length: int, device: torch.device) -> Tensor:
    """At which age what was written in step s is found in step t: ``(T, T - 1)`` of int64."""
    steps = torch.arange(length, device=device)
    return steps.unsqueeze(1) - 1 - steps[:-1]  # below 0 for what is still to come


def _exchanged(values: list[int], first: int, second: int) -> list[int]:
    values = list(values)
    values[first], values[second] = values[second], values[first]
    return values


def _write_given(context: Tensor, latent: Tensor) -> tuple[Tensor, ...]:
    """A step whose latent is given."""
    return (latent,)


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
        if self.interventions or self.observers:
            return self._run_watched(cell, inputs, controls, length, batch_shape)
        begun = self._begin(batch_shape, controls, length)
        state, latent, (contexts, *outputs) = self._run_in_blocks(
            cell, begun.state, begun.latent, begun.controls, inputs, length
        )
        recalls = None
        if self.memory.recall_length:
            shares, *outputs = outputs
            recalls = Recalls(shares, _ages(length, contexts.device))
        return Run(state, latent, length, begun.batch_shape, contexts, tuple(outputs), recalls)

    def along(self, latents: Tensor, *, controls: Tensor | None) -> Run:
        """Take the steps in which these latents, ``(T, *batch, latent_dim)``, are written.

        All at once where the memory can, and nobody looks on, intervenes, or wants blocks.
        """
        length, batch_shape = len(latents), latents.shape[1:-1]
        check_written(self.memory, latents)
        alone = not (self.interventions or self.observers) and self.settings == Unrolling()
        if alone and self.step == 0:
            begun = self._begin(batch_shape, controls, length)
            latents = stretch(latents, begun.batch_shape)
            whole = self.memory.unroll(begun.state, begun.latent, latents, begun.controls)
            if whole is not None:
                recalls = None if whole.log_shares is None else Recalls(whole.log_shares)
                return Run(
                    whole.state, latents[-1], length, begun.batch_shape, whole.contexts, (), recalls
                )
        return self.run(
            _write_given, [latents], controls=controls, length=length, batch_shape=batch_shape
        )

    def walk(
        self, controls: Tensor | None, length: int, batch_shape: Sequence[int]
    ) -> Generator[tuple[StepInputs, Any], Tensor, Walk]:
        """Take ``length`` steps one by one, where what is written is a matter of drawing.

        Yields the inputs and the result of each step, and is sent the latent.
        """
        begun = self._begin(batch_shape, controls, length)
        state, latent = begun.state, begun.latent
        history = _History(begun.batch_shape)
        recalls = []
        for t, control in enumerate([None] * length if begun.controls is None else begun.controls):
            inputs, result = take_step(
                self.memory,
                self.step + t,
                StepInputs(state, latent, control),
                self.interventions,
                self.observers,
            )
            state = result.state
            history.add_step(t - 1, inputs.taken)
            written = yield inputs, result
            check_written(self.memory, written, begun.batch_shape)
            latent = written.expand(*begun.batch_shape, -1)
            for observer in self.observers:
                observer.observe_write(latent)
            recalls.append(
                log_shares_of(self.memory, result.details) if self.memory.recall_length else None
            )
        told = None
        if self.memory.recall_length:
            shares = torch.stack(torch.broadcast_tensors(*recalls))
            told = Recalls(shares, *history.tables(length, shares.device))
        return Walk(state, latent, begun.batch_shape, told, history.taken)

    def _begin(self, batch_shape: Sequence[int], controls: Tensor | None, length: int) -> _Begun:
        """State, latent and controls of a batch shape for all."""
        shapes = [batch_shape, *([] if controls is None else [controls.shape[1:-1]])]
        batch_shape = broadcast_batch(self.batch_shape, *shapes)
        state = self.state
        if batch_shape != self.batch_shape:
            state = self.memory.expand_state(state, batch_shape)
        if controls is not None:
            controls = stretch(controls[:length], batch_shape)
        return _Begun(batch_shape, state, self.latent.expand(*batch_shape, -1), controls)

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
        inputs: Sequence[Input],
        controls: Tensor | None,
        length: int,
        batch_shape: Sequence[int],
    ) -> Run:
        values = [s.values() if isinstance(s, LazyMap) else s for s in inputs]
        walk = self.walk(controls, length, batch_shape)
        _, result = next(walk)
        steps = []
        try:
            for here in _steps(values, length):
                written, *outputs = cell(result.context, *here)
                steps.append((result.context, *outputs))
                _, result = walk.send(written)
        except StopIteration as stop:
            end: Walk = stop.value
        contexts, *rest = _join(steps)
        return Run(
            state=end.state,
            latent=end.latent,
            length=length,
            batch_shape=end.batch_shape,
            contexts=contexts,
            outputs=tuple(rest),
            recalls=end.recalls,
            watched=end.taken,
        )

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
        state, context, details = memory.step(state, latent, control)
        written, *outputs = cell(context, *here)
        check_written(memory, written, context.shape[:-1])
        latent = written.expand(*context.shape[:-1], -1)
        told = (log_shares_of(memory, details),) if memory.recall_length else ()
        steps.append((context, *told, *outputs))
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


def stretch(sequence: Tensor, batch_shape: Sequence[int]) -> Tensor:
    """Broadcast the batch, ``(T, *, n)``, to ``(T, *batch, n)``."""
    return align(sequence, len(batch_shape)).expand(len(sequence), *batch_shape, -1)
