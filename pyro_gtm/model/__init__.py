"""The generative program, its latents as one distribution, its likelihoods and its networks."""

from pyro_gtm.model.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood
from pyro_gtm.model.program import (
    DecoderInput,
    GenerativeTemporalModel,
    Layout,
    Posterior,
    Precision,
    Writes,
)

__all__ = [
    "BernoulliLikelihood",
    "DecoderInput",
    "GaussianLikelihood",
    "GenerativeTemporalModel",
    "Layout",
    "Likelihood",
    "Posterior",
    "Precision",
    "Writes",
]
