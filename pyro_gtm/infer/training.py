"""The training loop, as an iterator over gradient steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro.infer import SVI
from torch import Tensor

from pyro_gtm.handlers import scale_latents
from pyro_gtm.infer.batch import Draw, arguments
from pyro_gtm.infer.captured import CapturedSteps, CapturedSVI, StepResult, forget_trace
from pyro_gtm.infer.check_observations import OUTSIDE, InvalidFramesError, check_observations
from pyro_gtm.infer.optim import FusedAdam, NonFiniteGradientError

__all__ = ["NonFiniteLossError", "parameters_are_current", "training_steps"]


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became NaN or infinite; the parameters are those of ``step - 1``.

    Attributes:
        step: the step in which it happened, counted from 1.
    """

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"training stopped in step {step}: {what}")
        self.step, self.what = step, what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step, self.what)  # from process to process


def training_steps(
    svi: SVI,
    draw: Draw,
    *,
    num_steps: int,
    start: int = 0,
    kl_annealing: int = 0,
    learning_rate: Callable[[int], float] | None = None,
    pause: Callable[[int], bool] = lambda step: False,
) -> Generator[tuple[int, float], None, None]:
    """Take gradient steps ``start + 1 .. num_steps``, giving the number and loss of each.

    The loss is the negative ELBO summed over the batch, in nats.  Pyro's validation of
    distributions and shapes is on for the first step only: it costs more than the mathematics and
    finds what it finds at once.  Validation is set back to what it was when the loop ends; where
    its body may raise, wrap the generator in ``contextlib.closing`` to have that happen at once.
    The values of every batch are checked all the same, on the device, and read with the losses.

    With a :class:`pyro_gtm.infer.CapturedSVI`, steps are taken in blocks of up to
    ``svi.read_every`` and given one by one when the block is done.  Until its last is given, the
    parameters, and those of the optimiser's state, are of a later step, as
    :func:`parameters_are_current` tells; a block ends where ``pause`` says so.

    Args:
        svi: the inference, its optimiser a :class:`pyro_gtm.infer.FusedAdam`.
        draw: gives the next batch, a :class:`pyro_gtm.infer.Batch` or a tuple of its fields.
        num_steps: the last step.
        start: steps taken before.
        kl_annealing: over so many steps the weight of the KL term grows from 0 to 1; 0 for none.
        learning_rate: of each step, by its number, such as a
            :class:`pyro_gtm.infer.LearningRate`; the optimiser keeps that of the last.  None for
            the optimiser's own.  Adam's moments are its own in either case.
        pause: is asked after each step, by its number, whether the caller needs the parameters as
            they are then: to evaluate, to save, to stop.  Every step is one such without a
            ``CapturedSVI``.

    Raises:
        NonFiniteLossError: the loss or the gradient is NaN or infinite.  The parameters have not
            been changed by that step, nor by any later one of its block.
        InvalidFramesError: frames outside the support of the likelihood, or not finite; the
            parameters as before.
    """
    if learning_rate is not None and not isinstance(svi.optim, FusedAdam):
        raise TypeError(
            f"training_steps: learning_rate needs an optimiser that takes it, "
            f"gtm.infer.FusedAdam, got {type(svi.optim).__name__}"
        )
    was_enabled = pyro.infer.util.is_validation_enabled()
    numbers = range(start + 1, num_steps + 1)
    try:
        if isinstance(svi, CapturedSVI):
            yield from _in_blocks(svi, draw, numbers, kl_annealing, learning_rate, pause)
        else:
            yield from _one_by_one(svi, draw, numbers, kl_annealing, learning_rate)
    finally:
        pyro.enable_validation(was_enabled)


def parameters_are_current(svi: SVI) -> bool:
    """Whether the parameters are those after the step that ``training_steps`` gave last."""
    return not (isinstance(svi, CapturedSVI) and svi.pending)


