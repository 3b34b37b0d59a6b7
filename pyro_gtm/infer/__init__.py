"""Inference: the optimiser, the training loop, evaluation, generation, and its success."""

from pyro_gtm.infer.classifier import Classifier, train_classifier
from pyro_gtm.infer.evaluation import Evaluation, evaluate
from pyro_gtm.infer.generation import continue_frames, reconstruct
from pyro_gtm.infer.importance import importance_weighted_bound
from pyro_gtm.infer.optim import Adam, NonFiniteGradientError
from pyro_gtm.infer.scores import Score, class_score, nearest_image_score
from pyro_gtm.infer.training import NonFiniteLossError, training_steps

__all__ = [
    "Adam",
    "Classifier",
    "Evaluation",
    "NonFiniteGradientError",
    "NonFiniteLossError",
    "Score",
    "class_score",
    "continue_frames",
    "evaluate",
    "importance_weighted_bound",
    "nearest_image_score",
    "reconstruct",
    "train_classifier",
    "training_steps",
]
