"""The generative program, its latents as one distribution, its likelihoods and its networks."""

from pyro_gtm.model.inputs import InvalidFramesError
from pyro_gtm.model.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    GaussianMixtureLikelihood,
    Likelihood,
    NegativeBinomialLikelihood,
    PoissonLikelihood,
    StudentTLikelihood,
    register_likelihood,
)
from pyro_gtm.model.mixture import MixturePrior, mix_heads, mixture_prior
from pyro_gtm.model.program import (
    DecoderInput,
    GenerativeTemporalModel,
    Layout,
    Posterior,
    Precision,
    Prior,
    Writes,
)

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "DecoderInput",
    "GaussianLikelihood",
    "GaussianMixtureLikelihood",
    "GenerativeTemporalModel",
    "InvalidFramesError",
    "Layout",
    "Likelihood",
    "MixturePrior",
    "NegativeBinomialLikelihood",
    "PoissonLikelihood",
    "Posterior",
    "Precision",
    "Prior",
    "StudentTLikelihood",
    "Writes",
    "mix_heads",
    "mixture_prior",
    "register_likelihood",
]
