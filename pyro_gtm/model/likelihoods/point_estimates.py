"""One frame for a distribution over frames."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["point_estimate"]


def point_estimate(distribution: dist.TorchDistribution) -> Tensor:
    """The mean of a distribution and, where that is not finite, its mode: ``(*batch, *event)``.

    So a Categorical or a Cauchy likelihood, which have no mean, give their likeliest frame.

    Raises:
        ValueError: it has neither.
    """
    try:
        mean = distribution.mean
    except NotImplementedError:
        return _mode(distribution)
    if bool(mean.isfinite().all()):
        return mean
    return torch.where(mean.isfinite(), mean, _mode(distribution))


def _mode(distribution: dist.TorchDistribution) -> Tensor:
    try:
        return distribution.mode
    except NotImplementedError as error:
        raise ValueError(
            f"likelihood: {type(distribution).__name__} has neither a finite mean nor a mode; ask "
            "for samples instead (sample=True)"
        ) from error
