"""Frames decoded and judged some steps at a time, against all at once."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import nn

from pyro_gtm.model.chunked_emission import FramesInBlocks, map_in_blocks
from pyro_gtm.model.likelihoods import LIKELIHOODS

pytestmark = pytest.mark.usefixtures("float64")

T, B, Z, C = 5, 3, 2, 4
EVENT_SHAPE = (1, 2, 3)
BATCHES = [(), (4,), (2, 4)]


class Decoder(nn.Module):
    """An emission, which remembers how many steps it was given at once."""

    def __init__(self, family):
        super().__init__()
        self.likelihood = LIKELIHOODS[family](EVENT_SHAPE)
        self.layers = nn.Sequential(
            nn.Linear(Z + C, 6),
            nn.Tanh(),
            nn.Linear(6, torch.Size(self.likelihood.parameter_shape).numel()),
            nn.Unflatten(-1, self.likelihood.parameter_shape),
        )
        self.lengths = []

    def forward(self, latents, contexts):
        self.lengths.append(len(latents))
        return self.likelihood(self.layers(torch.cat([latents, contexts], dim=-1)))


@pytest.fixture(params=LIKELIHOODS)
def decoder(request):
    return Decoder(request.param)


def inputs(batch):
    sizes = (Z, C)
    return tuple(torch.randn(*batch, T, B, size, requires_grad=True) for size in sizes)


def in_blocks(decoder, latents, contexts, steps):
    return FramesInBlocks(decoder, latents, contexts, event_shape=EVENT_SHAPE, steps=steps)


@pytest.mark.parametrize("steps", [1, 2, T, T + 3])
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("particles_in_frames", [False, True])
def test_equals_the_plain_emission(steps, batch, particles_in_frames, decoder):
    """Log-probabilities and all gradients; of one set of frames for all particles, or one each."""
    latents, contexts = inputs(batch)
    shape = (*(batch if particles_in_frames else ()), T, B, *EVENT_SHAPE)
    frames = torch.rand(shape).round()
    found = in_blocks(decoder, latents, contexts, steps)
    plain = decoder(latents, contexts)
    assert (found.batch_shape, found.event_shape) == (plain.batch_shape, plain.event_shape)

    log_probs = [distribution.log_prob(frames) for distribution in (found, plain)]
    assert log_probs[0].shape == (*batch, T, B)
    torch.testing.assert_close(*log_probs, rtol=1e-12, atol=1e-14)
    weights = torch.randn(*batch, T, B)
    wanted = [latents, contexts, *decoder.parameters()]
    gradients = [torch.autograd.grad((lp * weights).sum(), wanted) for lp in log_probs]
    for one, other in zip(*gradients, strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_so_many_steps_at_once_and_again_for_the_gradients(decoder):
    latents, contexts = inputs((4,))
    log_prob = in_blocks(decoder, latents, contexts, 2).log_prob(torch.zeros(T, B, *EVENT_SHAPE))
    assert decoder.lengths == [2, 2, 1]
    log_prob.sum().backward()
    assert sorted(decoder.lengths) == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_a_sample_is_the_emissions(batch, decoder):
    latents, contexts = inputs(batch)
    pyro.set_rng_seed(1)
    found = in_blocks(decoder, latents, contexts, 2).sample()
    pyro.set_rng_seed(1)
    assert found.shape == (*batch, T, B, *EVENT_SHAPE)
    assert found.equal(decoder(latents, contexts).sample())


def test_cannot_be_expanded(decoder):
    found = in_blocks(decoder, *inputs(()), 2)
    assert found.expand(torch.Size([T, B])) is found
    with pytest.raises(ValueError, match=r"cannot be expanded from \(5, 3\) to \(2, 5, 3\)"):
        found.expand(torch.Size([2, T, B]))


def test_impossible_frames_are_refused_as_in_one_piece():
    found = in_blocks(Decoder("bernoulli"), *inputs(()), 2)
    with pytest.raises(ValueError, match="support"):
        found.log_prob(torch.full((T, B, *EVENT_SHAPE), 0.5))


def test_is_a_distribution_pyro_observes(decoder):
    latents, contexts = inputs(())
    frames = torch.ones(T, B, *EVENT_SHAPE)

    def observe(distribution: TorchDistribution):
        with pyro.plate("sequences", B, dim=-1), pyro.plate("time", T, dim=-2):
            pyro.sample("x", distribution, obs=frames)

    totals = [
        pyro.poutine.trace(observe).get_trace(distribution).log_prob_sum()
        for distribution in (in_blocks(decoder, latents, contexts, 2), decoder(latents, contexts))
    ]
    torch.testing.assert_close(*totals, rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [1, 2, T, T + 3])
def test_map_in_blocks(steps):
    layer = nn.Linear(Z, C)
    frames = torch.randn(T, B, Z, requires_grad=True)
    results = map_in_blocks(layer, steps, frames), layer(frames)
    torch.testing.assert_close(*results, rtol=1e-12, atol=0)
    wanted = [frames, *layer.parameters()]
    gradients = [torch.autograd.grad(result.square().sum(), wanted) for result in results]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_what_draws_random_numbers_is_refused():
    """Dropout in an encoder: run again for the gradients, it would draw another mask."""
    with pytest.raises(RuntimeError, match=r"checkpoint_every must be 0 for .* dropout"):
        map_in_blocks(nn.Dropout(0.5), 2, torch.ones(4, B, 10, requires_grad=True))
    frames = torch.ones(4, B, 10)
    assert map_in_blocks(nn.Dropout(0.5).eval(), 2, frames).equal(frames)
