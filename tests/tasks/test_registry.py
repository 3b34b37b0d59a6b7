"""Tasks by name, and a task of a user's own."""

from __future__ import annotations

import pytest
import torch

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import (
    ImageTask,
    NewFrameKL,
    PerfectRecall,
    Sequences,
    Task,
    make_task,
    register_task,
    task_names,
)
from pyro_gtm.tasks.base import TASKS


@pytest.fixture
def images() -> ImageSet:
    return ImageSet(torch.rand(6, 1, 2, 2), torch.arange(6))


@pytest.fixture(autouse=True)
def restored_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "classes", dict(TASKS.classes))


def define_slideshow() -> type[Task]:
    """A task as a user would write it, with a control: the set in order, told where it starts."""

    @register_task("slideshow")
    class Slideshow(ImageTask):
        control_dim = 1

        def __init__(self, images: ImageSet, length: int = 3) -> None:
            super().__init__(images)
            self.length = length

        @property
        def num_steps(self) -> int:
            return self.length

        @property
        def num_given(self) -> int:
            return 1

        def oracle_kl(self, new_frame: NewFrameKL) -> torch.Tensor:
            return torch.zeros(self.length)

        def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences:
            start = self._draw(batch_size, generator=generator)
            time = torch.arange(self.length, device=self.device).unsqueeze(1)
            index = (start + time) % len(self.images.labels)
            controls = start.float().expand(self.length, -1).unsqueeze(-1)
            told = torch.ones_like(index, dtype=torch.bool)
            return self._show(index, told, torch.full_like(index, -1), controls)

    return Slideshow


def test_perfect_recall_is_known_by_name(images: ImageSet) -> None:
    assert "perfect_recall" in task_names()
    task = make_task("perfect_recall", images, list_length=4, recall_length=2)
    assert isinstance(task, PerfectRecall)
    assert task.name == "perfect_recall"
    assert task.num_steps == 6


def test_a_users_task_is_found_like_any_other(images: ImageSet) -> None:
    define_slideshow()
    assert task_names() == tuple(sorted(task_names())) and "slideshow" in task_names()
    batch = make_task("slideshow", images, length=4).sample(5)
    assert batch.frames.shape == (4, 5, 1, 2, 2)
    assert batch.controls is not None and batch.controls.shape == (4, 5, 1)
    assert batch.labels.equal((batch.controls.squeeze(-1).long() + torch.arange(4)[:, None]) % 6)


def test_unknown_task_is_refused_with_the_list(images: ImageSet) -> None:
    with pytest.raises(
        ValueError, match=r"task: got 'imperfect_recall', must be one of .*perfect_recall"
    ):
        make_task("imperfect_recall", images)


def test_unknown_option_is_refused_with_the_list(images: ImageSet) -> None:
    with pytest.raises(ValueError, match=r"no option 'length'; .*list_length, recall_length"):
        make_task("perfect_recall", images, length=4)


def test_impossible_option_is_refused_by_the_task(images: ImageSet) -> None:
    with pytest.raises(ValueError, match=r"list_length.* got 0"):
        make_task("perfect_recall", images, list_length=0)


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="'perfect_recall' is taken by PerfectRecall"):

        @register_task("perfect_recall")
        class Other(PerfectRecall):
            pass

    assert PerfectRecall.name == "perfect_recall"


def test_a_class_may_be_defined_again(images: ImageSet) -> None:
    define_slideshow()
    newest = define_slideshow()
    assert type(make_task("slideshow", images)) is newest
