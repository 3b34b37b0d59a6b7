"""From the hand-written networks' tensors to the arrays of a JAX program."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import torch
from jax import Array
from torch import Tensor

from xla.layers import Parameters


def as_array(tensor: Tensor) -> Array:
    """A copy, on JAX's default device."""
    return jnp.array(tensor.detach().cpu().numpy())


def as_linear(weight: Tensor, bias: Tensor) -> Parameters:
    return {"kernel": as_array(weight.T), "bias": as_array(bias)}


def as_parameters(weights: Mapping[str, Tensor]) -> Parameters:
    """Parameters of ``xla.negative_elbo``, or their gradients.

    The first layers of prior and posterior become one.

    Args:
        weights: by the names of the state dict of ``handwritten.Networks``.
    """

    def layer(name: str) -> Parameters:
        return as_linear(weights[f"{name}.weight"], weights[f"{name}.bias"])

    def layers(name: str) -> list[Parameters]:
        own = [key.removeprefix(f"{name}.") for key in weights if key.startswith(f"{name}.")]
        numbers = sorted({int(key.split(".")[0]) for key in own})
        return [layer(f"{name}.{number}") for number in numbers]

    heads = {
        "prior_out": layer("prior.2"),
        "posterior_out": layer("posterior_out"),
        "both_in": as_linear(
            torch.cat([weights["prior.0.weight"], weights["posterior_in.weight"]]),
            torch.cat([weights["prior.0.bias"], weights["posterior_in.bias"]]),
        ),
    }
    memory: Parameters = {
        # One bias where nn.LSTMCell has two.
        "cell": as_linear(
            torch.cat([weights["memory.cell.weight_ih"], weights["memory.cell.weight_hh"]], 1),
            weights["memory.cell.bias_ih"] + weights["memory.cell.bias_hh"],
        )
    }
    if "memory.interface.weight" in weights:
        memory["interface"] = layer("memory.interface")
    if "memory.starts" in weights:
        memory["starts"] = as_array(weights["memory.starts"])
    if "memory.sharpness" in weights:  # the associative memory
        memory["sharpness"] = as_array(weights["memory.sharpness"])
        memory["code"] = as_array(weights["memory.code.weight"].T)
        memory["key"] = layer("memory.key")
        memory["query"] = layers("memory.query")
    return {
        "encoder": layers("encoder"),
        "decoder": layers("decoder"),
        "heads": heads,
        "memory": memory,
    }
