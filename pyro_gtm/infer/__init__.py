"""Inference: the optimiser, the training loop, evaluation and generation."""

from pyro_gtm.infer.addressing import Addresses, addresses
from pyro_gtm.infer.batch import Batch
from pyro_gtm.infer.captured import CapturedSVI, NotCapturedWarning
from pyro_gtm.infer.check_observations import InvalidFramesError, check_observations
from pyro_gtm.infer.distributed_elbo import DistributedELBO
from pyro_gtm.infer.elbo import DeviceTrace_ELBO, DeviceTraceMeanField_ELBO
from pyro_gtm.infer.evaluation import Evaluation, evaluate
from pyro_gtm.infer.generation import continue_frames, reconstruct
from pyro_gtm.infer.importance import importance_weighted_bound
from pyro_gtm.infer.learning_rate import LearningRate
from pyro_gtm.infer.optim import FusedAdam, NonFiniteGradientError
from pyro_gtm.infer.ranks import LostRankError, Ranks, joined
from pyro_gtm.infer.training import NonFiniteLossError, parameters_are_current, training_steps

__all__ = [
    "Addresses",
    "Batch",
    "CapturedSVI",
    "DeviceTraceMeanField_ELBO",
    "DeviceTrace_ELBO",
    "DistributedELBO",
    "Evaluation",
    "FusedAdam",
    "InvalidFramesError",
    "LearningRate",
    "LostRankError",
    "NonFiniteGradientError",
    "NonFiniteLossError",
    "NotCapturedWarning",
    "Ranks",
    "addresses",
    "check_observations",
    "continue_frames",
    "evaluate",
    "importance_weighted_bound",
    "joined",
    "parameters_are_current",
    "reconstruct",
    "training_steps",
]
