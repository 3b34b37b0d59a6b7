"""Linear layers by the library that multiplies faster on this processor.

PyTorch on a CPU hands the products of ``torch.nn.functional.linear`` to MKL, or to what it was
built with in MKL's place.  It also brings oneDNN, and uses that for other precisions than float32.
Which of the two is faster depends on the processor: :func:`set_products` measures it, or is told.

Through oneDNN go all three products of a layer: its values, the gradient of its inputs and that of
its weight.  They are float32 as MKL's are, summed in another order; at a lower
``torch.set_float32_matmul_precision`` both libraries round alike.

:func:`linear` *is* ``torch.nn.functional.linear`` wherever oneDNN has no business: on tensors that
are not float32, not on the CPU, of a subclass or too small to be worth its overhead; under
autocast; where PyTorch transforms or records what is computed (``torch.func``, ``torch.compile``,
``torch.jit.trace``, forward-mode gradients).  A second backward pass works, through PyTorch's own
products.

Nothing here knows of the rest of the package: the file needs PyTorch alone.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

__all__ = [
    "PRODUCTS",
    "Backend",
    "Choice",
    "Linear",
    "Products",
    "linear",
    "onednn_linear",
    "present_products",
    "set_products",
    "through",
    "why_not_onednn",
]

Backend = Literal["mkl", "onednn"]
Products = Literal["auto", "mkl", "onednn"]

PRODUCTS: tuple[Products, ...] = ("auto", "mkl", "onednn")
"""What can be asked for: what is faster here; PyTorch's own; oneDNN's."""

SMALLEST = 2**23
"""Multiply-adds of a product from which on it may go through oneDNN.  The three calls of a layer
have some 90 us of overhead, whatever its size: a fifth of what a layer of this size takes, there
and back, at a hundred thousand million operations a second."""

FASTER = 0.85
"""oneDNN is taken where a layer takes at most so much of the time: a smaller gain may be noise."""

ROUNDS, ROWS, INPUTS, OUTPUTS = 6, 512, 640, 400
"""Of the measurement, in which the two take turns: a layer of a decoder, some tens of
milliseconds."""


class Choice(NamedTuple):
    """Through what the layers of this process multiply, and why."""

    backend: Backend
    reason: str
    """Words that go on from the backend's name."""


_present = Choice("mkl", "which is PyTorch's own way")


def set_products(name: Products) -> Choice:
    """Have all layers of this process multiply through one library from now on.

    Args:
        name: ``"auto"`` for the faster here, which the first call of a process finds out in some
            tens of milliseconds; ``"mkl"`` for PyTorch's own products, as they are without a call;
            ``"onednn"`` for oneDNN's.

    Returns:
        What they go through now, which is MKL where oneDNN has no such operator.

    Raises:
        ValueError: the name is another.
    """
    global _present
    if name not in PRODUCTS:
        raise ValueError(f"products: got {name!r}, must be one of {', '.join(PRODUCTS)}")
    _present = _choose(name)
    return _present


def present_products() -> Choice:
    """What :func:`set_products` has chosen last."""
    return _present


@contextmanager
def through(name: Products) -> Iterator[Choice]:
    """:func:`set_products` for the time within."""
    global _present
    before = _present
    try:
        yield set_products(name)
    finally:
        _present = before


def _choose(name: Products) -> Choice:
    if name == "mkl":
        return Choice("mkl", "as configured")
    if reason := why_not_onednn():
        return Choice("mkl", f"as {reason}")
    if name == "onednn":
        return Choice("onednn", "as configured")
    ratio = _ratio(torch.get_float32_matmul_precision())
    backend: Backend = "onednn" if ratio <= FASTER else "mkl"
    return Choice(backend, f"as through oneDNN a layer takes {ratio:.2f} times as long here")


@functools.cache
def why_not_onednn() -> str | None:
    """Why no product can go through oneDNN here, in words that follow "as"; None where it can."""
    if _operator is None or not torch.backends.mkldnn.is_available():
        return "this PyTorch has no such operator of oneDNN"
    inputs, weight, gradient = _layer(17, 33, 29)
    exact = _three_products(torch.matmul, *(t.double() for t in (inputs, weight, gradient)))
    own = _three_products(torch.matmul, inputs, weight, gradient)
    try:
        found = _three_products(lambda a, b: _onednn(a, b.t()), inputs, weight, gradient)
    except RuntimeError:  # it is declared, and was not built
        return "oneDNN's operator does not work in this PyTorch"
    for value, usual, right in zip(found, own, exact, strict=True):
        allowed = max(float((usual - right).norm()), 1e-6 * float(right.norm()))
        if not float((value - right).norm()) <= 4 * allowed:
            return "oneDNN's operator rounds more than PyTorch's own products here"
    return None


