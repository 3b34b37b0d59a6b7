"""Parity recall: remember of each digit only whether it was even or odd.

Source: Gemici et al. 2017 (arXiv 1702.04649), Algorithm 2 and Figures 5, 6 and 22-24. The paper
runs (list_length, recall_length) = (10, 5), (20, 5) and (50, 5). Its Figures 5 and 22 show a 1 for
an even digit and a 0 for an odd one; the caption of Figure 22 says the reverse. The figures are
followed.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks.base import NewFrameKL, Sequences, register_task
from pyro_gtm.tasks.lists import ListTask, Recalled, check_recalled_once

FOR_EVEN, FOR_ODD = 1, 0
"""The digits that stand for a parity."""


@register_task("parity_recall")
class ParityRecall(ListTask):
    """A list of l iid digits, then for each of its first k a 1 if it was even and a 0 if odd.

    With l = 6 and k = 3::

        time         0   1   2   3   4   5 | 6   7   8
        digit        7   8   9   0   8   3 | 0   1   0
        predictable  .   .   .   .   .   . | *   *   *

    The recalled image is any of its class, drawn anew, so that nothing repeats and only its class
    can be told.

    Oracle KL: of an image whose class c is known, the KL of a new frame of that class less the nats
    that say which class it is, KL(c) - log(1 / P(c)), and at least 0; the mean of that over the two
    parities as often as they come.  This is exact for a prior that can be any mixture over classes,
    and an estimate for a Gaussian one, which fits one class better than ten, so that a model can
    come to lie below it, by about a nat.  A parity by itself is worth at most log 2 = 0.69 nats, so
    that the KL hardly tells whether the task is solved: what is generated is read by a classifier
    as well.  Where the KL of these two classes is unknown, that of any new frame stands in.

    Args:
        images: N digits, among them a 0 and a 1, whose labels are even or odd: ``(N, C, H, W)``.
        list_length: l, at least 1.
        recall_length: k, from 1 to l.

    Raises:
        ValueError: a length is impossible, or there is no image of a 0 or of a 1.
    """

    sources: ClassVar[tuple[str, ...]] = ("digits", "mnist")
    target_classes: ClassVar[tuple[int, ...]] = (FOR_ODD, FOR_EVEN)

    def __init__(self, images: ImageSet, list_length: int = 10, recall_length: int = 5) -> None:
        super().__init__(images, list_length, recall_length)
        check_recalled_once(list_length, recall_length)
        for digit in (FOR_EVEN, FOR_ODD):
            if not (images.labels == digit).any():
                raise ValueError(
                    f"images: got none of a {digit}, must have images of a 0 and of a 1, which "
                    "stand for the parities"
                )
        self._by_class = images.labels.argsort(stable=True)  # images of a class lie together
        self._count = images.labels.bincount()
        self._first = self._count.cumsum(0) - self._count

    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        odd = self.images.labels[listed[: self.recall_length]] % 2 == 1  # (k, B)
        target = torch.where(odd, FOR_ODD, FOR_EVEN)
        # In double precision every image of a class is as likely as the next.
        uniform = torch.rand(
            odd.shape, generator=generator, device=self.device, dtype=torch.float64
        )
        within = (uniform * self._count[target]).long()
        return Recalled(self._by_class[self._first[target] + within], torch.full_like(target, -1))

    def notes(self, batch: Sequences) -> list[list[str]]:
        """The digit, and in the recall phase what it came from, as in ``7→0``: T lists of B."""
        labels = batch.labels.tolist()
        recalled = zip(labels, labels[self.list_length :], strict=False)
        arrows = [
            [f"{digit}→{target}" for digit, target in zip(*rows, strict=True)] for rows in recalled
        ]
        return [[str(digit) for digit in row] for row in labels[: self.list_length]] + arrows

    def _oracle_kl_of_recall(self, new_frame: NewFrameKL) -> Tensor:
        share = self._count.double() / self._count.sum()
        odd = share[1::2].sum().item()
        kl = 0.0
        for digit, weight in ((FOR_EVEN, 1 - odd), (FOR_ODD, odd)):
            known = new_frame.by_class.get(digit, new_frame.mean) + math.log(share[digit].item())
            kl += weight * max(0.0, known)
        return torch.full((self.recall_length,), kl)
