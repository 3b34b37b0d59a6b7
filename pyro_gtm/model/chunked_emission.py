"""Networks over all frames of a sequence, whose insides are made again for the backward pass."""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_gtm.internals.checkpointing import recomputed

__all__ = ["FramesInBlocks", "map_in_blocks"]

Emission = Callable[[Tensor, Tensor], dist.TorchDistribution]
Shape = torch.Size | list[int] | tuple[int, ...]


def map_in_blocks(function: Callable[..., Tensor], steps: int, *sequences: Tensor) -> Tensor:
    """``function(*sequences)``, ``steps`` time steps at once, keeping its results alone.

    Args:
        function: of sequences of any length, a step of whose result depends on that step alone.
        steps: how many at once.
        sequences: ``(T, B, ...)`` each.

    Returns:
        As the function itself: ``(T, B, ...)``.
    """
    blocks = zip(*(sequence.split(steps) for sequence in sequences), strict=True)
    return torch.cat([recomputed(function, *block) for block in blocks])


class FramesInBlocks(dist.TorchDistribution):
    """All frames of a sequence: decoded, and judged, some steps at a time.

    The decoder's hidden layers and the parameters of all pixels are the larger part of what a
    sequence keeps for the backward pass.  Here only the decoder's inputs are kept.  Batch shape
    ``(*batch, T, B)``.

    Args:
        emission: latents and contexts to the distribution of their frames.
        latents: ``(*batch, T, B, Z)``.
        contexts: ``(*batch, T, B, C)``.
        event_shape: of a frame.
        steps: how many at once.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)

    def __init__(
        self,
        emission: Emission,
        latents: Tensor,
        contexts: Tensor,
        *,
        event_shape: tuple[int, ...],
        steps: int,
    ) -> None:
        batch_shape = torch.broadcast_shapes(latents.shape[:-1], contexts.shape[:-1])
        self.emission = emission
        self.latents = latents.expand(*batch_shape, -1)
        self.contexts = contexts.expand(*batch_shape, -1)
        self.steps = steps
        super().__init__(batch_shape, torch.Size(event_shape), validate_args=False)

    def expand(self, batch_shape: Shape, _instance: FramesInBlocks | None = None) -> FramesInBlocks:
        if torch.Size(batch_shape) != self.batch_shape:
            raise ValueError(
                f"FramesInBlocks: cannot be expanded from {tuple(self.batch_shape)} to "
                f"{tuple(batch_shape)}; its shape comes from the latents"
            )
        return self

    def sample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        return self.emission(self.latents, self.contexts).sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x_t | z_t, Ψ_t) of every frame: ``(*batch, T, B)``, in nats."""
        value = value.expand(self.batch_shape + self.event_shape)
        before = len(self.batch_shape) - 2
        sequences = (t.movedim(before, 0) for t in (self.latents, self.contexts, value))
        log_probs = map_in_blocks(self._log_prob, self.steps, *sequences)  # (T, *batch, B)
        return log_probs.movedim(0, before)

    def _log_prob(self, latents: Tensor, contexts: Tensor, frames: Tensor) -> Tensor:
        return self.emission(latents, contexts).log_prob(frames)
