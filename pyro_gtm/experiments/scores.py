"""Recall accuracy: the share of generated frames that are right, beside the level of guessing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gtm.experiments.classifier import Classifier

__all__ = ["Score", "class_score", "nearest_image_score"]


class Score(NamedTuple):
    """Accuracy of generated frames, beside that of guessing."""

    accuracy: float | None
    """The share of the frames judged that are right; None where there are none."""

    chance: float | None
    """The accuracy of a model that knows nothing of the sequence; None where there are none."""

    num_frames: int
    """The number of frames judged."""


@torch.no_grad()
def nearest_image_score(output: Tensor, repeats: Tensor, num_given: int) -> Score:
    """The share of frames repeating an earlier one that are nearest to that one.

    Every generated frame t is judged that shows the frame of step ``repeats[t]`` again.  Its
    candidates are the earlier frames of its sequence, as they stand in ``output``, that were shown
    for the first time and are of the kind of the right one: the given ones if that was given (is
    what was shown remembered?), the generated ones if the model made it up (is it consistent?).
    It is right when the nearest candidate by squared distance is the right one, or was given and is
    bit-identical to it (a list may hold an image twice).  A tie counts for the share of right ones
    among those tied.

    Chance is the mean of (candidates that are right) / (candidates), what one picked blindly gives.
    Ties and kinds are as they are for its sake: a model that always generates the same image gets
    1/n among n images that it made itself, and 1/n among n given ones that might as well have come
    in another order, and so is at chance.  Were given and generated frames candidates together,
    that model would be above it wherever returns are mostly to recent frames, as on a map, because
    whatever a model makes looks like what it makes.  (Where a list holds an image twice, chance is
    that of a blind pick of a step; such a model, whose picks are of images, can be below it.)

    Args:
        output: the first ``num_given`` frames as given, the rest generated: ``(T, B, *event)``.
        repeats: the step whose frame is shown again, -1 for a new frame: ``(T, B)`` of int64.
        num_given: the number of frames given.

    Raises:
        ValueError: shapes do not fit, frames are not finite, or a frame is repeated that is not an
            earlier, new one.
    """
    _check_steps(output, repeats=repeats)
    if not output.isfinite().all():
        raise ValueError("output: got NaN or infinity, must be finite")
    steps = torch.arange(len(output), device=output.device)
    is_new = (repeats == -1).T  # (B, T), as all that follow, with a T more for the candidates
    right = repeats.T.long().clamp(min=0)
    fits = is_new | ((right < steps) & is_new.gather(1, right) & (repeats.T >= 0))
    if not fits.all():
        sequence, step = (~fits).nonzero()[0].tolist()
        raise ValueError(
            f"repeats: got {repeats[step, sequence].item()} at step {step} of sequence {sequence}, "
            "must be -1 or an earlier step at which it is -1"
        )

    frames = output.flatten(2).transpose(0, 1)  # (B, T, pixels)
    # Pair by pair, not by a product of matrices: equal images must have exactly equal distances.
    distances = torch.cdist(frames, frames, compute_mode="donot_use_mm_for_euclid_dist")
    given = steps < num_given  # (T,)
    as_good = ((distances == 0) & given & given.unsqueeze(1)) | torch.eye(
        len(output), dtype=torch.bool, device=output.device
    )
    as_good = as_good.gather(1, right.unsqueeze(-1).expand_as(as_good))  # as the right one
    earlier = steps < steps.unsqueeze(1)
    candidates = is_new.unsqueeze(1) & earlier & (given == given[right].unsqueeze(-1))

    judged = ~is_new & ~given
    as_good, candidates = as_good[judged], candidates[judged]  # (frames judged, T)
    distances = distances[judged].masked_fill(~candidates, torch.inf)
    nearest = candidates & (distances == distances.amin(-1, keepdim=True))
    return _score(_share(as_good, nearest), _share(as_good, candidates).mean())


def class_score(
    output: Tensor, target: Tensor, classifier: Classifier, classes: Sequence[int], judged: Tensor
) -> Score:
    """The share of frames that are read as of the right class.

    The reading is the likeliest of ``classes``, so that an image of none of them, a blur say, is
    read as one all the same.  Chance is therefore the share of the most frequent class: no model
    that knows nothing of the sequence gets more, in expectation, and one that always shows that
    class gets just that.  It is 1 / len(classes) where all are equally frequent, and no less
    anywhere.  The accuracy of the classifier itself limits that of the frames from above.

    Args:
        output: frames, ``(T, B, C, H, W)``.
        target: the right class of each, any value where not judged: ``(T, B)`` of int64.
        classifier: reads the frames.
        classes: the possible targets.
        judged: the frames that count: ``(T, B)`` of bool.

    Raises:
        ValueError: shapes do not fit, or a target is not one of ``classes``.
    """
    _check_steps(output, target=target, judged=judged)
    target = target[judged]  # (frames judged,)
    by_class = target.unsqueeze(1) == torch.tensor(list(classes), device=target.device)
    if not by_class.any(1).all():
        raise ValueError(
            f"target: got the classes {sorted(set(target.tolist()))} in frames judged, must be "
            f"among {tuple(classes)}"
        )
    right = classifier.read(output[judged], classes) == target
    return _score(right.double(), by_class.double().mean(0).max())


def _share(of: Tensor, among: Tensor) -> Tensor:
    """Along the last dimension, of those in ``among`` the share that is in ``of``."""
    return (of & among).sum(-1, dtype=torch.float64) / among.sum(-1)


def _score(right: Tensor, chance: Tensor) -> Score:
    """Score of frames that are right to some share each, ``(frames judged,)``."""
    if len(right) == 0:
        return Score(None, None, 0)
    return Score(right.mean().item(), chance.item(), len(right))


def _check_steps(output: Tensor, **given: Tensor) -> None:
    if output.dim() < 3:
        raise ValueError(f"output: got shape {tuple(output.shape)}, must be (T, B, *event)")
    for name, tensor in given.items():
        if tensor.shape != output.shape[:2]:
            raise ValueError(
                f"{name}: got shape {tuple(tensor.shape)}, must be {tuple(output.shape[:2])}, the "
                "(T, B) of output"
            )
