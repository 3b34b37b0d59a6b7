"""The generative program, its latents as one distribution, its likelihoods and its networks."""

from pyro_gtm.model.inputs import InvalidFramesError
from pyro_gtm.model.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
    register_likelihood,
)
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
    "InvalidFramesError",
    "Layout",
    "Likelihood",
    "Posterior",
    "Precision",
    "Writes",
    "register_likelihood",
]
