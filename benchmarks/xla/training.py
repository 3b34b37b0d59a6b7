"""A gradient step, its clip and Adam included, as one program of XLA."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from xla.layers import Parameters
from xla.model import negative_elbo

DECAYS = 0.9, 0.999  # of the moments; these and EPSILON are the defaults of torch.optim.Adam
EPSILON = 1e-8


class Training(NamedTuple):
    """The state that a step takes and gives."""

    parameters: Parameters
    first: Parameters
    """Running mean of the gradients."""
    second: Parameters
    """Running mean of their squares."""
    steps: Array
    """Done so far: ``()``."""
    key: Array
    """Of the noise."""


def begin(parameters: Parameters, seed: int = 0) -> Training:
    """Before the first step."""

    def zeros() -> Parameters:
        return jax.tree.map(jnp.zeros_like, parameters)

    return Training(parameters, zeros(), zeros(), jnp.zeros((), int), jax.random.key(seed))


def clip(gradients: Parameters, largest: float) -> Parameters:
    """Scaled to have a global norm of ``largest``, if it is larger."""
    squares = sum(jnp.square(gradient).sum() for gradient in jax.tree.leaves(gradients))
    scale = jnp.minimum(1.0, largest / (jnp.sqrt(squares) + 1e-6))
    return jax.tree.map(lambda gradient: scale * gradient, gradients)


def adam(training: Training, gradients: Parameters, rate: float) -> Training:
    """One update; the key stays as it is."""
    steps = training.steps + 1
    unbias_first, unbias_second = (1 - decay**steps for decay in DECAYS)

    def running(decay: float, mean: Array, new: Array) -> Array:
        return decay * mean + (1 - decay) * new

    def move(parameter: Array, mean: Array, square: Array) -> Array:
        spread = jnp.sqrt(square / unbias_second) + EPSILON
        return parameter - rate / unbias_first * mean / spread

    first = jax.tree.map(partial(running, DECAYS[0]), training.first, gradients)
    squares = jax.tree.map(jnp.square, gradients)
    second = jax.tree.map(partial(running, DECAYS[1]), training.second, squares)
    parameters = jax.tree.map(move, training.parameters, first, second)
    return Training(parameters, first, second, steps, training.key)


def make_step(
    memory: Any, *, rate: float = 1e-3, clip_norm: float = 10.0, precision: str = "float32"
) -> jax.stages.Wrapped:
    """A compiled function of a :class:`Training`, which it consumes, and frames ``(T, B, pixels)``.

    It returns the training after the step and the loss in nats; neither has been waited for.

    Args:
        memory: one of ``MEMORIES``, built.
        rate: Adam's.
        clip_norm: largest global norm of a gradient.
        precision: of matrix products, as ``jax.default_matmul_precision`` names it.  JAX's own
            default would be TensorFloat32 on recent NVIDIA devices, hence this one.  On CPUs all
            are float32: XLA takes ``"bfloat16"`` there and changes nothing.
    """

    @partial(jax.jit, donate_argnums=0)
    def step(training: Training, frames: Array) -> tuple[Training, Array]:
        with jax.default_matmul_precision(precision):
            key, own = jax.random.split(training.key)
            shape = (*frames.shape[:2], memory.sizes.latent_dim)
            noise = jax.random.normal(own, shape, frames.dtype)
            loss, gradients = jax.value_and_grad(negative_elbo, argnums=1)(
                memory, training.parameters, frames, noise
            )
        training = adam(training._replace(key=key), clip(gradients, clip_norm), rate)
        return training, loss

    return step
