"""Likelihoods p(x_t | z_t, Ψ): from the decoder's output to a distribution over frames.

A likelihood says which shape it needs from the decoder (``parameter_shape``) and turns that output
into a distribution whose event is a whole frame, so a site's log-probability is in nats a frame.
To add one, write a class with ``@register_likelihood("name")`` above it.
"""

from pyro_gtm.model.likelihoods.base import LIKELIHOODS, Likelihood, register_likelihood
from pyro_gtm.model.likelihoods.bernoulli import BernoulliLikelihood
from pyro_gtm.model.likelihoods.categorical import CategoricalLikelihood
from pyro_gtm.model.likelihoods.gaussian import GaussianLikelihood
from pyro_gtm.model.likelihoods.gaussian_mixture import GaussianMixtureLikelihood
from pyro_gtm.model.likelihoods.negative_binomial import NegativeBinomialLikelihood
from pyro_gtm.model.likelihoods.point_estimates import point_estimate
from pyro_gtm.model.likelihoods.poisson import PoissonLikelihood
from pyro_gtm.model.likelihoods.student_t import StudentTLikelihood

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "GaussianLikelihood",
    "GaussianMixtureLikelihood",
    "Likelihood",
    "NegativeBinomialLikelihood",
    "PoissonLikelihood",
    "StudentTLikelihood",
    "point_estimate",
    "register_likelihood",
]
