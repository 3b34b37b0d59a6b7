"""Linear maps and the LSTM's cell, as functions of their parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Parameters = dict[str, Any]
"""A tree of arrays; a linear map is ``{"kernel": (in, out), "bias": (out,)}``."""


def linear(parameters: Parameters, x: Array) -> Array:
    """``(..., in)`` to ``(..., out)``."""
    return x @ parameters["kernel"] + parameters["bias"]


def perceptron(layers: list[Parameters], x: Array) -> Array:
    """Linear maps with ReLU between them."""
    *hidden, last = layers
    for layer in hidden:
        x = jax.nn.relu(linear(layer, x))
    return linear(last, x)


def lstm(parameters: Parameters, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """One step: x ``(B, in)``, h and c ``(B, H)``; all four gates are one product."""
    gates = linear(parameters, jnp.concatenate([x, h], -1))  # (B, 4 * H)
    enter, forget, new, leave = jnp.split(gates, 4, -1)
    c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(enter) * jnp.tanh(new)
    return jax.nn.sigmoid(leave) * jnp.tanh(c), c
