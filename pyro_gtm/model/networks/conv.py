"""The paper's visual block, and the convolutional encoder and decoder built from it.

Source: Gemici et al. 2017, Figure 18 ("the first visual block"): batch-norm, rectifier, four
parallel convolutions (7x7, 5x5, 3x3, 1x1) whose outputs are concatenated and added to the block's
input, batch-norm, rectifier, and a convolution (in the decoder a deconvolution) to another
resolution.

The figure gives no sizes; those here follow the one public reading of the paper's appendix: frames
padded to a multiple of 8, 8 channels for each kernel size (32 in all), two blocks that halve the
resolution, 32 then 64 channels.

In training, batch normalisation uses the statistics of all frames it is given at once, so the two
site layouts differ by that much there, and agree in evaluation.  ``norm="group"`` normalises
each frame by itself: the layouts then agree in training too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_gtm.internals.products import Linear
from pyro_gtm.model.networks.padding import image_shape, margins, padded

__all__ = ["ConvDecoder", "ConvEncoder", "VisualBlock"]

Norm = Literal["batch", "group"]
KERNELS = (7, 5, 3, 1)
MULTIPLE = 8
"""Frames are padded to a multiple of it, of which two blocks leave a whole half and quarter."""


class VisualBlock(nn.Module):
    """One block of Figure 18.

    Args:
        in_channels: a multiple of four: a quarter for each kernel size.
        out_channels: after the change of resolution.
        direction: ``"down"`` halves the resolution, ``"up"`` doubles it.
        norm: ``"batch"`` as in the paper, or ``"group"``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        direction: Literal["down", "up"],
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if in_channels % len(KERNELS):
            raise ValueError(
                f"VisualBlock: in_channels must be a multiple of {len(KERNELS)}, got {in_channels}"
            )
        self.norm_in = _norm(norm, in_channels)
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, in_channels // len(KERNELS), kernel, padding=kernel // 2)
            for kernel in KERNELS
        )
        self.norm_out = _norm(norm, in_channels)
        self.resample: nn.Module = (
            nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
            if direction == "down"
            else nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, in_channels, H, W) -> (N, out_channels, H', W')``, H' = H/2 or 2H."""
        active = self.norm_in(maps).relu()
        maps = maps + torch.cat([branch(active) for branch in self.branches], dim=1)
        return self.resample(self.norm_out(maps).relu())


class ConvEncoder(nn.Module):
    """Frame to features: two visual blocks, then linear.

    Args:
        event_shape: ``(channels, height, width)`` of a frame.
        feature_dim: size of the features.
        channels: of the first block; twice as many leave it.
        norm: see :class:`VisualBlock`.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        feature_dim: int,
        channels: int = 32,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.event_shape = image_shape("ConvEncoder", event_shape)
        self.feature_dim = feature_dim
        height, width = (padded(size, MULTIPLE) // 4 for size in self.event_shape[1:])
        self.stem = nn.Conv2d(self.event_shape[0], channels, 3, padding=1)
        self.blocks = nn.Sequential(
            VisualBlock(channels, channels, "down", norm),
            VisualBlock(channels, 2 * channels, "down", norm),
        )
        self.features = Linear(2 * channels * height * width, feature_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """``(*batch, C, H, W) -> (*batch, feature_dim)``."""
        batch_shape = frames.shape[:-3]
        maps = frames.reshape(-1, *self.event_shape)  # (N, C, H, W)
        _, height, width = self.event_shape
        maps = F.pad(maps, margins(width, MULTIPLE) + margins(height, MULTIPLE))
        maps = self.blocks(self.stem(maps))  # (N, 2 * channels, H/4, W/4)
        return self.features(maps.flatten(1).relu()).reshape(*batch_shape, self.feature_dim)


class ConvDecoder(nn.Module):
    """Vector to likelihood parameters: the encoder's mirror, with deconvolutions.

    Args:
        input_dim: size of the vector, [z, Ψ] or z.
        hidden_dim: width of the rectified layer before the maps.
        parameter_shape: ``(channels, height, width)`` of the output for one frame.
        channels: of the last block.
        norm: see :class:`VisualBlock`.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        parameter_shape: Sequence[int],
        channels: int = 32,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.parameter_shape = image_shape("ConvDecoder", parameter_shape)
        height, width = (padded(size, MULTIPLE) // 4 for size in self.parameter_shape[1:])
        self.maps_shape = (2 * channels, height, width)
        self.maps = nn.Sequential(
            Linear(input_dim, hidden_dim),
            nn.ReLU(),
            Linear(hidden_dim, 2 * channels * height * width),
        )
        self.blocks = nn.Sequential(
            VisualBlock(2 * channels, channels, "up", norm),
            VisualBlock(channels, channels, "up", norm),
        )
        self.head = nn.Conv2d(channels, self.parameter_shape[0], 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(*batch, input_dim) -> (*batch, *parameter_shape)``."""
        batch_shape = inputs.shape[:-1]
        maps = self.maps(inputs.reshape(-1, self.input_dim)).unflatten(-1, self.maps_shape)
        maps = self.head(self.blocks(maps).relu())  # (N, channels, padded H, padded W)
        _, height, width = self.parameter_shape
        top, left = margins(height, MULTIPLE)[0], margins(width, MULTIPLE)[0]
        cropped = maps[..., top : top + height, left : left + width]
        return cropped.reshape(*batch_shape, *self.parameter_shape)


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(len(KERNELS), channels)
    raise ValueError(f"VisualBlock: norm must be 'batch' or 'group', got {norm!r}")
