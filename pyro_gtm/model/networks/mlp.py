"""Multilayer perceptrons between frames and vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from pyro_gtm.internals.products import Linear

__all__ = ["MLPDecoder", "MLPEncoder"]


class MLPEncoder(nn.Module):
    """Frame to features: flatten, one hidden layer of rectified units, linear.

    Args:
        event_shape: shape of a frame.
        hidden_dim: width of the hidden layer.
        feature_dim: size of the features.
    """

    def __init__(self, event_shape: Sequence[int], hidden_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.feature_dim = feature_dim
        self.layers = nn.Sequential(
            Linear(math.prod(self.event_shape), hidden_dim),
            nn.ReLU(),
            Linear(hidden_dim, feature_dim),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """``(*batch, *event_shape) -> (*batch, feature_dim)``."""
        return self.layers(frames.flatten(-len(self.event_shape)))


class MLPDecoder(nn.Module):
    """Vector to likelihood parameters: two hidden layers of rectified units, linear, unflatten.

    Args:
        input_dim: size of the vector, [z, Ψ] or z.
        hidden_dim: width of the hidden layers.
        parameter_shape: shape of the output for one frame.
    """

    def __init__(self, input_dim: int, hidden_dim: int, parameter_shape: Sequence[int]) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.parameter_shape = tuple(parameter_shape)
        self.layers = nn.Sequential(
            Linear(input_dim, hidden_dim),
            nn.ReLU(),
            Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            Linear(hidden_dim, math.prod(self.parameter_shape)),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """``(*batch, input_dim) -> (*batch, *parameter_shape)``."""
        return self.layers(inputs).unflatten(-1, self.parameter_shape)
