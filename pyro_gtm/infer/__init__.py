"""Inference: the optimiser, the training loop, evaluation and generation."""

from pyro_gtm.infer.evaluation import Evaluation, evaluate
from pyro_gtm.infer.generation import continue_frames, reconstruct
from pyro_gtm.infer.optim import Adam, NonFiniteGradientError
from pyro_gtm.infer.training import NonFiniteLossError, training_steps

__all__ = [
    "Adam",
    "Evaluation",
    "NonFiniteGradientError",
    "NonFiniteLossError",
    "continue_frames",
    "evaluate",
    "reconstruct",
    "training_steps",
]
