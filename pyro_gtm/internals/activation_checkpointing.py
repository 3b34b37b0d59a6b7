"""Activation checkpointing: keep a function's inputs, recompute the rest for the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["checkpointed", "checkpointed_with", "graph_time", "leaves_behind"]

R = TypeVar("R")
Function = Callable[..., "tuple[Tensor, ...]"]


def checkpointed(function: Callable[..., R], *arguments: Any) -> R:
    """``function(*arguments)``, whose inside is made again in the backward pass.

    Args:
        function: must give the same when it is run again, so it must not draw random numbers.

    Raises:
        RuntimeError: it does draw some.
    """
    # Putting generators back for the second run is not possible inside a CUDA graph.
    before = _generators()
    result: R = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    _refuse_random(before)
    return result


def checkpointed_with(
    function: Function, inputs: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """``function(*inputs)``, made again in the backward pass, as :func:`checkpointed` does.

    For functions of many small operations: nothing is done for each tensor that they keep.

    Args:
        function: of tensors to tensors.
        inputs: its arguments.
        weights: the leaves that its results depend on besides, such as
            :func:`leaves_behind` finds.
    """
    before = _generators()
    device = inputs[0].device.type
    results: tuple[Tensor, ...] = _Checkpointed.apply(
        function, _autocast_now(device), len(inputs), *inputs, *weights
    )
    _refuse_random(before)
    return results


def leaves_behind(results: Iterable[Tensor], made_since: int | None = None) -> list[Tensor]:
    """The tensors with gradients, such as weights, from which ``results`` were made.

    Args:
        results: what was computed from them.
        made_since: a number from :func:`graph_time`; None for any time.

    Raises:
        RuntimeError: something else with gradients was computed before that time: each block would
            go back through its graph, which is freed by the first that does.
    """
    seen: set[Any] = set()
    leaves: list[Tensor] = []
    waiting: list[Any] = [result.grad_fn for result in results]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        elif made_since is not None and node._sequence_nr() < made_since:
            raise RuntimeError(
                "checkpoint_every must be 0 for a memory, network or cell that uses tensors "
                "with gradients computed before the sequence, such as random weights"
            )
        waiting.extend(following for following, _ in node.next_functions)
    return leaves


def graph_time() -> int:
    """A number that autograd's nodes made from now on exceed, and those made before do not."""
    with torch.enable_grad():
        node: Any = (torch.zeros((), requires_grad=True) * 1).grad_fn
    number: int = node._sequence_nr()
    return number


class _Checkpointed(torch.autograd.Function):
    """``function`` of the first ``count`` tensors, of which none of its own is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Function,
        autocast: Callable[[], AbstractContextManager[Any]],
        count: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.function, ctx.autocast, ctx.count = function, autocast, count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return function(*tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        _refuse_double_backward()
        needed = ctx.needs_input_grad[3:]
        inputs = [
            tensor.detach().requires_grad_(needs)
            for tensor, needs in zip(ctx.saved_tensors[: ctx.count], needed, strict=False)
        ]
        before = _generators()
        with torch.enable_grad(), ctx.autocast():
            results = ctx.function(*inputs)
        _refuse_random(before)
        wanted = [
            tensor
            for tensor, needs in zip(
                [*inputs, *ctx.saved_tensors[ctx.count :]], needed, strict=True
            )
            if needs
        ]
        made = [
            (result, gradient)
            for result, gradient in zip(results, gradients, strict=True)
            if gradient is not None and result.requires_grad
        ]
        outputs, of_outputs = zip(*made, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, of_outputs, allow_unused=True))
        return None, None, None, *(next(found) if needs else None for needs in needed)


def _autocast_now(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Mixed precision as it is now, for the second run."""
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    return lambda: torch.autocast(device, dtype, enabled=enabled)


def _generators() -> list[Tensor]:
    """States of the generators that PyTorch draws from by itself, but for one being captured."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
        states.append(torch.cuda.get_rng_state())
    return states


def _refuse_random(before: list[Tensor]) -> None:
    if not all(torch.equal(a, b) for a, b in zip(before, _generators(), strict=True)):
        raise RuntimeError(
            "checkpoint_every must be 0 for networks or a memory that draw random numbers, such as "
            "dropout: computed again for the gradients, they would draw others"
        )


def _refuse_double_backward() -> None:
    if torch.is_grad_enabled():  # as it is in a backward pass with create_graph=True
        raise RuntimeError(
            "checkpoint_every must be 0 for a double backward (create_graph=True): checkpointed "
            "blocks have first gradients only"
        )