def _one_by_one(
    svi: SVI,
    draw: Draw,
    numbers: range,
    kl_annealing: int,
    learning_rate: Callable[[int], float] | None,
) -> Generator[tuple[int, float], None, None]:
    loss_and_grads = svi.loss_and_grads
    svi.loss_and_grads = _refusing_non_finite(loss_and_grads)  # before the optimiser has its turn
    try:
        for step in numbers:
            pyro.enable_validation(step == numbers.start)
            positional, named = arguments(*draw())
            if learning_rate is not None:
                svi.optim.lr = learning_rate(step)
            try:
                with scale_latents(step / kl_annealing) if step < kl_annealing else nullcontext():
                    loss = float(svi.step(*positional, **named))
            except InvalidFramesError as error:
                raise _invalid_frames(step, str(error)) from error
            except _InvalidFrames as error:
                raise _invalid_frames(step, _complaint(svi, positional, named)) from error
            except (NonFiniteGradientError, _NonFiniteLoss) as error:
                raise NonFiniteLossError(step, str(error)) from error
            forget_trace(svi.guide)  # before the next step needs its room
            yield step, loss
    finally:
        svi.loss_and_grads = loss_and_grads


def _in_blocks(
    svi: CapturedSVI,
    draw: Draw,
    numbers: range,
    kl_annealing: int,
    learning_rate: Callable[[int], float] | None,
    pause: Callable[[int], bool],
) -> Generator[tuple[int, float], None, None]:
    svi.pending = 0
    if not numbers:
        return
    steps = CapturedSteps(
        svi, draw, scales=numbers.start < kl_annealing, paces=learning_rate is not None
    )
    first = numbers.start
    for step in numbers:
        pyro.enable_validation(step == numbers.start)
        weight = step / kl_annealing if step < kl_annealing else 1.0
        if learning_rate is not None:
            svi.optim.lr = learning_rate(step)
        try:
            with _naming_bad_parameters():
                steps.take(weight, None if learning_rate is None else svi.optim.lr)
        except _NonFiniteLoss as error:
            raise NonFiniteLossError(step, str(error)) from error
        full = step - first + 1 == svi.read_every
        if pause(step) or full or step == numbers[-1]:
            for number, result in enumerate(steps.read(), first):
                svi.pending = step - number
                _refuse_non_finite(number, result)
                yield number, result.loss
            first = step + 1


def _refuse_non_finite(step: int, result: StepResult) -> None:
    if not result.valid:
        raise _invalid_frames(step, OUTSIDE)
    if not math.isfinite(result.loss):
        raise NonFiniteLossError(step, f"the loss is {result.loss}")
    if not math.isfinite(result.gradient_norm):
        raise NonFiniteLossError(step, f"the gradient's norm is {result.gradient_norm}")


def _invalid_frames(step: int, complaint: str) -> InvalidFramesError:
    return InvalidFramesError(f"training stopped in step {step}: {complaint}", step)


def _complaint(svi: SVI, positional: tuple[Any, ...], named: dict[str, Any]) -> str:
    """The program's own complaint of a batch under validation: time, sequence, values."""
    try:
        with torch.no_grad(), pyro.validation_enabled():
            svi.model(*positional, **named)
    except ValueError as error:
        return str(error).splitlines()[0]
    return OUTSIDE


class _InvalidFrames(ValueError):
    """From inside a step, which does not know its number."""


class _NonFiniteLoss(ArithmeticError):
    """From inside a step, which does not know its number."""


def _refusing_non_finite(loss_and_grads: Callable[..., Any]) -> Callable[..., float]:
    def checked(*args: Any, **kwargs: Any) -> float:
        with check_observations() as check, _naming_bad_parameters():
            loss = float(loss_and_grads(*args, **kwargs))
        valid = check.valid is None or bool(check.valid)
        if not (valid and math.isfinite(loss)):
            for parameter in _parameters():
                parameter.grad = None
            raise _NonFiniteLoss(f"the loss is {loss}") if valid else _InvalidFrames
        return loss

    return checked


@contextmanager
def _naming_bad_parameters() -> Iterator[None]:
    """Name bad parameters where Pyro's validation says ``ValueError`` of a NaN."""
    try:
        yield
    except ValueError as error:
        if all(parameter.isfinite().all() for parameter in _parameters()):
            raise
        raise _NonFiniteLoss("a parameter is not finite") from error


def _parameters() -> list[Tensor]:
    return [parameter for _, parameter in pyro.get_param_store().named_parameters()]
