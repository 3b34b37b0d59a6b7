"""Elements that are one of some categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.model.likelihoods.base import Likelihood, register_likelihood

__all__ = ["CategoricalLikelihood"]

Shape = torch.Size | list[int] | tuple[int, ...]


@register_likelihood("categorical")
class CategoricalLikelihood(Likelihood):
    """Independent elements, each an integer from 0 to K - 1: kinds, symbols, levels.

    The first event dimension of the decoder's output is K times the frame's: the logits of category
    0 for all of a frame, then those of category 1, and so on.  The encoder is given the frames in
    the same order, one-hot.  There is no mean; the mode is the likeliest category of each element.

    Args:
        event_shape: shape of a frame.
        num_categories: K >= 2.

    Raises:
        ValueError: there are less than two categories.
    """

    def __init__(self, event_shape: Sequence[int], num_categories: int = 2) -> None:
        super().__init__(event_shape)
        check_positive("CategoricalLikelihood", num_categories=num_categories)
        if num_categories < 2:
            raise ValueError(
                f"CategoricalLikelihood: num_categories must be at least 2, got {num_categories}"
            )
        self.num_categories: int = num_categories

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return self.stacked_shape(self.num_categories)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.stacked_shape(self.num_categories)

    def features(self, frames: Tensor) -> Tensor:
        """The frames, one-hot: zeros for what is no category."""
        categories = torch.arange(self.num_categories, dtype=frames.dtype, device=frames.device)
        one_hot = (frames.unsqueeze(-1) == categories).to(frames.dtype)  # (*batch, *event, K)
        first = -len(self.event_shape)
        return one_hot.movedim(-1, first - 1).flatten(first - 1, first)

    def __call__(self, parameters: Tensor) -> dist.TorchDistribution:
        first = -len(self.event_shape)
        logits = parameters.unflatten(first, (self.num_categories, -1)).movedim(first - 1, -1)
        return _Categories(logits=logits).to_event(len(self.event_shape))


class _Categories(dist.Categorical):
    """Categories as numbers of the logits' type, which networks take; Pyro's are int64."""

    @property
    def mode(self) -> Tensor:
        return super().mode.to(self.logits.dtype)

    def sample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        return cast(Tensor, super().sample(sample_shape)).to(self.logits.dtype)
