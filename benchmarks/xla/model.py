"""The networks around a memory, and the negative bound of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from xla.layers import Parameters, linear, perceptron

Pair = tuple[Array, Array]  # location and scale


@dataclass(frozen=True)
class Networks:
    """What of the model is not a parameter.

    Args:
        memory: one of ``MEMORIES``, built.
        corrects: the posterior's network gives a correction of the prior.
        unroll: steps of the scan that XLA sees as one.  On a CPU 1 was the fastest.
    """

    memory: Any
    corrects: bool
    unroll: int = 1


def pair(parameters: Parameters, hidden: Array) -> Pair:
    loc, raw = jnp.split(linear(parameters, hidden), 2, -1)
    return loc, jax.nn.softplus(raw) + 1e-4


def direct(heads: Parameters, feature: Array, context: Array) -> Pair:
    hidden = feature + context @ heads["posterior_in"]["kernel"]
    return pair(heads["posterior_out"], jax.nn.relu(hidden))


def corrected(heads: Parameters, feature: Array, context: Array) -> tuple[Pair, Pair]:
    """Posterior and prior, the first layers of both networks in one product."""
    of_prior, of_posterior = jnp.split(linear(heads["both_in"], context), 2, -1)
    prior = pair(heads["prior_out"], jax.nn.relu(of_prior))
    correction = pair(heads["posterior_out"], jax.nn.relu(feature + of_posterior))
    posterior = prior[0] + correction[0], jnp.maximum(prior[1] * correction[1], 1e-4)
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


def negative_bound(
    networks: Networks, parameters: Parameters, frames: Array, noise: Array
) -> Array:
    """In nats, summed over sequences and frames, the KL in closed form.

    The encoder and the noise come before the scan, the decoder after it; so does the prior, unless
    the posterior corrects it.

    Args:
        networks: the memory and how the posterior is made.
        parameters: as :func:`xla.as_parameters` lays them out.
        frames: ``(T, B, pixels)``.
        noise: standard normal, ``(T, B, Z)``.
    """
    heads = parameters["heads"]
    features = perceptron(parameters["encoder"], frames)  # (T, B, width)
    if not networks.corrects:
        features = features + heads["posterior_in"]["bias"]

    def advance(carried: tuple[Any, Array], inputs: Pair) -> tuple[tuple[Any, Array], Any]:
        (state, z), (feature, epsilon) = carried, inputs
        context, state = networks.memory.advance(parameters["memory"], state, z)
        if networks.corrects:
            posterior, prior = corrected(heads, feature, context)
        else:
            posterior, prior = direct(heads, feature, context), None
        z = posterior[0] + posterior[1] * epsilon
        return (state, z), (context, z, posterior, prior)

    state = networks.memory.start(parameters["memory"], frames.shape[1], frames.dtype)
    _, (contexts, latents, posterior, prior) = jax.lax.scan(
        advance, (state, jnp.zeros_like(noise[0])), (features, noise), unroll=networks.unroll
    )
    if prior is None:
        prior = pair(heads["prior_out"], jax.nn.relu(linear(heads["prior_in"], contexts)))
    logits = perceptron(parameters["decoder"], jnp.concatenate([latents, contexts], -1))
    return negative_log_likelihood(logits, frames) + divergence(posterior, prior)
