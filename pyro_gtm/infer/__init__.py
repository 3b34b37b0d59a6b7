"""Inference: the optimiser, the training loop, evaluation, generation, and its success."""

from pyro_gtm.infer.captured import CapturedSVI, NotCapturedWarning
from pyro_gtm.infer.elbo import DeviceTrace_ELBO, DeviceTraceMeanField_ELBO
from pyro_gtm.infer.evaluation import Evaluation, evaluate
from pyro_gtm.infer.generation import continue_frames, reconstruct
from pyro_gtm.infer.importance import importance_weighted_bound
from pyro_gtm.infer.optim import Adam, NonFiniteGradientError
from pyro_gtm.infer.training import NonFiniteLossError, settled, training_steps

__all__ = [
    "Adam",
    "CapturedSVI",
    "DeviceTraceMeanField_ELBO",
    "DeviceTrace_ELBO",
    "Evaluation",
    "NonFiniteGradientError",
    "NonFiniteLossError",
    "NotCapturedWarning",
    "continue_frames",
    "evaluate",
    "importance_weighted_bound",
    "reconstruct",
    "settled",
    "training_steps",
]
