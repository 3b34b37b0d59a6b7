"""One fused optimiser over all parameters, behind Pyro's optimiser interface."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, cast

import pyro
import torch
from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["FusedAdam", "NonFiniteGradientError"]


class NonFiniteGradientError(ArithmeticError):
    """A gradient was NaN or infinite.  No parameter has been changed by that step."""


@dataclass
class _Moments:
    """Adam's state of a parameter, under the names that ``torch.optim.Adam`` has for it."""

    step: Tensor
    """How many steps it has taken, 0-dim of float32 on the parameter's device."""

    exp_avg: Tensor
    exp_avg_sq: Tensor


class FusedAdam(PyroOptim):
    """Adam for :class:`pyro.infer.SVI`, as one optimiser with one global-norm clip.

    ``pyro.optim.Adam`` keeps an optimiser for each tensor and clips each tensor's own norm.  This
    one sees all of them: the update is a single fused kernel, and the clip keeps the direction
    of the whole gradient.  A gradient that is not finite is refused before anything changes.
    Of PyTorch it takes the function, not the class, which waits a second for the import of a
    compiler that it then has no use for.

    Called, as SVI calls it, it reads the gradient's norm once a step to find out.
    :meth:`step_on_device` does the same without a read.  The two share one state.

    Args:
        lr: learning rate; that of the steps to come can be set, see :attr:`lr`.
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
            if value is not None:
                _check_is_positive(name, value)
        self._settings: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps}
        super().__init__(torch.optim.Adam, self._settings)  # which Pyro shows as pt_optim_args
        self.clip_norm = clip_norm
        self._norm: Tensor | float = math.nan
        self._names: dict[Tensor, str] = {}
        self._moments: dict[Tensor, _Moments] = {}
        self._awaited: dict[str, dict[str, Tensor]] = {}

    @property
    def lr(self) -> float:
        """The learning rate of the steps to come; to set it leaves the moments as they are.

        Raises:
            ValueError: on setting what is no positive number.
        """
        return cast(float, self._settings["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        _check_is_positive("lr", value)
        self._settings["lr"] = value

    @property
    def gradient_norm(self) -> float:
        """Global norm of the last gradient, before the clip; NaN before the first.

        After :meth:`step_on_device`, to ask is to wait for the device.
        """
        return float(self._norm)

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Clip the gradients of ``params``, take a step and drop the gradients."""
        trained = self._trained(params)
        if not trained:
            return
        norm = _total_norm(trained)
        self._norm = norm.item()
        if not math.isfinite(self._norm):
            _drop_gradients(trained)
            raise NonFiniteGradientError(f"the gradient's norm is {self._norm}")
        self._update(trained, norm, self.lr)

    def step_on_device(
        self, params: Iterable[Tensor], loss: Tensor, failed: Tensor, lr: Tensor | None = None
    ) -> Tensor:
        """The same step, reading nothing back, so that it can be captured as a CUDA graph.

        Where the loss or the gradient's norm is not finite, ``failed`` is set to one, and where it
        is one the step changes neither parameters nor moments: they stay those of the step before
        the first bad one, however many are taken before anybody looks.

        Args:
            params: the parameters, all on one device.
            loss: the loss of this step, 0-dim.
            failed: 0 or 1, float32 and 0-dim on that device; changed in place, and never back.
            lr: the learning rate of this step, 0-dim on that device and float32 on a GPU, so that
                it can differ from replay to replay; None for :attr:`lr`, fixed by the capture.

        Returns:
            The gradient's norm before the clip, 0-dim on that device.
        """
        trained = self._trained(params)
        norm = _total_norm(trained) if trained else torch.zeros_like(loss)
        self._norm = norm
        failed.masked_fill_(~(loss.isfinite() & norm.isfinite()), 1.0)
        if trained:
            self._update(trained, norm, self.lr if lr is None else lr, failed)
        return norm

    @torch.no_grad()
    def _update(
        self,
        trained: list[Tensor],
        norm: Tensor,
        lr: Tensor | float,
        failed: Tensor | None = None,
    ) -> None:
        """Clip, take a step, which does nothing where ``failed`` is one, and drop the gradients."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(trained, self.clip_norm, norm, foreach=True)
        moments = [self._moments_of(p) for p in trained]
        beta1, beta2 = self._settings["betas"]
        adam(
            trained,
            _gradients(trained),
            [each.exp_avg for each in moments],
            [each.exp_avg_sq for each in moments],
            [],
            [each.step for each in moments],
            fused=True,
            found_inf=failed,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=0.0,
            eps=self._settings["eps"],
            maximize=False,
        )
        # SVI would otherwise allocate zeros for every gradient after every step.
        _drop_gradients(trained)

    def _trained(self, params: Iterable[Tensor]) -> list[Tensor]:
        """All parameters seen so far that have a gradient now."""
        self._admit(params)
        return [p for p in self._names if p.grad is not None]

    def _admit(self, params: Iterable[Tensor]) -> None:
        """Take in parameters not seen before, in the order of their names."""
        fresh = [p for p in params if p not in self._names]
        if not fresh:
            return
        names = {p: str(pyro.get_param_store().param_name(p)) for p in fresh}
        fresh.sort(key=lambda p: names[p])
        for p in fresh:
            self._names[p] = names[p]
            state = self._awaited.pop(names[p], None)
            if state is not None:
                here = {name: value.to(p.device, copy=True) for name, value in state.items()}
                self._moments[p] = _Moments(**here)

    def _moments_of(self, parameter: Tensor) -> _Moments:
        """Its moments; zeros before its first step."""
        if parameter not in self._moments:
            self._moments[parameter] = _Moments(
                torch.zeros((), dtype=torch.float32, device=parameter.device),
                torch.zeros_like(parameter, memory_format=torch.preserve_format),
                torch.zeros_like(parameter, memory_format=torch.preserve_format),
            )
        return self._moments[parameter]

    def get_state(self) -> dict[str, dict[str, Tensor]]:
        """Copies of moments and step counts by parameter name: tensors only, safe to store."""
        seen = {self._names[p]: vars(moments) for p, moments in self._moments.items()}
        return {
            name: {key: value.clone() for key, value in state.items()}
            for name, state in {**self._awaited, **seen}.items()
        }

    def set_state(self, state_dict: dict[str, dict[str, Tensor]]) -> None:
        """Take up a state from :meth:`get_state`, as each parameter is first seen.

        Raises:
            ValueError: it is no such state.
        """
        expected = {field.name for field in fields(_Moments)}
        for name, state in state_dict.items():
            if set(state) != expected:
                raise ValueError(
                    f"FusedAdam: the state of {name} has {', '.join(sorted(state)) or 'nothing'}, "
                    f"must have {', '.join(sorted(expected))}"
                )
        self._names, self._moments = {}, {}
        self._awaited = dict(state_dict)


def _check_is_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"FusedAdam: {name} must be a positive number, got {value}")


def _gradients(trained: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in trained if p.grad is not None]


def _total_norm(trained: list[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(_gradients(trained), foreach=True)


def _drop_gradients(trained: list[Tensor]) -> None:
    for p in trained:
        p.grad = None
