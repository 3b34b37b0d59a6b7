"""A sequence of latents as one random variable, against plain loops."""

from __future__ import annotations

import pyro
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import pyro_gtm as gtm
from pyro_gtm.model.latent_process import Dynamics, LatentProcess, PosteriorTerms, kl_per_step
from pyro_gtm.ops import NoMemoryError, recurrence

T, B, Z, F = 4, 3, 3, 5


def standard(context):
    return context[..., :Z], 0.5 + context[..., :Z].sigmoid()


def shifted(context, features):
    return context[..., :Z] + features[..., :Z], 0.7 + torch.zeros_like(context[..., :Z])


@pytest.fixture
def memory(build_memory):
    return build_memory("vrnn")


def process_of(memory, *, unrolling=None, batch_shape=(B,), controls=None, extra=None):
    """The process of a memory, whose handler is gone when it is given."""
    settings = gtm.Unrolling() if unrolling is None else unrolling
    with gtm.use_memory(memory, unrolling=settings):
        return LatentProcess(
            Dynamics(recurrence(), controls, extra),
            standard,
            batch_shape=torch.Size(batch_shape),
            num_steps=T,
            latent_dim=Z,
            like=torch.empty(0),
        )


@pytest.fixture
def process(memory):
    return process_of(memory)


def factors_by_hand(memory, latents, features=None, *, residual=False):
    """The Gaussian of each step along given latents, ``(*batch, B, T, Z)``: ``(T, *batch, B, Z)``.

    With features those of the posterior.
    """
    batch_shape = latents.shape[:-2]
    state, written = memory.initial_state(batch_shape), torch.zeros(*batch_shape, Z)
    steps = []
    for t in range(T):
        state, context, _ = memory.step(state, written)
        location, scale = standard(context)
        if features is not None:
            shift, factor = shifted(context, features[t])
            residuals = location + shift, scale * factor
            location, scale = residuals if residual else (shift, factor)
        steps.append((location, scale))
        written = latents[..., t, :]
    return Normal(*(torch.stack(parts) for parts in zip(*steps, strict=True)))


def per_step(factors, latents):
    """log N(z_t | z_{<t}): ``(T, *batch, B)``."""
    return factors.log_prob(latents.movedim(-2, 0)).sum(-1)


def noise_of_seed(seed, *shape):
    """As a loop draws it: ``(*shape, T, Z)``."""
    pyro.set_rng_seed(seed)
    return torch.stack([torch.randn(*shape, Z) for _ in range(T)], dim=-2)


def test_log_prob_of_given_latents(memory, process):
    latents = torch.randn(B, T, Z)
    expected = per_step(factors_by_hand(memory, latents), latents)
    torch.testing.assert_close(process.log_prob_per_step(latents), expected)
    assert process.log_prob(latents).shape == (B,)
    torch.testing.assert_close(process.log_prob(latents), expected.sum(0))


@pytest.mark.parametrize("sample_shape", [(), (5,), (2, 5)], ids=str)
def test_draw(memory, process, sample_shape):
    """z_t is location + scale * standard normal noise, step by step."""
    noise = noise_of_seed(1, *sample_shape, B)
    pyro.set_rng_seed(1)
    latents = process.rsample(torch.Size(sample_shape))
    expected = factors_by_hand(memory, latents)
    assert latents.shape == (*sample_shape, B, T, Z)
    torch.testing.assert_close(process.log_prob(latents), per_step(expected, latents).sum(0))
    location, scale = (t.movedim(0, -2) for t in (expected.loc, expected.scale))
    torch.testing.assert_close(latents, location + scale * noise)


