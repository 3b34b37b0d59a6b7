"""The course of the learning rate: a function of the step alone, so that a run can be resumed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pyro_gtm.internals.checks import check_choice, check_not_negative, check_positive

__all__ = ["FINAL_SHARE", "SCHEDULES", "LearningRate", "Schedule"]

Schedule = Literal["constant", "cosine"]

SCHEDULES: tuple[Schedule, ...] = ("constant", "cosine")

FINAL_SHARE = 0.01
"""Of the peak, what a cosine ends at: at zero, the last steps would change nothing."""


@dataclass(frozen=True)
class LearningRate:
    """The learning rate of each step, called with its number, from 1 to ``num_steps``.

    With warm-up over w steps it is peak s / w in step s <= w; from there on it stays, or follows
    half a cosine down to ``FINAL_SHARE`` of the peak in step ``num_steps``, at which it stays::

        rate = LearningRate(2e-3, num_steps=2_500, warmup=100, schedule="cosine")
        for step, loss in training_steps(svi, draw, num_steps=2_500, learning_rate=rate):
            ...

    Source of the cosine: Loshchilov & Hutter 2017 (arXiv 1608.03983), without restarts.

    Args:
        peak: the greatest learning rate, above 0.
        num_steps: the last step, at least 1.
        warmup: w, at least 0; 0 for none.
        schedule: what follows the warm-up.

    Raises:
        ValueError: an impossible value.
    """

    peak: float
    num_steps: int
    warmup: int = 0
    schedule: Schedule = "constant"

    def __post_init__(self) -> None:
        if not 0 < self.peak < math.inf:
            raise ValueError(f"LearningRate: peak must be a positive number, got {self.peak}")
        check_positive("LearningRate", num_steps=self.num_steps)
        check_not_negative("LearningRate", warmup=self.warmup)
        check_choice("LearningRate", "schedule", self.schedule, SCHEDULES)

    @property
    def varies(self) -> bool:
        """Whether it is other than the peak in any step."""
        return self.warmup > 1 or self.schedule != "constant"

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * step / self.warmup
        if self.schedule == "constant" or step == self.warmup:
            return self.peak
        done = min(1.0, (step - self.warmup) / max(1, self.num_steps - self.warmup))
        share = FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * done)) / 2
        return self.peak * share
