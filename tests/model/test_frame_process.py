"""All frames as one random variable, at once and some steps at a time, against the emission."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import nn

from pyro_gtm.model.frame_process import ChunkedFrameProcess, FrameProcess, map_in_chunks
from pyro_gtm.model.likelihoods import LIKELIHOODS

pytestmark = pytest.mark.usefixtures("float64")

T, B, Z, C = 5, 3, 2, 4
EVENT_SHAPE = (1, 2, 3)
BATCHES = [(), (4,), (2, 4)]


class Decoder(nn.Module):
    """An emission, which remembers how many steps it was given at once."""

    def __init__(self, family):
        super().__init__()
        self.likelihood = LIKELIHOODS.make(family, EVENT_SHAPE)
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


@pytest.fixture(params=LIKELIHOODS.names())
def decoder(request):
    return Decoder(request.param)


def inputs(batch):
    sizes = (Z, C)
    return tuple(torch.randn(*batch, B, T, size, requires_grad=True) for size in sizes)


def in_chunks(decoder, latents, contexts, steps, observed=None):
    return ChunkedFrameProcess(
        decoder,
        latents,
        contexts,
        event_shape=EVENT_SHAPE,
        frame_support=decoder.likelihood.support,
        steps=steps,
        observed=observed,
    )


@pytest.fixture(params=[None, "some"], ids=["all observed", "some missing"])
def observed(request):
    return None if request.param is None else torch.rand(B, T) < 0.5


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_log_prob_is_the_sum_over_frames(batch, observed, decoder):
    """The emission's, but for frames that are missing."""
    latents, contexts = inputs(batch)
    emission, frames = decoder(latents, contexts), torch.rand(B, T, *EVENT_SHAPE).round()
    process = FrameProcess(emission, observed)
    assert (process.batch_shape, process.event_shape) == ((*batch, B), (T, *EVENT_SHAPE))
    expected = emission.log_prob(frames)
    if observed is not None:
        expected = expected * observed
    found = process.log_prob_per_step(frames)
    torch.testing.assert_close(found, expected.movedim(-1, 0), rtol=1e-12, atol=0)
    torch.testing.assert_close(process.log_prob(frames), expected.sum(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [1, 2, T, T + 3])
@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("particles_in_frames", [False, True])
def test_equals_the_plain_emission(steps, batch, particles_in_frames, observed, decoder):
    """Log-probabilities and all gradients; of one set of frames for all particles, or one each."""
    latents, contexts = inputs(batch)
    shape = (*(batch if particles_in_frames else ()), B, T, *EVENT_SHAPE)
    frames = torch.rand(shape).round()
    found = in_chunks(decoder, latents, contexts, steps, observed)
    plain = FrameProcess(decoder(latents, contexts), observed)
    assert (found.batch_shape, found.event_shape) == (plain.batch_shape, plain.event_shape)

    log_probs = [distribution.log_prob_per_step(frames) for distribution in (found, plain)]
    assert log_probs[0].shape == (T, *batch, B)
    torch.testing.assert_close(*log_probs, rtol=1e-12, atol=1e-14)
    weights = torch.randn(T, *batch, B)
    wanted = [latents, contexts, *decoder.parameters()]
    gradients = [torch.autograd.grad((lp * weights).sum(), wanted) for lp in log_probs]
    for one, other in zip(*gradients, strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_so_many_steps_at_once_and_again_for_the_gradients(decoder):
    latents, contexts = inputs((4,))
    log_prob = in_chunks(decoder, latents, contexts, 2).log_prob(torch.zeros(B, T, *EVENT_SHAPE))
    assert decoder.lengths == [2, 2, 1]
    log_prob.sum().backward()
    assert sorted(decoder.lengths) == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_a_sample_is_the_emissions(batch, decoder):
    latents, contexts = inputs(batch)
    samples = []
    for process in (
        in_chunks(decoder, latents, contexts, 2),
        FrameProcess(decoder(latents, contexts)),
        decoder(latents, contexts),
    ):
        pyro.set_rng_seed(1)
        samples.append(process.sample())
    assert samples[0].shape == (*batch, B, T, *EVENT_SHAPE)
    assert samples[0].equal(samples[2]) and samples[1].equal(samples[2])


@pytest.mark.parametrize("kind", ["in chunks", "at once"])
def test_expanded_each_is_what_it_was(kind, observed, decoder):
    """To a plate of particles around: the same density for each."""
    latents, contexts = inputs(())
    process = (
        in_chunks(decoder, latents, contexts, 2, observed)
        if kind == "in chunks"
        else FrameProcess(decoder(latents, contexts), observed)
    )
    wide = process.expand(torch.Size([2, B]))
    assert (wide.batch_shape, wide.event_shape) == ((2, B), (T, *EVENT_SHAPE))
    frames = torch.rand(2, B, T, *EVENT_SHAPE).round()
    expected = torch.stack([process.log_prob(alone) for alone in frames])
    torch.testing.assert_close(wide.log_prob(frames), expected, rtol=1e-12, atol=0)
    assert wide.sample().shape == (2, B, T, *EVENT_SHAPE)


@pytest.mark.parametrize("value, fits", [(1.0, True), (0.5, False)])
def test_support_is_the_likelihoods(value, fits):
    """What Pyro's validation asks, and the training loop, of a whole sequence."""
    decoder, (latents, contexts) = Decoder("bernoulli"), inputs(())
    frames = torch.zeros(B, T, *EVENT_SHAPE)
    frames[1, 2, 0, 0, 0] = value
    for process in (
        in_chunks(decoder, latents, contexts, 2),
        FrameProcess(decoder(latents, contexts)),
    ):
        assert process.support.check(frames).tolist() == [True, fits, True]


def test_impossible_frames_are_refused_as_in_one_piece():
    found = in_chunks(Decoder("bernoulli"), *inputs(()), 2)
    with pytest.raises(ValueError, match="support"):
        found.log_prob(torch.full((B, T, *EVENT_SHAPE), 0.5))


def test_is_a_distribution_pyro_observes(observed, decoder):
    latents, contexts = inputs(())
    frames = torch.ones(B, T, *EVENT_SHAPE)

    def observe(distribution: TorchDistribution):
        with pyro.plate("sequences", B, dim=-1):
            pyro.sample("x", distribution, obs=frames)

    plain = decoder(latents, contexts)
    if observed is not None:
        plain = plain.mask(observed)
    total = pyro.poutine.trace(observe).get_trace(plain.to_event(1)).log_prob_sum()
    for process in (
        in_chunks(decoder, latents, contexts, 2, observed),
        FrameProcess(decoder(latents, contexts), observed),
    ):
        found = pyro.poutine.trace(observe).get_trace(process).log_prob_sum()
        torch.testing.assert_close(found, total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [1, 2, T, T + 3, 2**80])
def test_map_in_chunks(steps):
    layer = nn.Linear(Z, C)
    frames = torch.randn(T, B, Z, requires_grad=True)
    results = map_in_chunks(layer, steps, frames), layer(frames)
    torch.testing.assert_close(*results, rtol=1e-12, atol=0)
    wanted = [frames, *layer.parameters()]
    gradients = [torch.autograd.grad(result.square().sum(), wanted) for result in results]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_what_draws_random_numbers_is_refused():
    """Dropout in an encoder: run again for the gradients, it would draw another mask."""
    with pytest.raises(RuntimeError, match=r"checkpoint_every must be 0 for .* dropout"):
        map_in_chunks(nn.Dropout(0.5), 2, torch.ones(4, B, 10, requires_grad=True))
    frames = torch.ones(4, B, 10)
    assert map_in_chunks(nn.Dropout(0.5).eval(), 2, frames).equal(frames)