def test_samples_have_no_gradient(process):
    assert process.rsample().requires_grad
    assert not process.sample().requires_grad


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("observed", [None, "some"])
def test_kl_of_a_posterior_and_its_prior(memory, process, residual, observed):
    """Along the posterior's draw; where there is no frame, the posterior is the prior."""
    features = torch.randn(T, B, F)
    there = None if observed is None else torch.rand(T, B, 1) < 0.5
    posterior = process.posterior(PosteriorTerms(shifted, features, residual, there))
    latents = posterior.rsample()
    p = factors_by_hand(memory, latents)
    q = factors_by_hand(memory, latents, features, residual=residual)
    if there is not None:
        assert there.any() and not there.all()
        q = Normal(torch.where(there, q.loc, p.loc), torch.where(there, q.scale, p.scale))
    kl = kl_per_step(posterior, process, latents)
    assert kl.shape == (T, B)
    torch.testing.assert_close(kl, kl_divergence(q, p).sum(-1))
    torch.testing.assert_close(kl_divergence(posterior, process), kl.sum(0))
    torch.testing.assert_close(posterior.log_prob_per_step(latents), per_step(q, latents))
    torch.testing.assert_close(process.log_prob_per_step(latents), per_step(p, latents))


def test_gradients_reach_the_first_step(process):
    latents = torch.randn(B, T, Z, requires_grad=True)
    (gradient,) = torch.autograd.grad(process.log_prob_per_step(latents)[-1].sum(), latents)
    assert all(step.any() for step in gradient.unbind(1))


@pytest.mark.parametrize("kind", ["prior", "posterior"])
def test_expanded_it_draws_and_judges_more_sequences(memory, process, kind):
    """As a plate of particles asks: each is what it would be alone."""
    features = torch.randn(T, B, F)
    if kind == "posterior":
        process = process.posterior(PosteriorTerms(shifted, features, True, None))
    wide = process.expand(torch.Size([2, B]))
    assert (wide.batch_shape, wide.event_shape) == ((2, B), (T, Z))
    noise = noise_of_seed(1, 2, B)
    pyro.set_rng_seed(1)
    latents = wide.rsample()
    assert latents.shape == (2, B, T, Z)
    seen = features if kind == "posterior" else None
    expected = factors_by_hand(memory, latents, seen, residual=True)
    location, scale = (t.movedim(0, -2) for t in (expected.loc, expected.scale))
    torch.testing.assert_close(latents, location + scale * noise)
    torch.testing.assert_close(wide.log_prob_per_step(latents), per_step(expected, latents))
    assert process.batch_shape == (B,)


@pytest.mark.parametrize("kind", ["prior", "posterior"])
def test_any_value_has_a_density(memory, process, kind):
    """Also one that was not drawn, after a draw, and the drawn one again after that."""
    features = torch.randn(T, B, F) if kind == "posterior" else None
    if features is not None:
        process = process.posterior(PosteriorTerms(shifted, features, True, None))
    drawn, other = process.rsample(), torch.randn(2, B, T, Z)
    for latents in (drawn, other, drawn.clone(), drawn, other[0]):
        expected = factors_by_hand(memory, latents, features, residual=True)
        found = process.log_prob_per_step(latents)
        torch.testing.assert_close(found, per_step(expected, latents))


def test_a_value_changed_in_place_has_another_density(memory, process):
    with torch.no_grad():
        latents = process.sample()
        before = process.log_prob(latents)
        latents[:, 0] += 1
        expected = per_step(factors_by_hand(memory, latents), latents).sum(0)
        torch.testing.assert_close(process.log_prob(latents), expected)
        assert not torch.isclose(before, expected).any()


def test_a_density_asked_without_gradients_has_them_when_they_are_wanted(memory, process):
    latents = torch.randn(B, T, Z)
    with torch.no_grad():
        expected = process.log_prob(latents)
    density = process.log_prob(latents)
    torch.testing.assert_close(density, expected)
    gradients = torch.autograd.grad(density.sum(), list(memory.parameters()))
    assert all(gradient.norm() > 0 for gradient in gradients)


def test_a_value_that_wants_gradients_now_gets_them(process):
    latents = torch.randn(B, T, Z)
    process.contexts(latents)
    latents.requires_grad_()
    (gradient,) = torch.autograd.grad(process.log_prob(latents).sum(), latents)
    other = latents.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(process.log_prob(other).sum(), other)
    torch.testing.assert_close(gradient, expected)


