"""One fused optimiser over all parameters, behind Pyro's optimiser interface."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pyro
import torch
from pyro.optim import PyroOptim
from torch import Tensor

__all__ = ["Adam", "NonFiniteGradientError"]


class NonFiniteGradientError(ArithmeticError):
    """A gradient was NaN or infinite.  No parameter has been changed by that step."""


class Adam(PyroOptim):
    """Adam for :class:`pyro.infer.SVI`, as one optimiser with one global-norm clip.

    ``pyro.optim.Adam`` keeps an optimiser for each tensor and clips each tensor's own norm.  This
    one sees all of them: the update is a single fused kernel, and the clip keeps the direction
    of the whole gradient.  A gradient that is not finite is refused before anything changes.

    Args:
        lr: learning rate.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
        clip_norm: greatest global norm of the gradient; None for no clip.

    Raises:
        NonFiniteGradientError: from the call, when the gradient's norm is NaN or infinite.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip_norm: float | None = 10.0,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("clip_norm", clip_norm)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"Adam: {name} must be a positive number, got {value}")
        self._arguments: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "fused": True}
        super().__init__(torch.optim.Adam, self._arguments)
        self.clip_norm = clip_norm
        self.gradient_norm = math.nan
        """Global norm of the last gradient, before the clip."""
        self._names: dict[Tensor, str] = {}
        self._optimizer: torch.optim.Adam | None = None
        self._awaited: dict[str, dict[str, Tensor]] = {}

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Clip the gradients of ``params``, take a step and drop the gradients."""
        self._admit(params)
        trained = [p for p in self._names if p.grad is not None]
        if not trained or self._optimizer is None:
            return
        gradients = [p.grad for p in trained if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        self.gradient_norm = norm.item()
        if not math.isfinite(self.gradient_norm):
            self._optimizer.zero_grad(set_to_none=True)
            raise NonFiniteGradientError(f"the gradient's norm is {self.gradient_norm}")
        if self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(trained, self.clip_norm, norm, foreach=True)
        self._optimizer.step()
        # SVI would otherwise allocate zeros for every gradient after every step.
        self._optimizer.zero_grad(set_to_none=True)

    def _admit(self, params: Iterable[Tensor]) -> None:
        """Take in parameters not seen before, in the order of their names."""
        fresh = [p for p in params if p not in self._names]
        if not fresh:
            return
        names = {p: str(pyro.get_param_store().param_name(p)) for p in fresh}
        fresh.sort(key=lambda p: names[p])
        self._names.update((p, names[p]) for p in fresh)
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(fresh, **self._arguments)
        else:
            self._optimizer.add_param_group({"params": fresh})
        for p in fresh:
            state = self._awaited.pop(names[p], None)
            if state is not None:
                self._optimizer.state[p] = {
                    name: value.to(p.device, copy=True) for name, value in state.items()
                }

    def get_state(self) -> dict[str, dict[str, Tensor]]:
        """Copies of moments and step counts by parameter name: tensors only, safe to store."""
        known = {} if self._optimizer is None else self._optimizer.state
        seen = {name: known[p] for p, name in self._names.items() if p in known}
        return {
            name: {key: value.clone() for key, value in state.items()}
            for name, state in {**self._awaited, **seen}.items()
        }

    def set_state(self, state_dict: dict[str, dict[str, Tensor]]) -> None:
        """Take up a state from :meth:`get_state`, as each parameter is first seen."""
        self._names, self._optimizer = {}, None
        self._awaited = dict(state_dict)
