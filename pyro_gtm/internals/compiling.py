"""Blocks of steps compiled with ``torch.compile``, and not taken on trust."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pyro_gtm.internals.activation_checkpointing import leaves_behind

__all__ = ["CannotCompileError", "CompiledBlock", "compiled_block"]

Block = Callable[..., Any]

TOLERANCE = {torch.float64: 1e-8}
"""Of the norm of a gradient, the difference to the plain block's; for other types, below."""

SINGLE_TOLERANCE = 1e-3


class CannotCompileError(RuntimeError):
    """A memory cannot be compiled here: one sentence says why."""


class CompiledBlock:
    """A block compiled, each kind of which is compared with the plain one when it is first run.

    PyTorch 2.13's compiler gives long blocks of some memories a right value and a wrong gradient.

    Args:
        owner: what is compiled, for messages.
        plain: tensors, modules and numbers, in nested tuples, to tensors in nested tuples.
    """

    def __init__(self, owner: str, plain: FunctionType) -> None:
        self.owner = owner
        self.plain = plain
        # PyTorch counts recompilations by code object and gives up after some: each block has one
        # of its own.
        own = FunctionType(plain.__code__.replace(), plain.__globals__)
        # Without buffers that are written into after they were read, fewer gradients are wrong.
        self._compiled: Block = torch.compile(
            own, fullgraph=True, dynamic=False, options={"inplace_buffers": False}
        )
        self._compared: set[Hashable] = set()

    def __call__(self, *arguments: Any) -> Any:
        kind = _kind(arguments)
        if kind not in self._compared and torch.is_grad_enabled():
            self._compare(arguments)
            self._compared.add(kind)
        return self._run(*arguments)

    def _run(self, *arguments: Any) -> Any:
        with self._explaining():
            return self._compiled(*arguments)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        # Here, since it takes a second, which those who compile nothing need not wait.
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            yield
        except FailOnRecompileLimitHit as error:
            raise CannotCompileError(
                f"{self.owner} was compiled anew too often: compile_steps wants few different "
                "lengths of sequences and sizes of batches"
            ) from error
        except TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)
            reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
            raise CannotCompileError(
                f"{self.owner} cannot be compiled here ({reason}): leave compile_steps at 0"
            ) from error

    def _compare(self, arguments: tuple[Any, ...]) -> None:
        plain = _gradients(self.plain, arguments)
        with self._explaining():  # the backward pass is compiled when it is first needed
            compiled = _gradients(self._compiled, arguments)
        largest = max((float(gradient.norm()) for gradient in plain), default=0.0)
        for one, other in zip(plain, compiled, strict=True):
            tolerance = TOLERANCE.get(one.dtype, SINGLE_TOLERANCE)
            # A gradient that is tiny against the others may be all rounding.
            scale = max(float(one.norm()), 1e-3 * largest)
            difference = float((one - other).norm())
            if not difference <= tolerance * scale:
                raise CannotCompileError(
                    f"{self.owner} compiled has other gradients than it should, by "
                    f"{difference / scale:.1g} of their norm, which is PyTorch's compiler's fault: "
                    "choose fewer compile_steps, or 0"
                )


def _gradients(block: Block, arguments: tuple[Any, ...]) -> list[Tensor]:
    """By all inputs and weights, of a sum in which no two numbers of the results weigh the same."""
    given = tree_map(
        lambda leaf: (
            leaf.detach().requires_grad_(leaf.requires_grad) if isinstance(leaf, Tensor) else leaf
        ),
        arguments,
    )
    results = [leaf for leaf in tree_leaves(block(*given)) if leaf.requires_grad]
    wanted = [
        leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor) and leaf.requires_grad
    ]
    known = {id(leaf) for leaf in wanted}
    weights = [leaf for leaf in leaves_behind(results) if id(leaf) not in known]
    weights.sort(key=id)
    weighings = [
        torch.arange(r.numel(), dtype=r.dtype, device=r.device).cos().view(r.shape) for r in results
    ]
    found = torch.autograd.grad(results, [*wanted, *weights], weighings, allow_unused=True)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip([*wanted, *weights], found, strict=True)
    ]


def _kind(arguments: tuple[Any, ...]) -> Hashable:
    """The key of a compiled version: shapes, types and structure of the arguments."""
    return tuple(
        (leaf.shape, leaf.dtype, leaf.requires_grad) if isinstance(leaf, Tensor) else _code_of(leaf)
        for leaf in tree_leaves(arguments)
    )


def _code_of(leaf: Any) -> Hashable:
    """A key of what a function or a callable object does: the code, not the instance."""
    inner = getattr(leaf, "cell", leaf)
    code = getattr(inner, "__code__", None)
    return id(type(leaf)), id(type(inner)) if code is None else id(code)


_blocks: WeakKeyDictionary[nn.Module, CompiledBlock] = WeakKeyDictionary()


def compiled_block(memory: nn.Module, plain: FunctionType) -> CompiledBlock:
    """The compiled form of ``plain`` that belongs to a memory."""
    if memory not in _blocks:
        _blocks[memory] = CompiledBlock(type(memory).__name__, plain)
    return _blocks[memory]
