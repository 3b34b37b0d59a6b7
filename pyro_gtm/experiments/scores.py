"""How often a generated frame is the right one, and how often a guess would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gtm.experiments.classifier import Classifier

__all__ = ["Score", "class_score", "nearest_image_score"]


class Score(NamedTuple):
    """The share of generated frames that are right, beside what knowing nothing gives."""

    share: float | None
    """Of the frames judged, how many are right; None where there are none."""

    chance: float | None
    """The share for a model that knows nothing of the sequence; None where there are none."""

    num_frames: int
    """How many frames were judged."""


@torch.no_grad()
def nearest_image_score(output: Tensor, repeats: Tensor, num_given: int) -> Score:
    """How often a frame that repeats an earlier one is nearest to that one.

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
        repeats: the step whose frame is shown again, -1 for a new frame: whole numbers, ``(T, B)``.
        num_given: how many frames are given.

    Raises:
        ValueError: shapes that do not fit, frames that are not finite, or a repeat of a frame that
            is not an earlier, new one.
    """
    _check_steps("nearest_image_score", output, repeats=repeats)
    if not output.isfinite().all():
        raise ValueError("nearest_image_score: output must be finite, and holds NaN or infinity")
    steps = torch.arange(len(output), device=output.device)
    is_new = (repeats == -1).T  # (B, T), as all that follow, with a T more for the candidates
    right = repeats.T.long().clamp(min=0)
    if not (is_new | ((right < steps) & is_new.gather(1, right) & (repeats.T >= 0))).all():
        raise ValueError(
            "nearest_image_score: repeats must be -1, or an earlier step at which repeats is -1"
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
    output: Tensor, wanted: Tensor, classifier: Classifier, classes: Sequence[int], judged: Tensor
) -> Score:
    """How often a frame is read as the class that is wanted.

    The reading is the likeliest of ``classes``, so that an image of none of them, a blur say, is
    read as one all the same.  Chance is therefore the share of the class that is wanted most often:
    no model that knows nothing of the sequence gets more, in expectation, and one that always shows
    that class gets just that.  It is 1 / len(classes) where all are wanted equally often, and no
    less anywhere.  How often the classifier itself is right limits the share from above.

    Args:
        output: frames, ``(T, B, C, H, W)``.
        wanted: the class that each ought to have, int64, ``(T, B)``; any value where not judged.
        classifier: what reads them.
        classes: those that can be wanted.
        judged: which frames count, bool, ``(T, B)``.

    Raises:
        ValueError: shapes that do not fit, or a class that is wanted and not one of ``classes``.
    """
    _check_steps("class_score", output, wanted=wanted, judged=judged)
    wanted = wanted[judged]  # (frames judged,)
    by_class = wanted.unsqueeze(1) == torch.tensor(list(classes), device=wanted.device)
    if not by_class.any(1).all():
        raise ValueError(
            f"class_score: wanted must be one of the classes {tuple(classes)} in every frame "
            f"judged, got {sorted(set(wanted.tolist()))}"
        )
    right = classifier.read(output[judged], classes) == wanted
    return _score(right.double(), by_class.double().mean(0).max())


def _share(of: Tensor, among: Tensor) -> Tensor:
    """Along the last dimension, of those in ``among`` the share that is in ``of``."""
    return (of & among).sum(-1, dtype=torch.float64) / among.sum(-1)


def _score(right: Tensor, chance: Tensor) -> Score:
    """From how right each frame is, ``(frames judged,)``, and the chance of all."""
    if len(right) == 0:
        return Score(None, None, 0)
    return Score(right.mean().item(), chance.item(), len(right))


def _check_steps(function: str, output: Tensor, **given: Tensor) -> None:
    for name, tensor in given.items():
        if output.dim() < 3 or tensor.shape != output.shape[:2]:
            raise ValueError(
                f"{function}: {name} must have the shape (T, B) of output, which is (T, B, *event)"
                f"; got {tuple(tensor.shape)} and {tuple(output.shape)}"
            )
