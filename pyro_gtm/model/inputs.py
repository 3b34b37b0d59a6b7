"""Frames, controls and masks of a program: converted where that is safe, refused elsewhere."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_gtm.model.likelihoods import Likelihood
from pyro_gtm.model.likelihoods.support import support_of_elements, words_of_support

__all__ = ["Inputs", "InvalidFramesError", "as_tensor", "observed_frames", "prepare_inputs"]

OWNER = "GenerativeTemporalModel"


class InvalidFramesError(ValueError):
    """Observed values lie outside the support of their likelihood, or are not finite.

    Attributes:
        step: the training step in which they came, counted from 1; None outside training.
    """

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class Inputs(NamedTuple):
    """The arguments of one run of a program, checked."""

    frames: Tensor | None
    """``(T', B, *event)`` with T' <= T, in the floating-point type of the weights, missing frames
    replaced by a value inside the support; None to generate all."""

    observed: Tensor | None
    """The frames that there are, ``(T', B)`` of bool; None for all of them."""

    controls: Tensor | None
    """``(T, B, control_dim)``."""

    num_steps: int
    """T."""

    batch_size: int
    """B."""


def prepare_inputs(
    likelihood: Likelihood,
    like: Tensor,
    frames: Any,
    controls: Any,
    *,
    mask: Any = None,
    lengths: Any = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
) -> Inputs:
    """Check the arguments of a program against each other.

    Frames and controls may be tensors, NumPy arrays or lists of any real or boolean type; they are
    converted to the type of the weights, which is exact for all but 64-bit numbers.  Under Pyro's
    validation the values of the frames are checked, too.

    Args:
        likelihood: of the frames.
        like: a weight, of the type and on the device that all is to be of.
        frames, controls, mask, lengths, num_steps, batch_size: as the program takes them.

    Raises:
        ValueError: one sentence that names the argument, what was given and what is allowed.
    """
    event = likelihood.event_shape
    if frames is not None:
        frames = as_tensor("frames", frames, like)
        if frames.dim() < 2 or tuple(frames.shape[2:]) != event:
            raise ValueError(
                f"{OWNER}: frames must have shape (T, B, {', '.join(map(str, event))}), got "
                f"{tuple(frames.shape)}"
            )
    if controls is not None:
        controls = as_tensor("controls", controls, like)
        if controls.dim() != 3:
            raise ValueError(
                f"{OWNER}: controls must have shape (T, B, control_dim), got "
                f"{tuple(controls.shape)}"
            )
    num_steps, batch_size = _sizes(frames, controls, num_steps, batch_size)
    if (mask is not None or lengths is not None) and frames is None:
        raise ValueError(f"{OWNER}: mask and lengths say which frames there are: give frames too")
    steps = num_steps if frames is None else len(frames)
    observed = observed_frames(mask, lengths, steps, batch_size, device=like.device)
    if lengths is not None and controls is not None and observed is not None:
        controls = _padded_with_zeros(controls, observed)
    if frames is not None:
        if observed is not None:  # so that garbage reaches neither encoder nor gradients
            there = observed.reshape(*observed.shape, *[1] * len(event))
            placeholder = likelihood.placeholder
            if isinstance(placeholder, Tensor):
                placeholder = placeholder.to(like)
            frames = torch.where(there, frames, placeholder)
        if is_validation_enabled():
            check_support(likelihood, frames, observed)
    if controls is not None and is_validation_enabled():
        _check_finite(controls)
    return Inputs(frames, observed, controls, num_steps, batch_size)


def as_tensor(name: str, given: Any, like: Tensor) -> Tensor:
    """A tensor of the floating-point type of ``like``.

    Raises:
        ValueError: it cannot be made one, or lies on another device.
    """
    if not isinstance(given, Tensor):
        try:
            given = torch.as_tensor(np.asarray(given))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{OWNER}: {name} must be a tensor, or an array or list of numbers that makes one, "
                f"got {type(given).__name__} ({str(error).splitlines()[0]})"
            ) from error
        given = given.to(like.device)
    if given.is_complex():
        raise ValueError(f"{OWNER}: {name} must hold real numbers, got {given.dtype}")
    if given.device != like.device:
        raise ValueError(
            f"{OWNER}: {name} must be on the device of the program, {like.device}, got "
            f"{given.device}"
        )
    return given.to(like.dtype)


def check_support(likelihood: Likelihood, frames: Tensor, observed: Tensor | None = None) -> None:
    """Refuse frames that the likelihood gives no density, or that are not finite.

    Args:
        likelihood: of the frames.
        frames: ``(T, B, *event)``.
        observed: those that are judged, ``(T, B)`` of bool; None for all.

    Raises:
        InvalidFramesError: the sentence says where and which.
    """
    fine = likelihood.support.check(frames) & frames.isfinite().flatten(2).all(-1)  # (T, B)
    if observed is not None:
        fine = fine | ~observed
    if bool(fine.all()):
        return
    step, sequence = (~fine).nonzero()[0].tolist()
    frame = frames[step, sequence]
    elements = support_of_elements(likelihood.support)
    among = ""
    if elements.is_discrete and elements.event_dim == 0:
        # The range does not tell: 1.5 is among counts from 0 to 3.
        wrong = frame[~elements.check(frame)]
        among = f", {wrong[0].item():g} among them" if len(wrong) else ""
    raise InvalidFramesError(
        f"{OWNER}: frames at time {step}, sequence {sequence} (the first of "
        f"{int((~fine).sum())}) hold values from {frame.min().item():g} to "
        f"{frame.max().item():g}{among}, and {type(likelihood).__name__} allows finite values in "
        f"{words_of_support(elements)}"
    )


def _sizes(
    frames: Tensor | None,
    controls: Tensor | None,
    num_steps: int | None,
    batch_size: int | None,
) -> tuple[int, int]:
    for sequence in (frames, controls):
        if sequence is not None:
            num_steps = len(sequence) if num_steps is None else num_steps
            batch_size = sequence.shape[1] if batch_size is None else batch_size
    if num_steps is None or batch_size is None:
        raise ValueError(f"{OWNER}: without frames or controls, give num_steps and batch_size")
    for name, size in (("num_steps", num_steps), ("batch_size", batch_size)):
        if size < 1:
            raise ValueError(f"{OWNER}: {name} must be at least 1, got {size}")
    for name, sequence in (("frames", frames), ("controls", controls)):
        if sequence is not None and sequence.shape[1] != batch_size:
            raise ValueError(
                f"{OWNER}: {name} must hold batch_size={batch_size} sequences, got "
                f"{sequence.shape[1]}"
            )
    if frames is not None and len(frames) > num_steps:
        raise ValueError(
            f"{OWNER}: num_steps={num_steps} is less than the {len(frames)} frames given"
        )
    if controls is not None and len(controls) < num_steps:
        raise ValueError(
            f"{OWNER}: controls must cover num_steps={num_steps} steps, got {len(controls)}"
        )
    return num_steps, batch_size


def observed_frames(
    mask: Any, lengths: Any, steps: int, batch_size: int, *, device: torch.device
) -> Tensor | None:
    """The frames that there are, ``(T, B)`` of bool, from a mask or from lengths; None for all.

    Raises:
        ValueError: both are given, or what is given is of the wrong kind, shape or range.
    """
    if mask is not None and lengths is not None:
        raise ValueError(f"{OWNER}: mask and lengths both given, one of them allowed")
    if mask is not None:
        mask = torch.as_tensor(mask, device=device)
        if mask.dtype != torch.bool or mask.shape != (steps, batch_size):
            raise ValueError(
                f"{OWNER}: mask must be bool of shape (T, B) = ({steps}, {batch_size}), True where "
                f"there is a frame, got {mask.dtype} of shape {tuple(mask.shape)}"
            )
        return mask
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths)
    whole = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
    if not whole or lengths.shape != (batch_size,):
        raise ValueError(
            f"{OWNER}: lengths must be integers of shape (B,) = ({batch_size},), got "
            f"{lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    # On another device to look at them is to wait for it.
    looks = lengths.device.type == "cpu" or is_validation_enabled()
    lengths = lengths.long()
    if looks and not bool(((lengths >= 0) & (lengths <= steps)).all()):
        raise ValueError(f"{OWNER}: lengths must lie from 0 to T = {steps}, got {lengths.tolist()}")
    return torch.arange(steps, device=device).unsqueeze(1) < lengths.to(device)


def _padded_with_zeros(controls: Tensor, observed: Tensor) -> Tensor:
    """Controls with zeros behind the end of each sequence, where they have nothing to decide."""
    generated = observed.new_ones(len(controls) - len(observed), observed.shape[1])
    there = torch.cat([observed, generated])
    return torch.where(there.unsqueeze(-1), controls, 0.0)


def _check_finite(controls: Tensor) -> None:
    fine = controls.isfinite().all(-1)  # (T, B)
    if not bool(fine.all()):
        step, sequence = (~fine).nonzero()[0].tolist()
        raise ValueError(
            f"{OWNER}: controls at time {step}, sequence {sequence} hold NaN or infinity, finite "
            "numbers are allowed"
        )