def test_a_density_may_be_differentiated_twice_over(memory, process):
    latents = torch.randn(B, T, Z)
    weights = list(memory.parameters())
    one, other = (torch.autograd.grad(process.log_prob(latents).sum(), weights) for _ in "ab")
    assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("length", [1, T - 1, T + 1])
def test_latents_of_another_length_are_refused(process, length):
    for use in (process.log_prob, process.contexts):
        with pytest.raises(ValueError, match=r"latents of event shape .* = \(4, 3\) needed"):
            use(torch.randn(B, length, Z))


def test_in_inference_mode(process):
    with torch.inference_mode():
        assert process.log_prob(process.rsample()).shape == (B,)


def test_draws_differ(process):
    one, other = process.rsample(), process.rsample()
    assert not one.equal(other)


def test_kl_before_a_draw_draws(memory, process):
    """Along the draw that the seed makes."""
    features = torch.randn(T, B, F)
    posterior = process.posterior(PosteriorTerms(shifted, features, False, None))
    pyro.set_rng_seed(1)
    kl = kl_divergence(posterior, process)
    pyro.set_rng_seed(1)
    latents = posterior.rsample()
    p, q = factors_by_hand(memory, latents), factors_by_hand(memory, latents, features)
    torch.testing.assert_close(kl, kl_divergence(q, p).sum(-1).sum(0))


def test_needs_a_memory():
    with pytest.raises(NoMemoryError, match="no memory handler is active"):
        recurrence()


@pytest.mark.parametrize("name", ["loc", "scale"])
def test_has_no_location_of_its_own(process, name):
    with pytest.raises(AttributeError, match=r"no loc and no scale.*with_layout\('per_step'\)"):
        getattr(process, name)


@pytest.mark.parametrize("checkpoint_every", [1, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_in_blocks_it_is_the_same_process(memory, checkpoint_every, residual, float64):
    """Draws, both densities and the gradients of a posterior, along its own draw."""
    memory = memory.double()
    features = torch.randn(T, B, F, requires_grad=True)
    found: list[list[Tensor]] = []
    for settings in (gtm.Unrolling(), gtm.Unrolling(checkpoint_every=checkpoint_every)):
        process = process_of(memory, unrolling=settings)
        posterior = process.posterior(PosteriorTerms(shifted, features, residual, None))
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
    shape = (2, B) if particles else (B,)
    drawn, followed = (process_of(memory, unrolling=unrolling, batch_shape=shape) for _ in range(2))
    latents = drawn.rsample()
    log_prob = followed.log_prob(latents)
    assert latents.shape == (*shape, T, Z) and log_prob.shape == shape
    torch.testing.assert_close(log_prob, drawn.log_prob(latents))
    torch.testing.assert_close(followed.contexts(latents), drawn.contexts(latents))


def test_extra_inputs_are_written_with_a_latent(build_memory):
    """And have no part in what is drawn: ``extra`` shows one step later."""
    memory, extra = build_memory("vrnn", latent_dim=Z + 2), torch.randn(T, B, 2)
    process = process_of(memory, extra=extra)
    latents = process.rsample()
    state, written = memory.initial_state((B,)), torch.zeros(B, Z + 2)
    for t in range(T):
        state, context, _ = memory.step(state, written)
        torch.testing.assert_close(process.contexts(latents)[:, t], context)
        written = torch.cat([latents[:, t], extra[t]], dim=-1)


def test_controls_reach_their_steps(build_memory):
    memory, controls = build_memory("vrnn", control_dim=2), torch.randn(T, B, 2)
    process = process_of(memory, controls=controls)
    for latents in (process.rsample(torch.Size([2])), torch.randn(B, T, Z)):
        batch_shape = latents.shape[:-2]
        state, written = memory.initial_state(batch_shape), torch.zeros(*batch_shape, Z)
        for t in range(T):
            control = controls[t].expand(*batch_shape, -1)
            state, context, _ = memory.step(state, written, control)
            torch.testing.assert_close(process.contexts(latents)[..., t, :], context)
            written = latents[..., t, :]
