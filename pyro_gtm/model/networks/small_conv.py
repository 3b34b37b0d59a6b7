"""A small strided convolution network, which takes a CPU no longer than the perceptrons.

A frame is cut into patches of 4x4 pixels.  One convolution, whose kernel has the size of a patch
and whose stride is its side, turns each into a few rectified channels, and a linear layer sees the
channels of all.  The decoder is the mirror image.  So a room of 32x32x3 pixels is 8x8 patches of 24
channels, half as many numbers, to the layers that are fully connected.

As patches do not overlap, the convolution is one product of matrices, and is computed as such: with
so few channels nothing else is as fast on a CPU.

There is no normalisation: what comes out for a frame does not depend on the frames beside it, so
that the two site layouts agree in training too.

Source: the encoder's convolution is the patch embedding of Dosovitskiy et al. 2021 (arXiv
2010.11929), section 3.1; the decoder's the sub-pixel convolution of Shi et al. 2016 (arXiv
1609.05158).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.internals.products import Linear
from pyro_gtm.model.networks.padding import image_shape, margins, padded

__all__ = ["PATCH", "SmallConvDecoder", "SmallConvEncoder"]

PATCH = 4
"""Side of a patch in pixels; frames are padded to a multiple of it."""

CHANNELS_PER_COLOUR = 8
"""Of a patch, by default: half as many numbers as it has pixels."""

BLOCK = 128
"""Frames whose patches are put in their place at once."""


class SmallConvEncoder(nn.Module):
    """Frame to features: a strided convolution, rectified, then linear.

    Args:
        event_shape: ``(colours, height, width)`` of a frame.
        feature_dim: size of the features.
        channels: of a patch; by default 8 for each colour.

    Raises:
        ValueError: the frame is no image, or ``channels`` is not positive.
    """

    def __init__(
        self, event_shape: Sequence[int], feature_dim: int, channels: int | None = None
    ) -> None:
        super().__init__()
        self.event_shape = image_shape("SmallConvEncoder", event_shape)
        self.feature_dim = feature_dim
        colours, height, width = self.event_shape
        self.channels = CHANNELS_PER_COLOUR * colours if channels is None else channels
        check_positive("SmallConvEncoder", channels=self.channels)
        self.margins = margins(width, PATCH) + margins(height, PATCH)
        self.patches = Linear(colours * PATCH**2, self.channels)
        self.features = Linear(
            _patches_of(height) * _patches_of(width) * self.channels, feature_dim
        )

    def forward(self, frames: Tensor) -> Tensor:
        """``(*batch, colours, height, width) -> (*batch, feature_dim)``."""
        batch_shape = frames.shape[:-3]
        frames = F.pad(frames.reshape(-1, *self.event_shape), self.margins)
        patches = frames.unflatten(-1, (-1, PATCH)).unflatten(-3, (-1, PATCH))
        patches = patches.permute(0, 2, 4, 1, 3, 5)  # (N, rows, columns, colours, 4, 4)
        maps = self.patches(patches.flatten(3)).relu()  # (N, rows, columns, channels)
        return self.features(maps.flatten(1)).reshape(*batch_shape, self.feature_dim)


class SmallConvDecoder(nn.Module):
    """Vector to likelihood parameters: two rectified linear layers, a strided deconvolution.

    Args:
        input_dim: size of the vector, [z, Ψ] or z.
        hidden_dim: width of the first hidden layer.
        parameter_shape: ``(parameters, height, width)`` of the output for one frame, ``parameters``
            being the likelihood's of a pixel, such as a mean and a scale for each colour.
        channels: of a patch.

    Raises:
        ValueError: the output is no image, or ``channels`` is not positive.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        parameter_shape: Sequence[int],
        channels: int,
    ) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.parameter_shape = image_shape("SmallConvDecoder", parameter_shape)
        check_positive("SmallConvDecoder", channels=channels)
        parameters, height, width = self.parameter_shape
        self.maps_shape = (_patches_of(height), _patches_of(width), channels)
        self.maps = nn.Sequential(
            Linear(input_dim, hidden_dim),
            nn.ReLU(),
            Linear(hidden_dim, math.prod(self.maps_shape)),
            nn.ReLU(),
        )
        self.patches = Linear(channels, parameters * PATCH**2)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(*batch, input_dim) -> (*batch, *parameter_shape)``."""
        maps = self.maps(inputs.reshape(-1, self.input_dim)).unflatten(-1, self.maps_shape)
        # Block by block, so that patches are still in the processor's cache when put in place.
        frames = torch.cat([self._frames(block) for block in maps.split(BLOCK)])
        return frames.reshape(*inputs.shape[:-1], *self.parameter_shape)

    def _frames(self, maps: Tensor) -> Tensor:
        """``(N, rows, columns, channels) -> (N, *parameter_shape)``."""
        parameters, height, width = self.parameter_shape
        patches = self.patches(maps).unflatten(-1, (parameters, PATCH, PATCH))
        rows = patches.permute(0, 3, 1, 4, 2, 5)  # (N, parameters, rows, 4, columns, 4)
        whole = rows.flatten(-2).flatten(-3, -2)  # (N, parameters, padded height, padded width)
        top, left = margins(height, PATCH)[0], margins(width, PATCH)[0]
        return whole[..., top : top + height, left : left + width]


def _patches_of(size: int) -> int:
    return padded(size, PATCH) // PATCH
