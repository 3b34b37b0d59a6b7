"""Perfect recall: remember a list of images, then see its beginning again.

Source: Gemici et al. 2017 (arXiv 1702.04649), Algorithm 1 and Figures 3, 4 and 19-21. The paper
runs (list_length, recall_length) = (10, 5), (20, 5) and (50, 5).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from pyro_gtm.checks import check_positive
from pyro_gtm.data.images import ImageSet
from pyro_gtm.tasks.base import Sequences, Task, register_task


@register_task("perfect_recall")
class PerfectRecall(Task):
    """A list of l iid images, then its first k images again, in order.

    With l = 6 and k = 3::

        time         0   1   2   3   4   5 | 6   7   8
        frame        A   B   C   D   E   F | A   B   C
        predictable  .   .   .   .   .   . | *   *   *

    A recalled frame is the very same image instance, bit for bit, so that a model with a perfect
    memory predicts it with certainty: KL(posterior || prior) tends to 0 nats on the last k
    frames. Nothing marks where recall begins; that must be learnt from the fixed l. Images are
    drawn with replacement: a list may hold one twice.

    Args:
        images: the set that lists are drawn from.
        list_length: l, at least 1.
        recall_length: k, from 1 to l.

    Raises:
        ValueError: an impossible length.
    """

    debug_options: ClassVar[dict[str, Any]] = {"list_length": 4, "recall_length": 2}

    def __init__(self, images: ImageSet, list_length: int = 10, recall_length: int = 5) -> None:
        super().__init__(images)
        check_positive("PerfectRecall", list_length=list_length, recall_length=recall_length)
        if recall_length > list_length:
            raise ValueError(
                f"recall_length={recall_length} must be at most list_length={list_length}: "
                "no more can be recalled than was shown."
            )
        self.list_length = list_length
        self.recall_length = recall_length

    @property
    def num_steps(self) -> int:
        """T = l + k."""
        return self.list_length + self.recall_length

    def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences:
        shown = self._draw(self.list_length, batch_size, generator=generator)
        index = torch.cat([shown, shown[: self.recall_length]])
        recalling = torch.arange(self.num_steps, device=self.device) >= self.list_length
        return self._show(index, predictable=recalling.unsqueeze(1).expand(-1, batch_size))
