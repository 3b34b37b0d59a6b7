"""One-shot recall: perfect recall of characters of a kind never seen before.

Source: Gemici et al. 2017 (arXiv 1702.04649), Algorithm 1 with Omniglot, Figures 7, 8 and 25. The
paper runs (list_length, recall_length) = (20, 5).
"""

from __future__ import annotations

from typing import ClassVar

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks.base import register_task
from pyro_gtm.tasks.perfect_recall import PerfectRecall


@register_task("one_shot_recall")
class OneShotRecall(PerfectRecall):
    """A list of l iid characters, then its first k again; new characters at every test.

    With l = 6 and k = 3::

                     training                              test
        time         0   1   2   3   4   5 | 6   7   8     0   1   2   3   4   5 | 6   7   8
        frame        α   β   γ   δ   α   ε | α   β   γ     ж   ю   щ   э   ю   ф | ж   ю   щ
        predictable  .   .   .   .   .   . | *   *   *     .   .   .   .   .   . | *   *   *

    The memory must hold what it has met once, in a single sequence, and could not learn by heart:
    no character of the held-out sequences is in the training set. The sources see to that, and no
    others can be used: Omniglot is split by alphabet as published (the paper does not say how it
    split), and the drawn characters of "strokes" by class.

    Oracle KL: as for perfect recall.

    Args:
        images: the N drawings of characters that lists are drawn from: ``(N, C, H, W)``.
        list_length: l, at least 1.
        recall_length: k, from 1 to l.

    Raises:
        ValueError: a length is impossible.
    """

    sources: ClassVar[tuple[str, ...]] = ("strokes", "omniglot")

    def __init__(self, images: ImageSet, list_length: int = 20, recall_length: int = 5) -> None:
        super().__init__(images, list_length, recall_length)
