"""How a memory runs through a whole sequence, when nobody asks to see each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch.utils.checkpoint import checkpoint

from pyro_gtm.checks import check_whole
from pyro_gtm.memory import MemoryModule
from pyro_gtm.ops import Cell, join
from pyro_gtm.recurrent_linear import summing_weight_gradients_once

__all__ = ["Unrolling"]

Outputs = tuple[Tensor, ...]
Block = Callable[..., tuple[Any, Tensor, Outputs]]
"""As :func:`_run_block`: gives the state, what was written last, and contexts with outputs."""


@dataclass(frozen=True)
class Unrolling:
    """How the recurrence of a sequence is run.

    By default all T steps are one piece of ordinary PyTorch.  Each setting cuts the sequence into
    blocks of so many steps; 0 turns it off.

    Args:
        checkpoint_every: keep for the backward pass only the state between blocks, and run each
            block again when its turn comes.  Same loss, same gradients; the recurrence's part of
            the peak memory goes from T to T / n + n blocks' worth, so n near the root of T is best;
            the recurrence takes a forward pass more.
        truncate_every: stop gradients between blocks (truncated backpropagation through time).
            The loss is the same.  **The gradient is biased**: what a frame owes to latents and
            states before its own block does not count, so nothing further back than a block is
            learned to be stored or found; weights still see each step's own part.  It saves
            the time of no product, and no memory.
        compile_steps: compile so many steps, memory and heads, with ``torch.compile``.  The first
            training step takes longer by tens of seconds, and more for more steps at once.  Same
            numbers up to rounding.

    Raises:
        ValueError: a setting is no whole number of at least 0.
    """

    checkpoint_every: int = 0
    truncate_every: int = 0
    compile_steps: int = 0

    def __post_init__(self) -> None:
        check_whole("Unrolling", **asdict(self))

    def run(
        self,
        memory: MemoryModule,
        cell: Cell,
        state: Any,
        latent: Tensor,
        controls: Tensor | None,
        sequences: Sequence[Tensor | None],
        num_steps: int,
    ) -> tuple[Any, Tensor, Outputs]:
        """Take ``num_steps`` steps from ``state`` and the latent written last.

        Args:
            memory: whose step is taken.
            cell: see :func:`pyro_gtm.ops.unroll`.
            state: of the memory, before the first step.
            latent: what was written last, ``(*batch, latent_dim)``.
            controls: ``(T, *batch, control_dim)``.
            sequences: ``(T, ...)`` each, or None.
            num_steps: T.

        Returns:
            The state and the latent after the last step; contexts and outputs of all steps.
        """
        blocks: list[Outputs] = []
        for begin, end in pairwise(self._boundaries(num_steps)):
            if self.truncate_every and begin % self.truncate_every == 0:
                state = type(state)(*(part.detach() for part in state)) if begin else state
                latent = latent.detach() if begin else latent
            block = self._block(memory)
            here = [None if s is None else s[begin:end] for s in (controls, *sequences)]
            state, latent, outputs = block(memory, cell, state, latent, end - begin, *here)
            blocks.append(outputs)
        if len(blocks) == 1:
            return state, latent, blocks[0]
        time = 0 if blocks[0][0].dim() == 3 else -3
        whole = tuple(torch.cat(parts, dim=time) for parts in zip(*blocks, strict=True))
        return state, latent, whole

    def _boundaries(self, num_steps: int) -> list[int]:
        """Where blocks begin, and T."""
        lengths = [self.checkpoint_every, self.truncate_every, self.compile_steps]
        inner = {at for length in lengths if length for at in range(0, num_steps, length)}
        return sorted({0, num_steps} | inner)

    def _block(self, memory: MemoryModule) -> Block:
        block: Block = _run_block
        if not torch.is_grad_enabled():  # neither pays in a forward pass alone
            return block
        if self.compile_steps:
            block = _compiled(memory)
        elif not self.checkpoint_every:
            block = _run_block_summing_once
        return _Checkpointed(block) if self.checkpoint_every else block


@dataclass(frozen=True)
class _Checkpointed:
    """A block whose inside is forgotten, and run again in the backward pass."""

    block: Block

    def __call__(self, *arguments: Any) -> tuple[Any, Tensor, Outputs]:
        # Nothing random happens in a block, so no generator has to be put back.
        result = checkpoint(self.block, *arguments, use_reentrant=False, preserve_rng_state=False)
        return result


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
    for t in range(num_steps):
        control = None if controls is None else controls[t]
        state, context, _ = memory.step(state, latent, control)
        latent, *outputs = cell(context, *[None if s is None else s[t] for s in sequences])
        steps.append((context, *outputs))
    return state, latent, tuple(join(parts) for parts in zip(*steps, strict=True))


def _run_block_summing_once(*arguments: Any) -> tuple[Any, Tensor, Outputs]:
    num_steps = arguments[4]
    with summing_weight_gradients_once(num_steps):
        return _run_block(*arguments)


_compiled_blocks: WeakKeyDictionary[MemoryModule, Block] = WeakKeyDictionary()


def _compiled(memory: MemoryModule) -> Block:
    if memory not in _compiled_blocks:
        # PyTorch counts recompilations by code object and gives up after some: each memory has one
        # of its own.
        own = FunctionType(_run_block.__code__.replace(), _run_block.__globals__)
        # Where it may write into buffers it has read, the compiler of PyTorch 2.13 gives the NTM's
        # words a wrong gradient in blocks of several steps.
        _compiled_blocks[memory] = torch.compile(
            own, fullgraph=True, dynamic=False, options={"inplace_buffers": False}
        )
    compiled = _compiled_blocks[memory]

    def block(*arguments: Any) -> tuple[Any, Tensor, Outputs]:
        try:
            return compiled(*arguments)
        except TorchDynamoException as error:
            reason = next(line for line in str(error).splitlines() if line.strip())
            raise RuntimeError(
                f"{type(memory).__name__} cannot be compiled here ({reason.strip()}): "
                "leave compile_steps at 0"
            ) from error

    return block
