"""The training loop, as an iterator over gradient steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import Any

import pyro
from pyro.infer import SVI
from torch import Tensor

from pyro_gtm.handlers import weigh_latents
from pyro_gtm.infer.evaluation import arguments
from pyro_gtm.infer.optim import NonFiniteGradientError

__all__ = ["NonFiniteLossError", "training_steps"]

Draw = Callable[[], tuple[Tensor, "Tensor | None"]]


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became NaN or infinite; the parameters are those of ``step - 1``.

    Attributes:
        step: the step in which it happened, counted from 1.
    """

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"training stopped in step {step}: {what}")
        self.step = step


def training_steps(
    svi: SVI, draw: Draw, *, num_steps: int, start: int = 0, kl_warmup: int = 0
) -> Generator[tuple[int, float], None, None]:
    """Take gradient steps ``start + 1 .. num_steps``, giving the number and loss of each.

    The loss is the negative bound summed over the batch, in nats.  Pyro's validation of
    distributions and shapes is on for the first step only: it costs more than the mathematics and
    finds what it finds at once.  Validation is set back to what it was when the loop ends; where
    its body may raise, wrap the generator in ``contextlib.closing`` to have that happen at once.

    Args:
        svi: the inference, its optimiser a :class:`pyro_gtm.infer.Adam`.
        draw: gives the frames and controls of the next batch.
        num_steps: the last step.
        start: steps taken before.
        kl_warmup: over so many steps the weight of the KL term grows from 0 to 1; 0 for none.

    Raises:
        NonFiniteLossError: the loss or the gradient is NaN or infinite.  The parameters have not
            been changed by that step.
    """
    was_enabled = pyro.infer.util.is_validation_enabled()
    loss_and_grads = svi.loss_and_grads
    svi.loss_and_grads = _refusing_non_finite(loss_and_grads)  # before the optimiser has its turn
    try:
        for step in range(start + 1, num_steps + 1):
            pyro.enable_validation(step == start + 1)
            warming = step < kl_warmup
            frames, controls = draw()
            try:
                with weigh_latents(step / kl_warmup) if warming else nullcontext():
                    loss = float(svi.step(*arguments(frames, controls)))
            except (NonFiniteGradientError, _NonFiniteLoss) as error:
                raise NonFiniteLossError(step, str(error)) from error
            yield step, loss
    finally:
        svi.loss_and_grads = loss_and_grads
        pyro.enable_validation(was_enabled)


class _NonFiniteLoss(ArithmeticError):
    """From inside a step, which does not know its number."""


def _refusing_non_finite(loss_and_grads: Callable[..., float]) -> Callable[..., float]:
    def checked(*args: Any, **kwargs: Any) -> float:
        try:
            loss = loss_and_grads(*args, **kwargs)
        except ValueError as error:  # what Pyro's validation says of NaN, among other things
            if all(parameter.isfinite().all() for parameter in _parameters()):
                raise
            raise _NonFiniteLoss("a parameter is not finite") from error
        if not math.isfinite(loss):
            for parameter in _parameters():
                parameter.grad = None
            raise _NonFiniteLoss(f"the loss is {loss}")
        return loss

    return checked


def _parameters() -> list[Tensor]:
    return [parameter for _, parameter in pyro.get_param_store().named_parameters()]
