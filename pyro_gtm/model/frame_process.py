"""All frames of a sequence as one random variable."""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_gtm.internals.activation_checkpointing import checkpointed
from pyro_gtm.internals.shapes import broadcast_shapes

__all__ = ["ChunkedFrameProcess", "FrameProcess", "map_in_chunks"]

Emission = Callable[[Tensor, Tensor], dist.TorchDistribution]
Shape = torch.Size | list[int] | tuple[int, ...]


class FrameProcess(dist.TorchDistribution):
    """x_1..x_T, independent given z_1..z_T and the contexts.

    This is the site ``x`` of the stacked layout.  Batch shape ``(*batch, B)``, event shape
    ``(T, *event)``; missing frames count nothing.

    Args:
        frames: the distributions of the frames, batch shape ``(*batch, B, T)``.
        observed: the frames that there are, ``(B, T)`` of bool; None for all.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)

    def __init__(self, frames: dist.TorchDistribution, observed: Tensor | None = None) -> None:
        self.frames = frames
        self.observed = observed
        *batch, num_steps = frames.batch_shape
        event_shape = torch.Size([num_steps, *frames.event_shape])
        super().__init__(torch.Size(batch), event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.frames.support, 1)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.frames.has_rsample)

    def expand(self, batch_shape: Shape, _instance: FrameProcess | None = None) -> FrameProcess:
        shape = torch.Size([*batch_shape, self.event_shape[0]])
        return FrameProcess(self.frames.expand(shape), self.observed)

    def rsample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        return self.frames.rsample(sample_shape)

    def sample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        return self.frames.sample(sample_shape)

    def log_prob_per_step(self, value: Tensor) -> Tensor:
        """log p(x_t | z_t, Ψ_t) of every frame, 0 for a missing one: ``(T, *batch, B)``, nats."""
        log_prob = self._log_prob(value)  # (*batch, B, T)
        if self.observed is not None:
            log_prob = torch.where(self.observed, log_prob, 0.0)
        return log_prob.movedim(-1, 0)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x_1..x_T | z_1..z_T): ``(*batch, B)``, in nats."""
        return self.log_prob_per_step(value).sum(0)

    def _log_prob(self, value: Tensor) -> Tensor:
        return self.frames.log_prob(value)


class ChunkedFrameProcess(FrameProcess):
    """The same, whose frames are decoded some steps at a time where their density is asked for.

    The decoder's hidden layers and the parameters of all pixels are the larger part of what a
    sequence keeps for the backward pass.  Here only the decoder's inputs are kept.

    Args:
        emission: latents and contexts to the distribution of their frames.
        latents: ``(*batch, B, T, Z)``.
        contexts: ``(*batch, B, T, C)``.
        event_shape: of a frame.
        frame_support: of a frame.
        steps: how many at once.
        observed: as for :class:`FrameProcess`.
    """

    def __init__(
        self,
        emission: Emission,
        latents: Tensor,
        contexts: Tensor,
        *,
        event_shape: tuple[int, ...],
        frame_support: constraints.Constraint,
        steps: int,
        observed: Tensor | None = None,
    ) -> None:
        *batch, num_steps = broadcast_shapes(latents.shape[:-1], contexts.shape[:-1])
        self.emission = emission
        self.latents = latents.expand(*batch, num_steps, -1)
        self.contexts = contexts.expand(*batch, num_steps, -1)
        self.frame_support = frame_support
        self.steps = steps
        self.observed = observed
        dist.TorchDistribution.__init__(
            self, torch.Size(batch), torch.Size([num_steps, *event_shape]), validate_args=False
        )

    @property
    def frames(self) -> dist.TorchDistribution:  # type: ignore[override]
        """All frames decoded at once, as for a draw."""
        return self.emission(self.latents, self.contexts)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.frame_support, 1)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """False: it is for frames that are given, and to ask the frames would be to decode them."""
        return False

    def expand(self, batch_shape: Shape, _instance: FrameProcess | None = None) -> FrameProcess:
        shape = (*batch_shape, self.event_shape[0], -1)
        return ChunkedFrameProcess(
            self.emission,
            self.latents.expand(shape),
            self.contexts.expand(shape),
            event_shape=tuple(self.event_shape[1:]),
            frame_support=self.frame_support,
            steps=self.steps,
            observed=self.observed,
        )

    def _log_prob(self, value: Tensor) -> Tensor:
        value = value.expand(self.batch_shape + self.event_shape)
        time = len(self.batch_shape)
        sequences = (t.movedim(time, 0) for t in (self.latents, self.contexts, value))
        log_probs = map_in_chunks(self._log_prob_of_chunk, self.steps, *sequences)
        return log_probs.movedim(0, time)  # (*batch, B, T)

    def _log_prob_of_chunk(self, latents: Tensor, contexts: Tensor, frames: Tensor) -> Tensor:
        return self.emission(latents, contexts).log_prob(frames)


def map_in_chunks(function: Callable[..., Tensor], steps: int, *sequences: Tensor) -> Tensor:
    """``function(*sequences)``, ``steps`` time steps at once, activations checkpointed.

    Args:
        function: of sequences of any length, a step of whose result depends on that step alone.
        steps: how many at once, and perhaps more than there are.
        sequences: ``(T, ...)`` each.

    Returns:
        As the function itself: ``(T, ...)``.
    """
    steps = min(steps, max(1, len(sequences[0])))  # PyTorch takes numbers of 64 bits
    chunks = zip(*(sequence.split(steps) for sequence in sequences), strict=True)
    return torch.cat([checkpointed(function, *chunk) for chunk in chunks])
