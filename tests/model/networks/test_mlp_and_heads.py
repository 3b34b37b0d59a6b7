"""Perceptrons and Gaussian heads."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.model.networks import (
    NETWORKS,
    GaussianHead,
    MLPDecoder,
    MLPEncoder,
    make_networks,
    residual_gaussian,
)
from pyro_gtm.model.networks.gaussian import MIN_SCALE

BATCHES = [(), (4,), (2, 3)]


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("event", [(1, 5, 5), (3, 4, 7), (6,)], ids=str)
def test_mlp_shapes(batch, event):
    encoder = MLPEncoder(event, hidden_dim=8, feature_dim=5)
    decoder = MLPDecoder(4, hidden_dim=8, parameter_shape=event)
    assert encoder(torch.randn(*batch, *event)).shape == (*batch, 5)
    assert decoder(torch.randn(*batch, 4)).shape == (*batch, *event)
    assert (encoder.feature_dim, decoder.input_dim) == (5, 4)


def test_mlp_treats_each_frame_alone():
    encoder = MLPEncoder((1, 5, 5), hidden_dim=8, feature_dim=5)
    frames = torch.randn(2, 3, 1, 5, 5)
    torch.testing.assert_close(encoder(frames)[1, 2], encoder(frames[1, 2]))


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_head_is_one_hidden_layer(batch):
    """Features join before the nonlinearity: one layer on [context, features' inputs]."""
    head = GaussianHead(context_dim=6, hidden_dim=5, latent_dim=3)
    context, features = torch.randn(*batch, 6), torch.randn(*batch, 5)
    for given in (None, features):
        location, scale = head(context, given)
        hidden = head.hidden(context) + (0 if given is None else given)
        output = head.parameters_of(hidden.clamp(min=0))
        torch.testing.assert_close(location, output[..., :3])
        torch.testing.assert_close(scale, F.softplus(output[..., 3:]) + MIN_SCALE)


def test_head_scale_never_vanishes():
    head = GaussianHead(context_dim=2, hidden_dim=5, latent_dim=3)
    with torch.no_grad():
        head.parameters_of.bias.fill_(-1e4)
    _, scale = head(torch.zeros(2))
    torch.testing.assert_close(scale, torch.full((3,), MIN_SCALE))


def test_kl_of_a_residual():
    """KL = (shift² / σ² + factor² - 1) / 2 - log factor, wherever the prior lies."""
    shift, factor = torch.randn(4, 3), torch.rand(4, 3) + 0.1
    for prior in [(torch.randn(4, 3), torch.rand(4, 3) + 0.1), (torch.zeros(3), torch.ones(3))]:
        expected = ((shift / prior[1]) ** 2 + factor**2 - 1) / 2 - factor.log()
        posterior = residual_gaussian(prior, (shift, factor))
        kl = kl_divergence(Normal(*posterior), Normal(*prior))
        torch.testing.assert_close(kl, expected, rtol=1e-4, atol=1e-5)


def test_no_residual_is_the_prior():
    prior = torch.randn(4, 3), torch.rand(4, 3) + 0.1
    location, scale = residual_gaussian(prior, (torch.zeros(4, 3), torch.ones(4, 3)))
    assert location.equal(prior[0]) and scale.equal(prior[1])


def test_residual_scale_never_vanishes():
    _, scale = residual_gaussian(
        (torch.zeros(3), torch.full((3,), 1e-3)), (torch.zeros(3), torch.full((3,), 1e-9))
    )
    torch.testing.assert_close(scale, torch.full((3,), MIN_SCALE))


@pytest.mark.parametrize("name", NETWORKS.names())
@pytest.mark.parametrize(
    "likelihood", [gtm.BernoulliLikelihood((1, 9, 6)), gtm.GaussianLikelihood((1, 9, 6))]
)
def test_networks_by_name_fit_each_other(name, likelihood):
    encoder, decoder = make_networks(name, likelihood, hidden_dim=8, decoder_input_dim=7)
    assert encoder(torch.randn(2, 3, 1, 9, 6)).shape == (2, 3, encoder.feature_dim)
    parameters = decoder(torch.randn(2, 3, 7))
    assert decoder.input_dim == 7
    assert likelihood(parameters).sample().shape == (2, 3, 1, 9, 6)


def test_unknown_network_is_one_sentence():
    with pytest.raises(
        ValueError, match="network: got 'transformer', must be one of conv, mlp, small_conv"
    ):
        make_networks(
            "transformer", gtm.BernoulliLikelihood((2,)), hidden_dim=3, decoder_input_dim=2
        )
