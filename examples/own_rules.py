"""Three tasks of your own: rules that no memory here was made for.

    python examples/own_rules.py
    cd examples && pyro-gtm train --import own_rules --task backwards --memory associative

A list is shown, and then a part of it, by a rule:

- ``backwards``: from its end to its beginning.
- ``every_second``: every second image, from the first on.
- ``what_came_before``: a cue, any image of the list, and then what stood before it, and before
  that.

Run as a script, it prints a sequence of each rule as the labels of its digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet, load_data
from pyro_gtm.tasks import make_task
from pyro_gtm.tasks.base import register_task
from pyro_gtm.tasks.lists import ListTask, Recalled, check_recalled_once

RULES = ("backwards", "every_second", "what_came_before")


@register_task("backwards")
class Backwards(ListTask):
    """The last k images of the list, the last first."""

    def __init__(self, images: ImageSet, list_length: int = 10, recall_length: int = 5) -> None:
        super().__init__(images, list_length, recall_length)
        check_recalled_once(list_length, recall_length)

    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        step = self.list_length - 1 - torch.arange(self.recall_length, device=self.device)
        return self._from_list(listed, step.unsqueeze(1).expand(-1, listed.shape[1]))


@register_task("every_second")
class EverySecond(ListTask):
    """Images 0, 2, 4, ... of the list."""

    def __init__(self, images: ImageSet, list_length: int = 10, recall_length: int = 5) -> None:
        super().__init__(images, list_length, recall_length)
        check_recalled_once(list_length, 2 * recall_length - 1)

    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        step = 2 * torch.arange(self.recall_length, device=self.device)
        return self._from_list(listed, step.unsqueeze(1).expand(-1, listed.shape[1]))


@register_task("what_came_before")
class WhatCameBefore(ListTask):
    """A cue, uniform over the images of the list but for the first k - 1, and those before it."""

    def __init__(self, images: ImageSet, list_length: int = 20, recall_length: int = 5) -> None:
        super().__init__(images, list_length, recall_length)
        check_recalled_once(list_length, recall_length)

    @property
    def num_given(self) -> int:
        """The list and the cue."""
        return self.list_length + 1

    def _recall(self, listed: Tensor, generator: torch.Generator | None) -> Recalled:
        least = self.recall_length - 1
        cue = torch.randint(
            least, self.list_length, (1, listed.shape[1]), generator=generator, device=self.device
        )
        back = torch.arange(self.recall_length, device=self.device).unsqueeze(1)
        return self._from_list(listed, cue - back)


def main() -> None:
    """Print a sequence of each rule."""
    images = load_data("digits").test
    for rule in RULES:
        task = make_task(rule, images)
        labels = task.sample(1, torch.Generator().manual_seed(0)).labels[:, 0].tolist()
        listed, recalled = labels[: task.list_length], labels[task.list_length :]
        print(f"{rule:18}{' '.join(map(str, listed))} | {' '.join(map(str, recalled))}")


if __name__ == "__main__":
    main()
