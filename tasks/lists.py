"""The base of tasks that show a list and then go back to it.

Each is one rule: which images follow the list. Where the rule names a frame of the list, the same
image instance is shown again, bit for bit, so that a model with a perfect memory that has learnt
the rule predicts it with certainty. Nothing marks where recall begins; that must be learnt from
the fixed length of the list. Images are drawn with replacement: a list may hold one twice.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.tasks.base import ImageTask, NewFrameKL, Sequences

SHORTEST = 4
"""The length of the first list of a curriculum."""


class Recalled(NamedTuple):
    """The k images that follow a list."""

    image: Tensor
    """Indices in the set: ``(k, B)`` of int64."""

    repeats: Tensor
    """The step in the list that each is taken from, -1 where it is from elsewhere: ``(k, B)`` of
    int64."""


class ListTask(ImageTask):
    """A list of l iid images, then k images that follow from it by a rule.

    Args:
        images: the N images that lists are drawn from: ``(N, C, H, W)``.
        list_length: l, at least 1.
        recall_length: k, at least 1.

    Raises:
        ValueError: a length is impossible.
    """

    debug_options: ClassVar[dict[str, Any]] = {"list_length": 4, "recall_length": 2}

    def __init__(self, images: ImageSet, list_length: int, recall_length: int) -> None:
        super().__init__(images)
        check_positive(type(self).__name__, list_length=list_length, recall_length=recall_length)
        self.list_length = list_length
        self.recall_length = recall_length

    @property
    def num_steps(self) -> int:
        """T = l + k."""
        return self.list_length + self.recall_length

    @property
    def num_given(self) -> int:
        """l: the list."""
        return self.list_length

    def curriculum(self) -> list[dict[str, Any]]:
        """Lists of 4 images and on, by twos, of which at most half are recalled."""
        return [self._shortened(length) for length in range(SHORTEST, self.list_length, 2)]

    def _shortened(self, list_length: int) -> dict[str, Any]:
        """The options of the same task with a shorter list."""
        recall_length = min(self.recall_length, list_length // 2)
        return {"list_length": list_length, "recall_length": recall_length}

    @property
    def published_as(self) -> dict[str, int] | None:
        return {"list_length": self.list_length, "recall_length": self.recall_length}

    def oracle_kl(self, new_frame: NewFrameKL) -> Tensor:
        listed = torch.full((self.list_length,), new_frame.mean)
        return torch.cat([listed, self._oracle_kl_of_recall(new_frame)])

    def recall_oracle_kl(self, new_frame: NewFrameKL) -> float:
        return self._oracle_kl_of_recall(new_frame).mean().item()

    def _oracle_kl_of_recall(self, new_frame: NewFrameKL) -> Tensor:
        """Oracle KL of each frame of the recall phase, ``(k,)``: nothing is left to be told."""
        return torch.zeros(self.recall_length)

    def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences:
        listed = self._draw(self.list_length, batch_size, generator=generator)  # (l, B)
        recalled = self._recall(listed, generator)
        recalling = torch.arange(self.num_steps, device=self.device) >= self.list_length
        return self._show(
            torch.cat([listed, recalled.image]),  # (l + k, B)
            predictable=recalling.unsqueeze(1).expand(-1, batch_size),
            repeats=torch.cat([torch.full_like(listed, -1), recalled.repeats]),
        )

    @abstractmethod
    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        """The images that follow the list of images ``listed``, ``(l, B)`` of int64."""

    def _from_list(self, listed: Tensor, step: Tensor) -> Recalled:
        """The images of the list at the given steps, ``(k, B)`` of int64."""
        return Recalled(listed.gather(0, step), step)


def check_recalled_once(list_length: int, recall_length: int) -> None:
    """Refuse to recall more images than a list has.

    Raises:
        ValueError: ``recall_length`` is more than ``list_length``.
    """
    if recall_length > list_length:
        raise ValueError(
            f"recall_length: got {recall_length}, must be at most list_length={list_length}"
        )
