"""The whole model against the same mathematics as a plain PyTorch loop: no Pyro, no handler."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch.nn import functional as F

from pyro_gtm.model.networks.gaussian import MIN_SCALE

pytestmark = pytest.mark.usefixtures("float64")


def gaussian_head(head, context, features=0.0):
    """Equations 7 and 8, from the weights."""
    hidden = F.relu(F.linear(context, head.hidden.weight, head.hidden.bias) + features)
    output = F.linear(hidden, head.parameters_of.weight, head.parameters_of.bias)
    half = output.shape[-1] // 2
    return output[..., :half], torch.log1p(output[..., half:].exp()) + MIN_SCALE


def kl_of_gaussians(mu_q, sigma_q, mu_p, sigma_p):
    ratio = (sigma_q / sigma_p) ** 2
    return 0.5 * (ratio + ((mu_q - mu_p) / sigma_p) ** 2 - 1 - ratio.log()).sum(-1)


def log_likelihood(likelihood, output, frame):
    if type(likelihood).__name__ == "BernoulliLikelihood":
        p = torch.sigmoid(output)
        return (frame * p.log() + (1 - frame) * (1 - p).log()).flatten(1).sum(-1)
    mean, raw = output[:, :1], output[:, 1:]
    low, high = math.log(likelihood.min_scale), math.log(likelihood.max_scale)
    log_scale = low + (high - low) * torch.sigmoid(raw)
    standard = (frame - mean) / log_scale.exp()
    return -(0.5 * standard**2 + log_scale + 0.5 * math.log(2 * math.pi)).flatten(1).sum(-1)


def negative_bound(program, memory, frames, noise, controls):
    """Equation 6 with the analytic KL, in nats, summed over sequences."""
    state = memory.initial_state((frames.shape[1],))
    written = torch.zeros(frames.shape[1], memory.latent_dim)
    total = torch.zeros(())
    for t, frame in enumerate(frames):
        control = None if controls is None else controls[t]
        state, context, _ = memory.step(state, written, control)
        features = program.encoder(frame)
        mu_p, sigma_p = gaussian_head(program.prior_head, context)
        mu_q, sigma_q = gaussian_head(program.posterior_head, context, features)
        if program.residual:
            mu_q, sigma_q = mu_p + mu_q, sigma_p * sigma_q
        z = mu_q + sigma_q * noise[t]
        seen = torch.cat([z, context], -1) if program.decoder_input == "latent+context" else z
        log_p = log_likelihood(program.likelihood, program.decoder(seen), frame)
        total = total + (kl_of_gaussians(mu_q, sigma_q, mu_p, sigma_p) - log_p).sum()
        written = z if program.writes == "latent" else torch.cat([z, F.relu(features)], -1)
    return total


@pytest.mark.parametrize(
    "likelihood, options",
    [
        ("bernoulli", {}),
        ("gaussian", {}),
        ("bernoulli", {"decoder_input": "latent"}),
        ("bernoulli", {"control_dim": 2}),
        ("bernoulli", {"posterior": "direct"}),
        ("gaussian", {"writes": "latent+frame"}),
    ],
    ids=str,
)
def test_equals_a_plain_loop(
    memory_name, layout, likelihood, options, make_model, make_frames, assert_same_gradients
):
    pair = make_model(memory_name, likelihood, layout=layout, **options)
    frames = make_frames(likelihood=likelihood)
    controls = torch.randn(5, 3, 2) if "control_dim" in options else None

    pyro.set_rng_seed(3)
    noise = torch.stack([torch.randn(3, pair.program.latent_dim) for _ in frames])
    expected = negative_bound(pair.program, pair.memory, frames, noise, controls)

    pyro.set_rng_seed(3)
    bound = TraceMeanField_ELBO()
    loss = bound.differentiable_loss(pair.model(), pair.filtering_guide(), frames, controls)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=0)
    assert_same_gradients(pair.gradients(loss), pair.gradients(expected))
