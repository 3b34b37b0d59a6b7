"""What stands between knowing nothing and knowing the process."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from processes.sample import Sample

__all__ = ["Autoregression", "Marginal"]


class Marginal:
    """One Gaussian, of any covariance, for all frames.

    Args:
        sample: what it is fitted to.
    """

    def __init__(self, sample: Sample) -> None:
        seen = sample.frames[sample.there]  # (N, C)
        self.distribution = MultivariateNormal(seen.mean(0), torch.cov(seen.T))

    def log_prob(self, sample: Sample) -> Tensor:
        """Of each frame, ``(T, B)``, in nats; 0 for one that is missing."""
        return torch.where(sample.there, self.distribution.log_prob(sample.frames), 0.0)


class Autoregression:
    """x_t = A x_{t-1} + b + ε_t by least squares, ε Gaussian of any covariance.

    A frame with none before it, the first or one behind a gap, has the marginal's density.

    Args:
        sample: what it is fitted to.
    """

    def __init__(self, sample: Sample) -> None:
        self.marginal = Marginal(sample)
        follows = sample.there[1:] & sample.there[:-1]
        last, frames = _with_ones(sample.frames[:-1][follows]), sample.frames[1:][follows]
        self.weights = torch.linalg.lstsq(last, frames).solution  # (C + 1, C)
        errors = frames - last @ self.weights
        self.errors = MultivariateNormal(
            torch.zeros_like(errors[0]), errors.T @ errors / len(errors)
        )

    def log_prob(self, sample: Sample) -> Tensor:
        """Of each frame, ``(T, B)``, in nats; 0 for one that is missing."""
        found = self.marginal.log_prob(sample)
        errors = sample.frames[1:] - _with_ones(sample.frames[:-1]) @ self.weights
        follows = sample.there[1:] & sample.there[:-1]
        return torch.cat([found[:1], torch.where(follows, self.errors.log_prob(errors), found[1:])])


def _with_ones(frames: Tensor) -> Tensor:
    return torch.cat([frames, torch.ones_like(frames[..., :1])], dim=-1)
