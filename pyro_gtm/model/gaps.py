"""Frames of which some elements are missing.

A frame travels as [its values, which of them there are]: the encoder sees both, and the
log-probability counts the elements that there are.  So the bound is that of the observed elements,
and nothing of the program has to know.  Frames that are missing altogether are left to the
program's own ``mask``.
"""

from __future__ import annotations

from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import Independent
from torch import Tensor
from torch.distributions import constraints

from pyro_gtm.model.likelihoods import Likelihood, point_estimate

__all__ = ["PartialFrames", "PartialFramesLikelihood"]

Shape = torch.Size | list[int] | tuple[int, ...]


class PartialFramesLikelihood(Likelihood):
    """A likelihood of frames with gaps in them.

    Its frames have twice the first size of the base's: values, then 1.0 for each that there is and
    0.0 for each that is missing, whose value counts nothing.  :meth:`join` makes them of values
    with NaN, :meth:`split` takes them apart.  A frame that is drawn has no gaps.

    Args:
        base: of whole frames; its distributions must have independent elements.

    Raises:
        ValueError: they have not.
    """

    def __init__(self, base: Likelihood) -> None:
        first, *rest = base.event_shape
        super().__init__((2 * first, *rest))
        self.base = base
        self.has_units, self.num_categories = base.has_units, base.num_categories
        self(torch.zeros(base.parameter_shape))  # refuses what cannot be taken apart

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.base.parameter_shape

    @property
    def feature_shape(self) -> tuple[int, ...]:
        first, *rest = self.base.feature_shape
        return (first + self.base.event_shape[0], *rest)

    def features(self, frames: Tensor) -> Tensor:
        """The base's features of the values, and which of them there are."""
        values, there = self._halves(frames)
        # A count or category that is missing is the placeholder's, told apart by ``there``.
        return torch.cat([self.base.features(values), there], dim=-len(self.event_shape))

    def __call__(self, parameters: Tensor) -> PartialFrames:
        return PartialFrames(self.base(parameters), len(self.event_shape))

    def join(self, values: Tensor) -> Tensor:
        """Values with NaN where they are missing, ``(*batch, *base.event_shape)``, to frames."""
        there = ~values.isnan()
        filled = torch.where(there, values, torch.as_tensor(self.base.placeholder).to(values))
        return torch.cat([filled, there.to(values)], dim=-len(self.event_shape))

    def split(self, frames: Tensor) -> Tensor:
        """Frames to values, with NaN where they are missing."""
        values, there = self._halves(frames)
        return torch.where(there > 0, values, torch.nan)

    def fill(self, frames: Tensor, drawn: Tensor, observed: Tensor | None) -> Tensor:
        """Frames with every missing value taken from others."""
        frames = super().fill(frames, drawn, observed)
        _, there = self._halves(frames)
        return torch.where(torch.cat([there, there], -len(self.event_shape)) > 0, frames, drawn)

    def _halves(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        values, there = frames.chunk(2, dim=-len(self.event_shape))
        return values, there


class PartialFrames(dist.TorchDistribution):
    """A distribution over [values, which there are], in which missing values count nothing.

    Args:
        whole: over whole frames, with independent elements: an ``Independent`` over all of a
            frame's dimensions.
        event_dim: how many these are.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)

    def __init__(self, whole: dist.TorchDistribution, event_dim: int) -> None:
        elements: Any = getattr(whole, "base_dist", None)
        if not isinstance(whole, Independent) or elements.event_shape != torch.Size():
            raise ValueError(
                f"PartialFramesLikelihood: base with frames of {type(whole).__name__} given, one "
                "whose elements are independent is allowed"
            )
        self.whole = whole
        self.elements = cast(dist.TorchDistribution, elements)
        first, *rest = whole.event_shape
        super().__init__(whole.batch_shape, torch.Size([2 * first, *rest]), validate_args=False)

    @constraints.dependent_property
    def support(self) -> constraints.Constraint:
        return _PartialSupport(cast(Any, self.elements).support, len(self.event_shape))

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.whole.has_rsample)

    @property
    def mean(self) -> Tensor:
        """The mean, or mode, of the values, of which none is missing."""
        return self._joined(point_estimate(self.whole))

    def expand(self, batch_shape: Shape, _instance: Any = None) -> PartialFrames:
        return PartialFrames(self.whole.expand(batch_shape), len(self.event_shape))

    def rsample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        return self._joined(self.whole.rsample(sample_shape))

    def sample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            return self._joined(self.whole.sample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Of the values that there are: ``(*batch)``, in nats."""
        values, there = value.chunk(2, dim=-len(self.event_shape))
        of_elements = self.elements.log_prob(values)
        counted = torch.where(there > 0, of_elements, 0.0)
        return counted.flatten(-len(self.event_shape)).sum(-1)

    def _joined(self, values: Tensor) -> Tensor:
        return torch.cat([values, torch.ones_like(values)], dim=-len(self.event_shape))


class _PartialSupport(constraints.Constraint):
    """Values of a support where they are there."""

    def __init__(self, base_constraint: constraints.Constraint, event_dim: int) -> None:
        self.base_constraint = base_constraint
        self._event_dim = event_dim
        super().__init__()

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self._event_dim

    def check(self, value: Tensor) -> Tensor:
        values, there = value.chunk(2, dim=-self._event_dim)
        fine = (self.base_constraint.check(values) | (there == 0)) & ((there == 0) | (there == 1))
        return fine.flatten(-self._event_dim).all(-1)
