"""Similarity-cued recall: recognise a place in the list, and go on from there.

Source: Gemici et al. 2017 (arXiv 1702.04649), Algorithm 4 and Figures 11, 12 and 27. The paper runs
(list_length, recall_length) = (20, 5).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks.base import NewFrameKL, register_task
from pyro_gtm.tasks.lists import ListTask, Recalled


@register_task("similarity_cued_recall")
class SimilarityCuedRecall(ListTask):
    """A list of l iid images, then k consecutive ones of it from a random place on.

    The place r is uniform on 1..l-k, counted from 1 as the paper has it, and the images are
    r, ..., r + k - 1, so that the very last of the list never comes again. With l = 6, k = 3 and
    r = 2::

        time         0   1   2   3   4   5 | 6   7   8
        frame        A   B   C   D   E   F | B   C   D
        repeats                            | 1   2   3
        predictable  .   .   .   .   .   . | *   *   *

    The first recalled image cannot be foretold; it is the cue, by which a model that finds by
    content knows where it is. So it is given before generation begins.

    Oracle KL: that of a new frame in the list.  For the cue, log(l - k) nats, which say which of
    the l - k images it is (or the KL of a new frame, where that is less); 0 nats for those that
    follow.  No model can be below; a Gaussian prior, which cannot be a mixture of l - k images,
    stays far above at the cue (20.9 nats for the paper's best memory).

    Args:
        images: the N images that lists are drawn from: ``(N, C, H, W)``.
        list_length: l, at least 2.
        recall_length: k, from 1 to l - 1.

    Raises:
        ValueError: a length is impossible.
    """

    def __init__(self, images: ImageSet, list_length: int = 20, recall_length: int = 5) -> None:
        super().__init__(images, list_length, recall_length)
        if recall_length >= list_length:
            raise ValueError(
                f"recall_length: got {recall_length}, must be less than list_length={list_length}, "
                "because recall begins at one of list_length - recall_length places"
            )

    @property
    def num_given(self) -> int:
        """The length of the list, and the cue if more than that is recalled."""
        return self.list_length + (self.recall_length > 1)

    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        places = self.list_length - self.recall_length
        start = torch.randint(
            places, (1, listed.shape[1]), generator=generator, device=self.device
        )  # (1, B), r - 1
        following = torch.arange(self.recall_length, device=self.device).unsqueeze(1)  # (k, 1)
        return self._from_list(listed, start + following)

    def _oracle_kl_of_recall(self, new_frame: NewFrameKL) -> Tensor:
        kl = torch.zeros(self.recall_length)
        kl[0] = min(new_frame.mean, math.log(self.list_length - self.recall_length))
        return kl
