"""The networks between frames, contexts and latents."""

from __future__ import annotations

from torch import nn

from pyro_gtm.model.likelihoods import Likelihood
from pyro_gtm.model.networks.conv import ConvDecoder, ConvEncoder, VisualBlock
from pyro_gtm.model.networks.gaussian import GaussianHead, residual_gaussian
from pyro_gtm.model.networks.mlp import MLPDecoder, MLPEncoder

__all__ = [
    "NETWORKS",
    "ConvDecoder",
    "ConvEncoder",
    "GaussianHead",
    "MLPDecoder",
    "MLPEncoder",
    "VisualBlock",
    "make_networks",
    "residual_gaussian",
]

NETWORKS = ("mlp", "conv")
"""The networks by the names of the command line."""


def make_networks(
    name: str, likelihood: Likelihood, *, hidden_dim: int, decoder_input_dim: int
) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder that fit each other and the likelihood.

    Args:
        name: ``"mlp"`` or ``"conv"``.
        likelihood: what the decoder's output must serve.
        hidden_dim: width of hidden layers and size of the features.
        decoder_input_dim: size of what the decoder sees.

    Raises:
        ValueError: the name is unknown.
    """
    if name == "mlp":
        return (
            MLPEncoder(likelihood.event_shape, hidden_dim, feature_dim=hidden_dim),
            MLPDecoder(decoder_input_dim, hidden_dim, likelihood.parameter_shape),
        )
    if name == "conv":
        return (
            ConvEncoder(likelihood.event_shape, feature_dim=hidden_dim),
            ConvDecoder(decoder_input_dim, hidden_dim, likelihood.parameter_shape),
        )
    raise ValueError(f"network must be one of {', '.join(NETWORKS)}; got {name!r}")
