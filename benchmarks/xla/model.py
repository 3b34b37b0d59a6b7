"""The networks around a memory, and the negative ELBO of a batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xla.layers import Parameters, linear, perceptron

Pair = tuple[Array, Array]  # location and scale


def pair(parameters: Parameters, hidden: Array) -> Pair:
    loc, raw = jnp.split(linear(parameters, hidden), 2, -1)
    return loc, jax.nn.softplus(raw) + 1e-4


def infer(heads: Parameters, feature: Array, context: Array) -> tuple[Pair, Pair]:
    """Posterior and prior, the first layers of both networks in one product."""
    of_prior, of_posterior = jnp.split(linear(heads["both_in"], context), 2, -1)
    prior = pair(heads["prior_out"], jax.nn.relu(of_prior))
    residual = pair(heads["posterior_out"], jax.nn.relu(feature + of_posterior))
    posterior = prior[0] + residual[0], jnp.maximum(prior[1] * residual[1], 1e-4)
    return posterior, prior


def divergence(q: Pair, p: Pair) -> Array:
    """KL of normal distributions, in nats, summed."""
    ratio = jnp.square(q[1] / p[1])
    distance = jnp.square((q[0] - p[0]) / p[1])
    return 0.5 * (ratio + distance - 1 - jnp.log(ratio)).sum()


def negative_log_likelihood(logits: Array, frames: Array) -> Array:
    """Of Bernoulli pixels, in nats, summed."""
    softplus = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return (softplus - frames * logits).sum()


def negative_elbo(memory: Any, parameters: Parameters, frames: Array, noise: Array) -> Array:
    """In nats, summed over sequences and frames, the KL in closed form.

    The encoder and the noise come before the scan, the decoder after it.

    Args:
        memory: one of ``MEMORIES``, built.
        parameters: as :func:`xla.as_parameters` lays them out.
        frames: ``(T, B, pixels)``.
        noise: standard normal, ``(T, B, Z)``.
    """

    def advance(carried: tuple[Any, Array], inputs: Pair) -> tuple[tuple[Any, Array], Any]:
        (state, z), (feature, epsilon) = carried, inputs
        context, state = memory.advance(parameters["memory"], state, z)
        posterior, prior = infer(parameters["heads"], feature, context)
        z = posterior[0] + posterior[1] * epsilon
        return (state, z), (context, z, posterior, prior)

    features = perceptron(parameters["encoder"], frames)  # (T, B, width)
    state = memory.start(parameters["memory"], frames.shape[1], frames.dtype)
    _, (contexts, latents, posterior, prior) = jax.lax.scan(
        advance, (state, jnp.zeros_like(noise[0])), (features, noise)
    )
    logits = perceptron(parameters["decoder"], jnp.concatenate([latents, contexts], -1))
    return negative_log_likelihood(logits, frames) + divergence(posterior, prior)
