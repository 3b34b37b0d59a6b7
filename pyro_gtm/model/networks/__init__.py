"""The networks between frames, contexts and latents."""

from __future__ import annotations

from torch import nn

from pyro_gtm.internals.registry import Registry
from pyro_gtm.model.likelihoods import Likelihood
from pyro_gtm.model.networks.conv import ConvDecoder, ConvEncoder, VisualBlock
from pyro_gtm.model.networks.gaussian import GaussianHead, residual_gaussian
from pyro_gtm.model.networks.mlp import MLPDecoder, MLPEncoder
from pyro_gtm.model.networks.small_conv import SmallConvDecoder, SmallConvEncoder

__all__ = [
    "NETWORKS",
    "ConvDecoder",
    "ConvEncoder",
    "GaussianHead",
    "MLPDecoder",
    "MLPEncoder",
    "Networks",
    "SmallConvDecoder",
    "SmallConvEncoder",
    "VisualBlock",
    "make_networks",
    "register_network",
    "residual_gaussian",
]


class Networks:
    """An encoder and a decoder that fit each other and a likelihood.

    A subclass makes both in a constructor with the arguments of :func:`make_networks` but ``name``.

    Attributes:
        encoder: what the likelihood makes of frames, ``(*batch, *likelihood.feature_shape)``, to
            features ``(*batch, hidden_dim)``.
        decoder: ``(*batch, decoder_input_dim)`` to ``(*batch, *likelihood.parameter_shape)``.
    """

    encoder: nn.Module
    decoder: nn.Module


NETWORKS: Registry[Networks] = Registry("network")
register_network = NETWORKS.register


@register_network("mlp")
class MLPNetworks(Networks):
    """:class:`MLPEncoder` and :class:`MLPDecoder`."""

    def __init__(self, likelihood: Likelihood, *, hidden_dim: int, decoder_input_dim: int) -> None:
        self.encoder = MLPEncoder(likelihood.feature_shape, hidden_dim, feature_dim=hidden_dim)
        self.decoder = MLPDecoder(decoder_input_dim, hidden_dim, likelihood.parameter_shape)


@register_network("conv")
class ConvNetworks(Networks):
    """:class:`ConvEncoder` and :class:`ConvDecoder`."""

    def __init__(self, likelihood: Likelihood, *, hidden_dim: int, decoder_input_dim: int) -> None:
        self.encoder = ConvEncoder(likelihood.feature_shape, feature_dim=hidden_dim)
        self.decoder = ConvDecoder(decoder_input_dim, hidden_dim, likelihood.parameter_shape)


@register_network("small_conv")
class SmallConvNetworks(Networks):
    """:class:`SmallConvEncoder` and :class:`SmallConvDecoder`, 8 channels for each colour."""

    def __init__(self, likelihood: Likelihood, *, hidden_dim: int, decoder_input_dim: int) -> None:
        self.encoder = SmallConvEncoder(likelihood.feature_shape, feature_dim=hidden_dim)
        self.decoder = SmallConvDecoder(
            decoder_input_dim, hidden_dim, likelihood.parameter_shape, self.encoder.channels
        )


def make_networks(
    name: str, likelihood: Likelihood, *, hidden_dim: int, decoder_input_dim: int
) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder that fit each other and the likelihood.

    Args:
        name: one of ``NETWORKS``, such as ``"mlp"``.
        likelihood: what the decoder's output must serve.
        hidden_dim: width of hidden layers and size of the features.
        decoder_input_dim: size of what the decoder sees.

    Raises:
        ValueError: the name is unknown.
    """
    networks = NETWORKS.make(
        name, likelihood, hidden_dim=hidden_dim, decoder_input_dim=decoder_input_dim
    )
    return networks.encoder, networks.decoder
