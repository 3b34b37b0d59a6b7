"""A first-order autoregression whose regime is hidden and sticky."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import Normal

from processes.sample import Process, Sample, gaussian_entropy

__all__ = ["Regimes"]

MEANS = ((2.0, 0.0, -2.0), (-2.0, 2.0, 0.0), (0.0, -2.0, 2.0))
"""Of each regime, where its series would settle."""

DECAY, NOISE, START = 0.8, 0.3, 0.5
REDRAWN = 0.05
"""How often a step draws the regime anew, of all three alike."""


class Regimes(Process):
    """x_t = m_r + 0.8 (x_{t-1} - m_r) + 0.3 ε_t in the regime r of step t.

    Before the first step the regime is any of the three and x_0 = m_r + 0.5 ε_0.
    """

    num_steps = 50

    def draw(self, count: int, seed: int) -> Sample:
        generator = torch.Generator().manual_seed(seed)
        means = torch.tensor(MEANS, dtype=torch.float64)

        def normal() -> Tensor:
            return torch.randn(count, 3, generator=generator, dtype=torch.float64)

        regime = torch.randint(3, (count,), generator=generator)
        frame = means[regime] + START * normal()
        steps = []
        for _ in range(self.num_steps):
            redrawn = torch.rand(count, generator=generator) < REDRAWN
            regime = torch.where(redrawn, torch.randint(3, (count,), generator=generator), regime)
            frame = means[regime] + DECAY * (frame - means[regime]) + NOISE * normal()
            steps.append(frame)
        frames = torch.stack(steps)
        return Sample(frames, torch.ones(frames.shape[:2], dtype=torch.bool))

    def floors(self, sample: Sample) -> dict[str, float]:
        steps = exact_log_likelihood(sample.frames)
        return {"exact": -steps.mean().item(), "regime known": gaussian_entropy(NOISE, 3)}


def exact_log_likelihood(frames: Tensor) -> Tensor:
    """log p(x_t | x_<t) with the regimes summed out, by the forward recursion: ``(T, B)``, nats.

    Source: Hamilton 1989, Econometrica 57, section 4 (a filter of the regime, after each frame).

    Args:
        frames: ``(T, B, 3)``.
    """
    means = torch.tensor(MEANS, dtype=frames.dtype)
    stays = 1 - REDRAWN
    moves = (stays * torch.eye(3, dtype=frames.dtype) + REDRAWN / 3).log()
    # Of x_1, given the regimes before it (rows) and in it (columns), x_0 integrated out.
    before = means.unsqueeze(1)
    centre = means + DECAY * (before - means)  # (3, 3, C)
    spread = math.hypot(DECAY * START, NOISE)
    first = Normal(centre, spread).log_prob(frames[0, :, None, None]).sum(-1)  # (B, 3, 3)
    joint = (first + moves - math.log(3)).logsumexp(1)  # (B, 3)
    found = [joint.logsumexp(-1)]
    for last, frame in pairwise(frames):
        belief = joint - joint.logsumexp(-1, keepdim=True)
        expected = (belief.unsqueeze(-1) + moves).logsumexp(1)  # (B, 3)
        centre = means + DECAY * (last.unsqueeze(1) - means)  # (B, 3, C)
        joint = expected + Normal(centre, NOISE).log_prob(frame.unsqueeze(1)).sum(-1)
        found.append(joint.logsumexp(-1))
    return torch.stack(found)
