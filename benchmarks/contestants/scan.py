"""The contestant in JAX.  To be imported only where JAX is installed."""

from __future__ import annotations

from typing import Any

import jax
import torch
from jax import Array
from torch import Tensor

import xla
from handwritten import Networks, Sizes

PRECISIONS = {"highest": "float32", "high": "tensorfloat32", "medium": "bfloat16"}
"""JAX's names for those of ``torch.set_float32_matmul_precision``."""


class ScanContestant:
    """The step of ``benchmarks/xla``, with a copy of these weights.

    Args:
        name: of the memory.
        networks: where the weights come from.
        sizes: of the networks.
        device: PyTorch's; JAX's is of the same kind.
        precision: of matrix products, as ``torch.set_float32_matmul_precision`` names it.
    """

    def __init__(
        self,
        name: str,
        networks: Networks,
        sizes: Sizes,
        device: torch.device,
        precision: str = "highest",
    ) -> None:
        self._device = jax.devices("gpu" if device.type == "cuda" else "cpu")[0]
        with jax.default_device(self._device):
            parameters = xla.as_parameters(networks.state_dict())
            self._training = xla.begin(parameters)
        self._step = xla.make_step(xla.MEMORIES[name](sizes), precision=PRECISIONS[precision])
        self._program: Any = None

    def prepare(self, frames: Tensor) -> Array:
        """On JAX's device; compiles for the shape of the first batch."""
        with jax.default_device(self._device):
            batch = jax.block_until_ready(xla.as_array(frames.flatten(2)))  # (T, B, pixels)
        if self._program is None:
            self._program = self._step.lower(self._training, batch).compile()
        return batch

    def step(self, batch: Array) -> float:
        self._training, loss = jax.block_until_ready(self._program(self._training, batch))
        return float(loss)

    def peak(self, batch: Array, before: int) -> int:
        """The memory that XLA planned when it compiled; it takes no step."""
        planned = self._program.memory_analysis()
        beside = planned.output_size_in_bytes - planned.alias_size_in_bytes
        return planned.temp_size_in_bytes + beside
