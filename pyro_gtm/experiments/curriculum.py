"""A curriculum: training that begins with small forms of its task and grows to the whole.

What the small forms are, a task says itself (:meth:`pyro_gtm.tasks.Task.curriculum`).  Batches are
of one size each, most of them of the present one, some smaller, some of the whole task, so that
nothing that was learnt is forgotten and the end is seen from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from pyro_gtm.tasks import Task

__all__ = ["ADVANCES", "REACHED", "Advance", "Curriculum", "RecallGap"]

Advance = Literal["steps", "recall-kl"]

ADVANCES: tuple[Advance, ...] = ("steps", "recall-kl")

REACHED = 0.5
"""Of the KL of a new frame, what the recall KL above the oracle's must be below for a size to count
as learnt.

A fixed number of nats would be passed at the very start, where the posterior says nothing and no
frame costs any; and a small one might never be: that a list ends here and not later shows only
when recall has begun, and a Gaussian prior that has to allow for either pays several nats."""

SHARE_OF_STEPS = 0.5
"""Of a run's steps, what all the smaller sizes have together when each has its time."""

SHARE_OF_PRESENT, SHARE_OF_SMALLER = 0.6, 0.2
"""Of the batches; the rest is of the whole task."""


class RecallGap(NamedTuple):
    """How far a model is from perfect recall."""

    excess: float
    """Its recall KL above the oracle's, in nats a frame."""

    new_frame_kl: float
    """The KL of a frame of which the past tells nothing, in nats."""

    @property
    def closed(self) -> bool:
        """Whether that counts as learnt."""
        return self.excess < REACHED * self.new_frame_kl


@dataclass
class Curriculum:
    """The sizes of a task, and the one that training has come to.

    Args:
        sizes: the task in growing sizes, the whole task last; at least two.
        advance: when the next size comes: ``"steps"`` gives each smaller one the same share of the
            first half of the steps, ``"recall-kl"`` waits until the present one is learnt.
        num_steps: the last step of the run.
        stage: index of the present size.
    """

    sizes: Sequence[Task]
    advance: Advance
    num_steps: int
    stage: int = 0

    @property
    def present(self) -> Task:
        """The task in its present size."""
        return self.sizes[self.stage]

    @property
    def waits(self) -> bool:
        """Whether :meth:`observe` is to be told how well the present size is learnt."""
        return self.advance == "recall-kl" and self.stage < len(self.sizes) - 1

    def begin(self, step: int) -> None:
        """Go to the size of a step, counted from 1, where that is a matter of time."""
        if self.advance == "steps":
            smaller = len(self.sizes) - 1
            passed = (step - 1) * smaller / (SHARE_OF_STEPS * self.num_steps)
            self.stage = min(smaller, int(passed))

    def observe(self, gap: RecallGap | None) -> None:
        """Go to the next size if the present one is learnt.

        Args:
            gap: of the present size; None where nothing is recalled.
        """
        if self.waits and gap is not None and gap.closed:
            self.stage += 1

    def draw(self, generator: torch.Generator) -> Task:
        """Draw the size of a batch."""
        uniform, which = torch.rand(2, generator=generator, device=generator.device).tolist()
        if uniform < SHARE_OF_PRESENT:
            return self.present
        if uniform >= SHARE_OF_PRESENT + SHARE_OF_SMALLER:
            return self.sizes[-1]
        return self.sizes[int(which * self.stage)]  # the present one where none is smaller
