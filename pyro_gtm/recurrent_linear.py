"""Linear layers that a loop over time calls once in each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["RecurrentLinear", "summing_weight_gradients_once"]


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
        if loop is None:
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
        self.layers: dict[RecurrentLinear, tuple[Tensor, Iterator[Tensor], list[Tensor]]] = {}

    def call(self, layer: RecurrentLinear, input: Tensor) -> Tensor:
        if layer not in self.layers:
            inputs: list[Tensor] = []
            shape = torch.Size([self.num_steps, *input.shape[:-1], layer.out_features])
            biases = _SpreadBias.apply(layer.weight, layer.bias, shape, inputs).unbind(0)
            self.layers[layer] = layer.weight.detach().t(), iter(biases), inputs
        transposed, biases_left, inputs = self.layers[layer]
        bias = next(biases_left, None)
        if bias is None or bias.shape[:-1] != input.shape[:-1]:
            return F.linear(input, layer.weight, layer.bias)
        inputs.append(input.detach())
        if input.dim() == 2:
            return torch.addmm(bias, input, transposed)
        return input @ transposed + bias


class _SpreadBias(torch.autograd.Function):
    """The bias of a layer, once for each step: ``(O,) -> (T, *batch, O)``.

    The gradients of these biases are those of the layer's outputs.  With the inputs, which the
    caller collects meanwhile, they make the gradients of the weights.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, shape: torch.Size, inputs: list[Tensor]
    ) -> Tensor:
        ctx.inputs = inputs
        return bias.expand(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_outputs = gradient[: len(ctx.inputs)].flatten(0, -2)  # (T * batch, O)
        inputs = torch.stack(ctx.inputs).flatten(0, -2)  # (T * batch, I)
        return of_outputs.t() @ inputs, of_outputs.sum(dim=0), None, None


_loop: ContextVar[_Loop | None] = ContextVar("the loop to sum over", default=None)
