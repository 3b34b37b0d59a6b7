"""Three noisy sines with gaps."""

from __future__ import annotations

import math

import torch

from processes.sample import Process, Sample, gaussian_entropy

__all__ = ["Sines"]

PERIODS = (12.0, 18.0, 31.0)
NOISE = 0.1
LONGEST_GAP = 9


class Sines(Process):
    """Each channel a sine of its own period and a random phase, with noise of 0.1.

    Of each series up to nine frames in a row are missing.
    """

    num_steps = 100

    def draw(self, count: int, seed: int) -> Sample:
        generator = torch.Generator().manual_seed(seed)
        steps = torch.arange(self.num_steps, dtype=torch.float64)
        phase = torch.rand(count, 3, generator=generator, dtype=torch.float64)
        turns = steps.reshape(-1, 1, 1) / torch.tensor(PERIODS, dtype=torch.float64) + phase
        noise = torch.randn(turns.shape, generator=generator, dtype=torch.float64)
        length = torch.randint(LONGEST_GAP + 1, (count,), generator=generator)
        begin = torch.randint(self.num_steps - LONGEST_GAP, (count,), generator=generator)
        clock = steps.unsqueeze(1)
        there = (clock < begin) | (clock >= begin + length)
        return Sample((2 * math.pi * turns).sin() + NOISE * noise, there)

    def floors(self, sample: Sample) -> dict[str, float]:
        return {"noise alone": gaussian_entropy(NOISE, len(PERIODS))}
