"""Perfect recall: remember a list of images, then see its beginning again.

Source: Gemici et al. 2017 (arXiv 1702.04649), Algorithm 1 and Figures 3, 4 and 19-21. The paper
runs (list_length, recall_length) = (10, 5), (20, 5) and (50, 5) on MNIST digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks.base import register_task
from pyro_gtm.tasks.lists import ListTask, Recalled, check_recalled_once


@register_task("perfect_recall")
class PerfectRecall(ListTask):
    """A list of l iid images, then its first k images again, in order.

    With l = 6 and k = 3::

        time         0   1   2   3   4   5 | 6   7   8
        frame        A   B   C   D   E   F | A   B   C
        predictable  .   .   .   .   .   . | *   *   *
        repeats                            | 0   1   2

    Oracle KL: that of a new frame in the list, 0 nats in the recall phase.

    Args:
        images: the N images that lists are drawn from: ``(N, C, H, W)``.
        list_length: l, at least 1.
        recall_length: k, from 1 to l.

    Raises:
        ValueError: a length is impossible.
    """

    def __init__(self, images: ImageSet, list_length: int = 10, recall_length: int = 5) -> None:
        super().__init__(images, list_length, recall_length)
        check_recalled_once(list_length, recall_length)

    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        step = torch.arange(self.recall_length, device=self.device).unsqueeze(1)
        return self._from_list(listed, step.expand(-1, listed.shape[1]))