def _three_products(
    multiply: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, weight: Tensor, gradient: Tensor
) -> list[Tensor]:
    """Those of a layer: its values, the gradients of its inputs and of its weight."""
    return [
        multiply(inputs, weight.t()),
        multiply(gradient, weight),
        multiply(gradient.t(), inputs),
    ]


def _layer(rows: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, weight and gradient of a layer; nothing is drawn, so that no generator moves."""

    def made(*shape: int) -> Tensor:
        count = shape[0] * shape[1]
        return torch.arange(count, dtype=torch.float32).mul_(0.7).sin_().view(shape)

    return made(rows, inputs), made(outputs, inputs), made(rows, outputs)


@functools.cache
def _ratio(precision: str) -> float:
    """Time of a layer, there and back, through oneDNN to that through PyTorch's own products.

    On one thread and by the clock of that thread, which stands still while others have the core;
    the shortest of some turns each, for whatever else disturbs can only make one longer.

    Args:
        precision: of float32 products, as it is set now.
    """
    inputs, weight, gradient = _layer(ROWS, INPUTS, OUTPUTS)
    inputs.requires_grad_(), weight.requires_grad_()
    best = dict.fromkeys((F.linear, onednn_linear), float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for layer in [*best] * ROUNDS:
            begun = time.thread_time()
            with torch.enable_grad():
                # Of one number: a gradient that is given has PyTorch import SymPy first.
                value = torch.vdot(layer(inputs, weight).flatten(), gradient.flatten())
            torch.autograd.grad(value, (inputs, weight))
            best[layer] = min(best[layer], time.thread_time() - begun)
    finally:
        torch.set_num_threads(threads)
    own, onednn = best.values()
    return onednn / own


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``, through the library that :func:`set_products` has chosen.

    Args:
        inputs: ``(*batch, n)``.
        weight: ``(m, n)``.
        bias: ``(m,)``.

    Returns:
        ``(*batch, m)``.
    """
    if _present.backend == "onednn" and _is_for_onednn(inputs, weight, bias):
        return onednn_linear(inputs, weight, bias)
    return F.linear(inputs, weight, bias)


def onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear`` through oneDNN, whatever has been chosen.

    For float32 on the CPU, of which there is something, where :func:`why_not_onednn` has nothing
    to say.  Arguments and result are those of :func:`linear`.
    """
    return cast(Tensor, _ThroughOneDNN.apply(inputs, weight, bias))


class Linear(nn.Linear):
    """:class:`torch.nn.Linear`, its product by :func:`linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def _is_for_onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and inputs.dim() > 1
        and inputs.numel() * len(weight) >= SMALLEST
        and all(_is_plain(tensor) for tensor in (inputs, weight, bias) if tensor is not None)
        and not torch.is_autocast_enabled("cpu")
        and not _is_transformed(inputs)
        and forward_ad._current_level < 0
    )


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
    )


def _is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor may stand for others, as within ``torch.func.vmap`` or where autograd is
    given many gradients at once."""
    functorch = torch._C._functorch
    return torch._C._are_functorch_transforms_active() or functorch.is_legacy_batchedtensor(tensor)


class _ThroughOneDNN(torch.autograd.Function):
    """``(*batch, n)``, ``(m, n)`` and ``(m,)`` or None to ``(*batch, m)``."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _onednn(inputs, weight.contiguous(), None if bias is None else bias.contiguous())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # One that is differentiated again, or of many gradients at once, needs PyTorch's own.
        again = torch.is_grad_enabled() or _is_transformed(gradient)
        multiply = F.linear if again else _onednn
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        rows = inputs.reshape(-1, inputs.shape[-1]).contiguous()
        gradients = gradient.reshape(-1, gradient.shape[-1])
        return (
            multiply(gradient, weight.contiguous().t()) if of_inputs else None,
            multiply(gradients.t(), rows.t()) if of_weight else None,
            gradients.sum(0) if of_bias else None,
        )


_operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` without gradients, of which there is something.

    Args:
        inputs: ``(*batch, n)``, of any strides.
        weight: ``(m, n)``, contiguous or the transpose of what is: others are misread.
        bias: ``(m,)``, contiguous likewise.
    """
    return cast(Any, _operator).default(inputs, weight, bias, "none", [], "")
