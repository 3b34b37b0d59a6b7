"""Dynamic dependency: each digit says where to look next.

Source: Gemici et al. 2017 (arXiv 1702.04649), Algorithm 3 and Figures 9, 10 and 26.  The paper runs
(list_length, recall_length) = (20, 5).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.tasks.base import Sequences, register_task
from pyro_gtm.tasks.lists import ListTask, Recalled


@register_task("dynamic_dependency")
class DynamicDependency(ListTask):
    """A list of l iid digits, then k more, each at the address that the digit before it names.

    Addresses are labels, counted from 0. The last digit of the list names the first address, and
    each recalled digit the next. With l = 10 and k = 3::

        time         0   1   2   3   4   5   6   7   8   9 | 10  11  12
        digit        7   2   6   0   5   9   1   4   3   8 | 3   0   7
        repeats                                            | 8   3   0
        predictable  .   .   .   .   .   .   .   .   .   . | *   *   *

    To predict a frame a model has to read the one before, and to find what stood at that place.
    The very same image is shown again. Labels are at most 9 for digits, so that the first ten
    frames of a list matter.

    Oracle KL: that of a new frame in the list, 0 nats in the recall phase.

    Args:
        images: the N images that lists are drawn from: ``(N, C, H, W)``.
        list_length: l, more than the greatest label.
        recall_length: k, at least 1; it may be more than l.
        classes: show only images of labels below it, at least 1; None for all images. With fewer
            addresses a list may be shorter, as in the curriculum.

    Raises:
        ValueError: a length is impossible, or there is no image of such a label.
    """

    sources: ClassVar[tuple[str, ...]] = ("digits", "mnist")
    debug_options: ClassVar[dict[str, Any]] = {"list_length": 10, "recall_length": 2}

    def __init__(
        self,
        images: ImageSet,
        list_length: int = 20,
        recall_length: int = 5,
        classes: int | None = None,
    ) -> None:
        super().__init__(images, list_length, recall_length)
        shown = torch.ones_like(images.labels, dtype=torch.bool)
        if classes is not None:
            check_positive("DynamicDependency", classes=classes)
            shown = images.labels < classes
            if not shown.any():
                raise ValueError(
                    f"classes: got {classes}, must be more than the least label, "
                    f"{images.labels.min().item()}, so that there are images to show"
                )
        self.classes = classes
        self._shown = shown.nonzero().squeeze(1)
        self._greatest = int(images.labels[shown].max())
        if self._greatest >= list_length:
            raise ValueError(
                f"list_length: got {list_length}, must be more than the greatest label, "
                f"{self._greatest}, because labels are addresses in the list"
            )

    @property
    def published_as(self) -> dict[str, int] | None:
        return super().published_as if self.classes is None else None

    def notes(self, batch: Sequences) -> list[list[str]]:
        """The digits, which are addresses: T lists of B."""
        return [[str(digit) for digit in row] for row in batch.labels.tolist()]

    def _shortened(self, list_length: int) -> dict[str, Any]:
        options = super()._shortened(list_length)
        return options if list_length > self._greatest else {**options, "classes": list_length}

    def _draw(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        index = torch.randint(len(self._shown), shape, generator=generator, device=self.device)
        return self._shown[index]

    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        labels = self.images.labels[listed]  # (l, B)
        address, addresses = labels[-1], []
        for _ in range(self.recall_length):
            addresses.append(address)
            address = labels.gather(0, address.unsqueeze(0)).squeeze(0)  # (B,)
        return self._from_list(listed, torch.stack(addresses))
