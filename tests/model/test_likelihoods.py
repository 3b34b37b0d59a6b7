"""Likelihoods against closed forms, in nats a frame."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.model.likelihoods import LIKELIHOODS

SHAPES = [(1, 5, 5), (3, 4, 6), (7,)]


@pytest.fixture(params=LIKELIHOODS.names())
def family(request):
    return LIKELIHOODS.find(request.param)


@pytest.mark.parametrize("event", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [(), (2,), (4, 2, 3)], ids=str)
def test_a_frame_is_one_event(family, event, batch):
    likelihood = family(event)
    frames = likelihood(torch.randn(*batch, *likelihood.parameter_shape))
    assert (tuple(frames.batch_shape), tuple(frames.event_shape)) == (batch, event)
    assert frames.sample().shape == (*batch, *event)
    assert frames.log_prob(frames.sample()).shape == batch


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_bernoulli_is_binary_cross_entropy(event):
    logits, frames = 3 * torch.randn(4, *event), torch.rand(4, *event).round()
    log_prob = gtm.BernoulliLikelihood(event)(logits).log_prob(frames)
    expected = -F.binary_cross_entropy_with_logits(logits, frames, reduction="none")
    torch.testing.assert_close(log_prob, expected.flatten(1).sum(-1))


def test_bernoulli_mean_is_the_probability_of_a_one():
    logits = torch.randn(2, 1, 5, 5)
    torch.testing.assert_close(gtm.BernoulliLikelihood((1, 5, 5))(logits).mean, logits.sigmoid())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("event", SHAPES, ids=str)
def test_gaussian_is_the_gaussian_density(event):
    """Means first, then raw scales, along the first dimension of a frame."""
    low, high = 0.1, 2.0
    means, raw, frames = torch.randn(3, 4, *event)
    distribution = gtm.GaussianLikelihood(event, min_scale=low, max_scale=high)(
        torch.cat([means, raw], 1)
    )
    scales = torch.exp(math.log(low) + raw.sigmoid() * (math.log(high) - math.log(low)))
    density = torch.exp(-((frames - means) ** 2) / (2 * scales**2)) / (
        scales * math.sqrt(2 * math.pi)
    )
    torch.testing.assert_close(distribution.log_prob(frames), density.log().flatten(1).sum(-1))
    torch.testing.assert_close(distribution.mean, means)


@pytest.mark.parametrize("raw, expected", [(-1e6, 0.05), (1e6, 1.0), (0.0, math.sqrt(0.05))])
def test_gaussian_scale_is_bounded(raw, expected):
    parameters = torch.cat([torch.zeros(1, 3, 3), torch.full((1, 3, 3), raw)])
    parameters.requires_grad_()
    frames = gtm.GaussianLikelihood((1, 3, 3))(parameters)
    torch.testing.assert_close(frames.stddev, torch.full((1, 3, 3), expected))
    frames.log_prob(torch.ones(1, 3, 3)).backward()
    assert parameters.grad.isfinite().all()


def test_extreme_logits_are_finite():
    logits = torch.tensor([-1e4, 1e4]).requires_grad_()
    log_prob = gtm.BernoulliLikelihood((2,))(logits).log_prob(torch.tensor([0.0, 0.0]))
    assert log_prob.item() == -1e4
    log_prob.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, -1.0]))


@pytest.mark.parametrize(
    "event, sentence",
    [
        ((), "event_shape must have at least one size"),
        ((0,), "event_shape must be a positive integer, got 0"),
        ((1, -2), "event_shape must be a positive integer, got -2"),
    ],
    ids=str,
)
def test_impossible_event_shape_is_named(family, event, sentence):
    with pytest.raises(ValueError, match=f"^{family.__name__}: {sentence}$"):
        family(event)


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0)])
def test_impossible_scales_are_named(low, high):
    with pytest.raises(ValueError, match="0 < min_scale < max_scale"):
        gtm.GaussianLikelihood((2,), min_scale=low, max_scale=high)


def test_a_size_is_no_shape():
    with pytest.raises(TypeError, match="event_shape must be a tuple of sizes, got 28"):
        gtm.BernoulliLikelihood(28)
