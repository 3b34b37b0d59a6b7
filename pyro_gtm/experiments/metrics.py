"""Metrics of a trained model: its bounds, its KL beside the oracle's, its recall accuracy.

All metrics are of one batch of held-out sequences, the same for all runs of a task, with the same
noise, so that a run that is judged twice is judged alike.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pyro_gtm.experiments.classifier import train_classifier
from pyro_gtm.experiments.curriculum import RecallGap
from pyro_gtm.experiments.experiment import EVALUATION_SEED, Experiment, eval_mode
from pyro_gtm.experiments.scores import class_score, nearest_image_score
from pyro_gtm.infer.addressing import addresses
from pyro_gtm.infer.evaluation import Evaluation
from pyro_gtm.infer.generation import continue_frames
from pyro_gtm.infer.importance import importance_weighted_bound
from pyro_gtm.tasks import ImageTask, NewFrameKL, Sequences, Task

__all__ = [
    "LEAST_LOG_WEIGHT",
    "PARTICLES",
    "assess",
    "generate",
    "kl_name",
    "new_frame_kl",
    "recall_gap",
]

PARTICLES = 10
"""K of the negative IWAE bound by default."""

LEAST_LOG_WEIGHT = -50.0
"""What the logarithm of a weight counts as at least: a slot that was overwritten has weight 0."""


def kl_name(prior: str) -> str:
    """What the KL of a run is called: of a mixture prior it is a bound on it, and not to be
    compared with that of a Gaussian."""
    return "KL bound" if prior == "mixture" else "KL"


def assess(
    experiment: Experiment, batch: Sequences | None = None, *, particles: int = PARTICLES
) -> dict[str, Any]:
    """Metrics of a trained model, in nats but for accuracies.

    With a mixture prior every KL is a bound on it (:class:`~pyro_gtm.model.MixturePrior`).  What
    can be compared with a Gaussian prior is the negative ELBO, the negative IWAE bound and the
    recall accuracy.

    Args:
        experiment: with its trained model.
        batch: B sequences to judge it on; by default the held-out sequences of the run.
        particles: K of the negative IWAE bound.

    Returns:
        Those of :meth:`pyro_gtm.infer.Evaluation.summary`, and

        - ``new_frame_kl``: the KL of a frame of which the past tells nothing, None without one;
        - ``oracle_kl_per_frame`` (a list), ``recall_oracle_kl`` and ``last_frame_oracle_kl``: the
          KL of a perfect memory to which new frames cost as much, None without such a frame;
        - ``negative_iwae_bound_per_frame`` and ``negative_iwae_bound_per_sequence`` with
          ``particles`` particles;
        - ``recall_accuracy``: of the generated frames that the past decides, the share that is
          right, which is to be nearest to the right one of the images shown or, where a task asks
          for a class, to be read by a classifier as of that class; ``recall_accuracy_chance``, that
          of guessing; ``recall_accuracy_frames``, the number of frames judged;
          ``classifier_accuracy`` on held-out images, for the same reading.  None where nothing can
          be judged;
        - ``right_slot_log_weight``, with a mixture prior: log w of the slots that hold the frame
          which is shown again, the mean over predictable frames of which there is one, at least
          -50 each; else None.
    """
    batch = experiment.held_out() if batch is None else batch
    task = experiment.test_task
    evaluation = experiment.evaluate(batch)
    new_frame = new_frame_kl(task, evaluation, batch)
    with eval_mode(experiment):
        bound = importance_weighted_bound(
            experiment.guide, batch.frames, batch.controls, num_particles=particles
        ).mean()
    return {
        **evaluation.summary(batch.predictable),
        "new_frame_kl": None if new_frame is None else new_frame.mean,
        **_oracle(task, new_frame, bool(batch.predictable.any())),
        "particles": particles,
        "negative_iwae_bound_per_frame": -bound.item() / len(batch.frames),
        "negative_iwae_bound_per_sequence": -bound.item(),
        **_recall_accuracy(experiment, batch),
        "right_slot_log_weight": _right_slot_log_weight(experiment, batch),
    }


def new_frame_kl(task: Task, evaluation: Evaluation, batch: Sequences) -> NewFrameKL | None:
    """KL of the frames of which the past tells nothing; None if there are none in the batch."""
    mean, by_class = evaluation.new_frame_kl(batch.labels, task.new_frames(batch))
    return None if mean is None else NewFrameKL(mean, by_class)


def recall_gap(experiment: Experiment, task: Task) -> RecallGap | None:
    """How far a model is from perfect recall, on training sequences of some size.

    Args:
        experiment: with its model.
        task: the training task, in any of its sizes.

    Returns:
        The mean over as many sequences as an evaluation has, always the same.  The recall KL is
        that of the frames which a model would generate and the past decides: the cue of a recall,
        which is given, does not count.  None without such a frame, or without a new one.
    """
    generator = torch.Generator(experiment.device).manual_seed(EVALUATION_SEED)
    batch = task.sample(experiment.config.eval_sequences, generator)
    evaluation = experiment.evaluate(batch)
    judged = batch.predictable.clone()  # (T, B)
    judged[: task.num_given] = False
    new_frame = new_frame_kl(task, evaluation, batch)
    if new_frame is None or not judged.any():
        return None
    recall_kl = evaluation.kl[judged].mean().item()
    return RecallGap(recall_kl - task.recall_oracle_kl(new_frame), new_frame.mean)


def generate(
    experiment: Experiment,
    batch: Sequences,
    num_given: int,
    *,
    sample: bool = False,
    seed: int = EVALUATION_SEED,
) -> Tensor:
    """The batch as the model goes on with it after its first frames.

    Args:
        experiment: with its trained model.
        batch: B sequences of T frames.
        num_given: the number of frames given; all others are generated.
        sample: generate samples rather than means.
        seed: of the generation; by default that of all evaluations.

    Returns:
        The frames given, and those generated: ``(T, B, C, H, W)``.
    """
    if num_given >= len(batch.frames):
        return batch.frames
    with eval_mode(experiment, seed):
        return continue_frames(
            experiment.program,
            experiment.memory,
            batch.frames[:num_given],
            num_steps=len(batch.frames),
            controls=batch.controls,
            sample=sample,
        )


def _oracle(task: Task, new_frame: NewFrameKL | None, recalls: bool) -> dict[str, Any]:
    """The KL of a perfect memory; ``recalls``: whether any frame is predictable."""
    if new_frame is None:
        return dict.fromkeys(("oracle_kl_per_frame", "recall_oracle_kl", "last_frame_oracle_kl"))
    kl = task.oracle_kl(new_frame)  # (T,)
    return {
        "oracle_kl_per_frame": kl.tolist(),
        "recall_oracle_kl": task.recall_oracle_kl(new_frame) if recalls else None,
        "last_frame_oracle_kl": kl[-1].item(),
    }


def _recall_accuracy(experiment: Experiment, batch: Sequences) -> dict[str, Any]:
    task = experiment.test_task
    output = generate(experiment, batch, task.num_given)
    accuracy = None
    if not task.target_classes:
        score = nearest_image_score(output, batch.repeats, task.num_given)
    else:
        training, held_out = (cast(ImageTask, t) for t in (experiment.training_task, task))
        classifier = train_classifier(*training.images)
        accuracy = classifier.accuracy(*held_out.images, task.target_classes)
        generated = torch.arange(len(output), device=output.device) >= task.num_given
        judged = batch.predictable & generated.unsqueeze(1)
        score = class_score(output, batch.labels, classifier, task.target_classes, judged)
    return {
        "recall_accuracy": score.accuracy,
        "recall_accuracy_chance": score.chance,
        "recall_accuracy_frames": score.num_frames,
        "classifier_accuracy": accuracy,
    }


def _right_slot_log_weight(experiment: Experiment, batch: Sequences) -> float | None:
    recalled = batch.predictable & (batch.repeats >= 0)
    if experiment.config.prior != "mixture" or not recalled.any():
        return None
    with eval_mode(experiment):
        found = addresses(experiment.guide, batch.frames, batch.controls)
    right = found.log_weight_of_right(batch.repeats)[recalled]
    return right.clamp(min=LEAST_LOG_WEIGHT).mean().item()
