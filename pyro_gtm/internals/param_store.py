"""Registering networks with Pyro without the trap of a stale parameter store."""

from __future__ import annotations

from typing import TypeVar

import pyro
import torch
from pyro.params.param_store import param_with_module_name
from torch import nn

__all__ = ["StaleParameterError", "register_module"]

N = TypeVar("N", bound=nn.Module)


class StaleParameterError(RuntimeError):
    """The Pyro parameter store holds another module's tensors under the same name."""


def register_module(name: str, module: N) -> N:
    """``pyro.module(name, module)``, refusing a second module under the same name.

    ``pyro.module`` alone keeps the tensors of the first module it saw under a name: a second one
    would silently never be trained.  Where gradients are off (``torch.no_grad()``: evaluation,
    generation) nothing is trained, and nothing is registered.

    Raises:
        StaleParameterError: ``name`` stands for another module in the parameter store.
    """
    if not torch.is_grad_enabled():
        return module
    known = dict(pyro.get_param_store().named_parameters())
    for parameter_name, parameter in module.named_parameters():
        stored = known.get(param_with_module_name(name, parameter_name))
        if stored is not None and stored is not parameter:
            raise StaleParameterError(
                f"the Pyro parameter store holds another module under the name {name!r}; call "
                "pyro.clear_param_store() before using a new one, or give it another name"
            )
    pyro.module(name, module)
    return module
