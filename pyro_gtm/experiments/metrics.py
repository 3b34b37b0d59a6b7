"""What a trained model is worth: its bounds, how far they are from the floor, its success.

All figures are of one batch of held-out sequences, the same for all runs of a task, with the same
noise, so that a run that is judged twice is judged alike.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pyro_gtm.experiments.build import EVALUATION_SEED, Experiment, eval_mode
from pyro_gtm.experiments.classifier import train_classifier
from pyro_gtm.experiments.scores import class_score, nearest_image_score
from pyro_gtm.infer.evaluation import Evaluation
from pyro_gtm.infer.generation import continue_frames
from pyro_gtm.infer.importance import importance_weighted_bound
from pyro_gtm.tasks import FrameCost, ImageTask, Sequences, Task

__all__ = ["PARTICLES", "assess", "generate", "new_frame_kl"]

PARTICLES = 10
"""K of the importance-weighted bound, unless asked for another."""


def assess(
    experiment: Experiment, batch: Sequences | None = None, *, particles: int = PARTICLES
) -> dict[str, Any]:
    """The figures that are reported of a trained model, in nats but for the scores.

    Args:
        experiment: with its trained model.
        batch: what it is judged on; by default the held-out sequences of the run.
        particles: K of the importance-weighted bound.

    Returns:
        What :meth:`pyro_gtm.Evaluation.summary` gives, and

        - ``new_frame_kl``: the KL of a frame of which the past tells nothing, None without one;
        - ``oracle_kl_per_frame`` (a list), ``recall_oracle_kl`` and ``last_frame_oracle_kl``: the
          least KL a perfect memory could have at that cost, None where the cost is not known;
        - ``negative_iwae_bound_per_frame`` and ``negative_iwae_bound_per_sequence`` with
          ``particles`` particles;
        - ``recall_accuracy``: of the generated frames that the past decides, the share that is
          right: whose nearest image among those shown is the one called for or, where a task calls
          for a class, which a classifier reads as of that class; ``recall_accuracy_chance``, that
          of guessing; ``recall_accuracy_frames``, how many there were; ``classifier_accuracy`` on
          held-out images, for the same reading. None where nothing can be judged.
    """
    batch = experiment.held_out() if batch is None else batch
    task = experiment.test_task
    evaluation = experiment.evaluate(batch)
    cost = new_frame_kl(task, evaluation, batch)
    floors: dict[str, Any] = dict.fromkeys(
        ("oracle_kl_per_frame", "recall_oracle_kl", "last_frame_oracle_kl")
    )
    if cost is not None:
        floor = task.floor(cost)
        floors = {
            "oracle_kl_per_frame": floor.tolist(),
            "recall_oracle_kl": task.recall_floor(cost) if batch.predictable.any() else None,
            "last_frame_oracle_kl": floor[-1].item(),
        }
    with eval_mode(experiment):
        bound = importance_weighted_bound(
            experiment.guide, batch.frames, batch.controls, num_particles=particles
        ).mean()
    return {
        **evaluation.summary(batch.predictable),
        "new_frame_kl": None if cost is None else cost.mean,
        **floors,
        "particles": particles,
        "negative_iwae_bound_per_frame": -bound.item() / len(batch.frames),
        "negative_iwae_bound_per_sequence": -bound.item(),
        **_success(experiment, batch),
    }


def new_frame_kl(task: Task, evaluation: Evaluation, batch: Sequences) -> FrameCost | None:
    """What a frame costs of which the past tells nothing; None if there is none in the batch."""
    mean, by_class = evaluation.frame_cost(batch.labels, task.new_frames(batch))
    return None if mean is None else FrameCost(mean, by_class)


def generate(
    experiment: Experiment,
    batch: Sequences,
    num_given: int,
    *,
    sample: bool = False,
    seed: int = EVALUATION_SEED,
) -> Tensor:
    """The batch as the model goes on with it after its first frames: ``(T, B, C, H, W)``.

    Args:
        experiment: with its trained model.
        batch: sequences of T frames.
        num_given: how many of these are given; all others are generated.
        sample: generate samples rather than means.
        seed: of the generation; by default that of all evaluations.
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


def _success(experiment: Experiment, batch: Sequences) -> dict[str, Any]:
    task = experiment.test_task
    output = generate(experiment, batch, task.num_given)
    accuracy = None
    if not task.answers:
        score = nearest_image_score(output, batch.repeats, task.num_given)
    else:
        training, held_out = (cast(ImageTask, t) for t in (experiment.training_task, task))
        classifier = train_classifier(*training.images)
        accuracy = classifier.accuracy(*held_out.images, task.answers)
        generated = torch.arange(len(output), device=output.device) >= task.num_given
        judged = batch.predictable & generated.unsqueeze(1)
        score = class_score(output, batch.labels, classifier, task.answers, judged)
    return {
        "recall_accuracy": score.share,
        "recall_accuracy_chance": score.chance,
        "recall_accuracy_frames": score.num_frames,
        "classifier_accuracy": accuracy,
    }
