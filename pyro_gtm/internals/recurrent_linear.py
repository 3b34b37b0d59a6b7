"""Linear layers that a loop over time calls once in each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "FirstOrderOnly",
    "RecurrentLinear",
    "refuse_second_order",
    "summing_weight_gradients_once",
]


class RecurrentLinear(nn.Linear):
    """A linear layer for use inside a loop: ``nn.Linear`` but for its gradient's way.

    Called T times, a layer has T gradients of its weights, each a product of matrices with few rows
    that is added to the sum of those before.  Within :func:`summing_weight_gradients_once` they
    are one product with T times as many rows, and no sum: the same number up to rounding.
    Elsewhere this is :class:`torch.nn.Linear`.
    """

    def forward(self, input: Tensor) -> Tensor:
        # A compiler cannot follow a context variable, and fuses the loop's products by itself.
        loop = None if torch.compiler.is_compiling() else _loop.get()
        if loop is None or self.bias is None or not torch.is_grad_enabled():
            return super().forward(input)
        return loop.call(self, input)


@contextmanager
def summing_weight_gradients_once(num_steps: int) -> Iterator[None]:
    """Within it, every :class:`RecurrentLinear` collects what its gradients need.

    Gradients of these gradients cannot be taken.

    Args:
        num_steps: how often each layer is called, at most; further calls are ordinary ones.
    """
    token = _loop.set(_Loop(num_steps) if torch.is_grad_enabled() else None)
    try:
        yield
    finally:
        _loop.reset(token)


class _Loop:
    """The layers called so far, each with its weights, biases and inputs."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.layers: dict[RecurrentLinear, _Calls] = {}

    def call(self, layer: RecurrentLinear, input: Tensor) -> Tensor:
        calls = self.layers.get(layer)
        if calls is None:
            calls = self.layers[layer] = _Calls(layer, self.num_steps, input.shape[:-1])
        if len(calls.inputs) == self.num_steps or input.shape[:-1] != calls.batch_shape:
            return F.linear(input, layer.weight, layer.bias)
        bias = calls.biases[len(calls.inputs)]
        calls.inputs.append((input.detach(), input._version))
        if input.dim() == 2:
            return torch.addmm(bias, input, calls.transposed)
        return input @ calls.transposed + bias


Inputs = list[tuple[Tensor, int]]
"""The inputs of a layer so far, each with its version then."""


class _Calls:
    """Of one layer in one loop, all on inputs of one shape."""

    def __init__(self, layer: RecurrentLinear, num_steps: int, batch_shape: torch.Size) -> None:
        self.batch_shape = batch_shape
        self.inputs: Inputs = []
        self.transposed = layer.weight.detach().t()
        shape = torch.Size([num_steps, *batch_shape, layer.out_features])
        self.biases = _SpreadBias.apply(layer.weight, layer.bias, shape, self.inputs).unbind(0)


class _SpreadBias(torch.autograd.Function):
    """The bias of a layer, once for each step: ``(O,) -> (T, *batch, O)``.

    The gradients of these biases are those of the layer's outputs.  With the inputs, which the
    caller collects meanwhile, they make the gradients of the weights.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, shape: torch.Size, inputs: Inputs
    ) -> Tensor:
        ctx.inputs = inputs
        ctx.dtype = weight.dtype
        return bias.expand(shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        refuse_second_order()
        if any(tensor._version != version for tensor, version in ctx.inputs):
            raise RuntimeError(
                "RecurrentLinear: an input needed for the gradient has been modified by an inplace "
                "operation"
            )
        of_outputs = gradient[: len(ctx.inputs)].flatten(0, -2)  # (T * batch, O)
        inputs = torch.stack([tensor for tensor, _ in ctx.inputs]).flatten(0, -2)  # (T * batch, I)
        of_weight = of_outputs.t() @ inputs.to(of_outputs.dtype)  # they differ under autocast
        return of_weight.to(ctx.dtype), of_outputs.sum(dim=0), None, None


class FirstOrderOnly(torch.autograd.Function):
    """Its arguments, unchanged; gradients of gradients through them are refused.

    What a loop gives back passes through it, since the weights' part in those would be missing.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_order()
        return gradients


def refuse_second_order() -> None:
    """In a backward pass: refuse one that is to be differentiated itself.

    Raises:
        RuntimeError: it is.
    """
    if torch.is_grad_enabled():  # as it is in a backward pass with create_graph=True
        raise RuntimeError(
            "gradients of gradients cannot be taken where weight gradients are summed once or "
            "blocks are run again: use the layout 'per_step', or leave create_graph out"
        )


_loop: ContextVar[_Loop | None] = ContextVar("the loop to sum over", default=None)
