"""Modules in Pyro's parameter store, and their random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import pyro
import torch
from pyro.nn import PyroModule
from pyro.params.param_store import param_with_module_name
from pyro.poutine.runtime import get_plates
from torch import nn

__all__ = [
    "StaleParameterError",
    "bind_weights",
    "drawing_weights",
    "drawn_weights",
    "register_module",
]

N = TypeVar("N", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., Any])


class StaleParameterError(RuntimeError):
    """The Pyro parameter store holds other tensors under a module's name than the module's own."""


def register_module(name: str, module: N) -> N:
    """``pyro.module(name, module)``, refusing tensors in the store that are not the module's own.

    ``pyro.module`` alone keeps the tensors that it knows under a name: a second module would
    silently never be trained, and weights loaded into the store would silently never be used.
    Frozen weights are left out.  Where gradients are off (``torch.no_grad()``: evaluation,
    generation) nothing is trained, and nothing is registered, but the store is checked all the
    same.

    Raises:
        StaleParameterError: the store holds other tensors under ``name``.
    """
    known = dict(pyro.get_param_store().named_parameters())
    for parameter_name, parameter in module.named_parameters():
        full_name = param_with_module_name(name, parameter_name)
        stored = known.get(full_name)
        if stored is not None and stored is not parameter:
            raise StaleParameterError(
                f"the Pyro parameter store holds other tensors under the name {name!r} than this "
                f"{type(module).__name__}: if they were loaded into the store on purpose, call "
                f"pyro.module({name!r}, module, update_module_params=True) to take them over; if "
                "they are an earlier module's, call pyro.clear_param_store() or give this one "
                "another name (name= of gtm.use_memory, of gtm.GenerativeTemporalModel)"
            )
        if torch.is_grad_enabled() and parameter.requires_grad:
            pyro.param(full_name, parameter)
    return module


@contextmanager
def drawing_weights(module: nn.Module) -> Iterator[None]:
    """Within it, the random weights of a ``PyroModule`` are those drawn at its beginning.

    Left to themselves they would be drawn where they are used: once a step, and inside the plate of
    the sequences, one weight for each.

    Raises:
        ValueError: there are random weights, and a plate around.
    """
    if not isinstance(module, PyroModule):
        yield
        return
    with cast(Any, module)._pyro_context:
        for part in module.modules():
            for name in list(getattr(part, "_pyro_samples", ())):
                plates = [frame.name for frame in get_plates() if frame.vectorized]
                if plates:
                    raise ValueError(
                        f"{type(module).__name__}: the random weight {name!r} inside the plate "
                        f"{plates[0]!r}, one weight for all of it needed; draw particles one by "
                        "one (vectorize_particles=False, parallel=False)"
                    )
                getattr(part, name)  # draws it
        yield


def drawn_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """The random weights of a ``PyroModule`` that are drawn now, by name; of others, none."""
    if not isinstance(module, PyroModule):
        return {}
    return dict(cast(Any, module)._pyro_context.cache)


def bind_weights(module: nn.Module, function: F) -> F:
    """The function with the random weights of the module that are drawn now, whenever it is called.

    Args:
        module: without random weights, the function itself is given back.
        function: uses the module's weights.
    """
    drawn = drawn_weights(module)
    if not drawn:
        return function

    @wraps(function)
    def bound(*args: Any, **kwargs: Any) -> Any:
        context = cast(Any, module)._pyro_context
        present = context.cache
        with context:
            context.cache = dict(drawn)
            try:
                return function(*args, **kwargs)
            finally:
                context.cache = present

    return cast(F, bound)
