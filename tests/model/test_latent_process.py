"""A sequence of latents as one random variable."""

from __future__ import annotations

from contextlib import contextmanager

import pyro
import pytest
import torch
from torch.distributions import Normal, kl_divergence

import pyro_gtm as gtm
from pyro_gtm.model.latent_process import LatentProcess

T, B, Z, F = 4, 3, 3, 5


def standard(context, features=None):
    return context[..., :Z], 0.5 + context[..., :Z].sigmoid()


def shifted(context, features):
    return context[..., :Z] + features[..., :Z], 0.7 + torch.zeros_like(context[..., :Z])


@pytest.fixture
def memory(build_memory):
    return build_memory("vrnn")


@contextmanager
def in_use(memory):
    """As a program begins: inside its plate of sequences."""
    with gtm.use_memory(memory), pyro.plate("sequences", B):
        yield


@pytest.fixture
def process():
    return LatentProcess(standard, batch_shape=torch.Size([T, B]), latent_dim=Z)


def factors_by_hand(memory, head, latents, features=None):
    """Location and scale of each step, along given latents."""
    state, written, steps = memory.initial_state((B,)), torch.zeros(B, Z), []
    for t in range(T):
        state, context, _ = memory.step(state, written)
        steps.append(head(context, None if features is None else features[t]))
        written = latents[t]
    return Normal(*(torch.stack(parts) for parts in zip(*steps, strict=True)))


def test_log_prob_of_given_latents(memory, process):
    latents = torch.randn(T, B, Z)
    with in_use(memory):
        log_prob = process.log_prob(latents)
    expected = factors_by_hand(memory, standard, latents).log_prob(latents).sum(-1)
    assert log_prob.shape == (T, B)
    torch.testing.assert_close(log_prob, expected)


def test_draw(memory, process):
    """z_t is location + scale * standard normal noise, step by step."""
    with in_use(memory):
        pyro.set_rng_seed(1)
        latents = process.rsample()
    expected = factors_by_hand(memory, standard, latents)
    assert latents.shape == (T, B, Z)
    torch.testing.assert_close(process.log_prob(latents), expected.log_prob(latents).sum(-1))
    pyro.set_rng_seed(1)
    noise = torch.stack([torch.randn(B, Z) for _ in range(T)])
    torch.testing.assert_close(latents, expected.loc + expected.scale * noise)


@pytest.mark.parametrize("corrects", [False, True])
def test_kl_with_the_process_it_stands_in_for(memory, process, corrects):
    """The prior takes the posterior's draw and its contexts as its own."""
    features = torch.randn(T, B, F)
    posterior = process.stand_in(shifted, features, corrects)
    with in_use(memory):
        latents = posterior.rsample()
    p = factors_by_hand(memory, standard, latents)
    q = factors_by_hand(memory, shifted, latents, features)
    if corrects:
        q = Normal(p.loc + q.loc, p.scale * q.scale)
    kl = kl_divergence(posterior, process)
    assert kl.shape == (T, B)
    torch.testing.assert_close(kl, kl_divergence(q, p).sum(-1))
    torch.testing.assert_close(posterior.log_prob(latents), q.log_prob(latents).sum(-1))
    torch.testing.assert_close(process.log_prob(latents), p.log_prob(latents).sum(-1))


def test_gradients_reach_the_first_step(memory, process):
    with in_use(memory):
        latents = torch.randn(T, B, Z, requires_grad=True)
        (gradient,) = torch.autograd.grad(process.log_prob(latents)[-1].sum(), latents)
    assert all(step.any() for step in gradient)


def test_cannot_be_expanded(process):
    assert process.expand(torch.Size([T, B])) is process
    with pytest.raises(ValueError, match=r"cannot be expanded from \(4, 3\) to \(2, 4, 3\)"):
        process.expand(torch.Size([2, T, B]))


def test_other_latents_are_refused(memory, process):
    with in_use(memory):
        latents = process.rsample()
        with pytest.raises(RuntimeError, match="run the program again"):
            process.log_prob(latents.clone())


def test_sample_shape_is_refused(memory, process):
    with in_use(memory), pytest.raises(ValueError, match="with a plate"):
        process.rsample(torch.Size([2]))


def test_kl_before_a_draw_is_refused(process):
    with pytest.raises(RuntimeError, match="has not been drawn from"):
        kl_divergence(process.stand_in(shifted, torch.zeros(T, B, F), False), process)


def test_needs_a_memory(process):
    with pytest.raises(gtm.NoMemoryError):
        process.rsample()


@pytest.mark.parametrize("checkpoint_every", [0, 1, 3])
@pytest.mark.parametrize("corrects", [False, True])
def test_in_blocks_it_is_the_same_process(memory, checkpoint_every, corrects, float64):
    """Draws, both densities and the gradients of a posterior that stands in, along its own draw."""
    memory = memory.double()
    features, beside = torch.randn(T, B, F, requires_grad=True), None
    found = []
    for settings in (gtm.Unrolling(), gtm.Unrolling(checkpoint_every=checkpoint_every)):
        process = LatentProcess(
            standard, batch_shape=torch.Size([T, B]), latent_dim=Z, beside=beside
        )
        posterior = process.stand_in(shifted, features, corrects)
        with gtm.use_memory(memory, unrolling=settings), pyro.plate("sequences", B):
            pyro.set_rng_seed(1)
            latents = posterior.rsample()
        parts = latents, posterior.log_prob(latents), process.log_prob(latents)
        wanted = [features, *memory.parameters()]
        gradients = torch.autograd.grad(sum(part.sin().sum() for part in parts), wanted)
        found.append([*parts, *gradients])
    for one, other in zip(*found, strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("unrolling", [gtm.Unrolling(), gtm.Unrolling(checkpoint_every=3)], ids=str)
@pytest.mark.parametrize("particles", [False, True])
def test_following_what_was_drawn_gives_its_density(
    memory_name, unrolling, particles, build_memory
):
    """As an ordinary guide's draw is followed by the model: one recurrence along the other's."""
    memory = build_memory(memory_name)
    shape = torch.Size([2, T, B] if particles else [T, B])
    drawn, followed = (LatentProcess(standard, batch_shape=shape, latent_dim=Z) for _ in range(2))
    with gtm.use_memory(memory, unrolling=unrolling):
        latents = drawn.rsample()
    with gtm.use_memory(memory, unrolling=unrolling):
        log_prob = followed.log_prob(latents)
    assert latents.shape == (*shape, Z) and log_prob.shape == shape
    torch.testing.assert_close(log_prob, drawn.log_prob(latents))
    torch.testing.assert_close(followed.contexts(latents), drawn.contexts(latents))


def test_what_is_beside_a_latent_is_written_with_it(build_memory):
    """And has no part in what is drawn: ``beside`` shows one step later."""
    memory, beside = build_memory("vrnn", latent_dim=Z + 2), torch.randn(T, B, 2)
    process = LatentProcess(standard, batch_shape=torch.Size([T, B]), latent_dim=Z, beside=beside)
    with in_use(memory):
        latents = process.rsample()
    state, written = memory.initial_state((B,)), torch.zeros(B, Z + 2)
    for t in range(T):
        state, context, _ = memory.step(state, written)
        torch.testing.assert_close(process.contexts(latents)[t], context)
        written = torch.cat([latents[t], beside[t]], dim=-1)
