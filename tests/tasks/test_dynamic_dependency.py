"""Dynamic dependency against the paper's Algorithm 3, read literally."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import DynamicDependency

# (list_length, recall_length), for the digits 0..9; the last recalls more than it showed
SIZES = [(20, 5), (10, 5), (50, 5), (20, 1), (10, 10), (11, 14)]


def test_figure_9(oracles: ModuleType) -> None:
    """The list ends in an 8; at 8 lies a 3, at 3 a 0, at 0 a 7, at 7 a 4, at 4 a 6."""
    labels = [7, 5, 5, 0, 6, 5, 5, 4, 3, 5, 8]
    steps = oracles.algorithm_3(range(11), labels, 5)
    assert steps[11:] == [8, 3, 0, 7, 4]
    assert [labels[s] for s in steps[11:]] == [3, 0, 7, 4, 6]


def check(oracles: ModuleType, task: DynamicDependency, images: ImageSet, batch_size: int) -> None:
    l, k = task.list_length, task.recall_length  # noqa: E741
    batch = task.sample(batch_size)
    assert (task.num_steps, task.num_given) == (l + k, l)
    oracles.assert_well_formed(task, batch, batch_size)

    for b, column in enumerate(oracles.instances(batch.frames, images).T.tolist()):
        labels = [images.labels[i].item() for i in column]
        assert batch.labels[:, b].tolist() == labels
        assert column == oracles.algorithm_3(column[:l], labels[:l], k)
        assert batch.predictable[:, b].tolist() == [False] * l + [True] * k
        steps = oracles.algorithm_3(range(l), labels[:l], k)
        assert batch.repeats[:, b].tolist() == [-1] * l + steps[l:]


@pytest.mark.parametrize("list_length, recall_length", SIZES)
@pytest.mark.parametrize("batch_size", [1, 9])
def test_sequences_follow_algorithm_3(
    oracles: ModuleType, digits: ImageSet, list_length: int, recall_length: int, batch_size: int
) -> None:
    task = DynamicDependency(digits, list_length=list_length, recall_length=recall_length)
    check(oracles, task, digits, batch_size)


@pytest.mark.parametrize("list_length, recall_length", [(2, 1), (2, 2), (2, 3), (3, 3), (4, 2)])
def test_every_list_of_two_classes_follows_algorithm_3(
    oracles: ModuleType, list_length: int, recall_length: int
) -> None:
    """So small that a batch holds all 16, 64 or 256 lists of four images (all but surely)."""
    images = oracles.noise_images([0, 1, 1, 0])
    task = DynamicDependency(images, list_length=list_length, recall_length=recall_length)
    torch.manual_seed(0)
    check(oracles, task, images, 3_000)
    torch.manual_seed(0)
    listed = oracles.instances(task.sample(3_000).frames[:list_length], images)
    assert len(set(zip(*listed.tolist(), strict=True))) == 4**list_length


@pytest.mark.parametrize("label, list_length", [(3, 4), (0, 1), (0, 4), (2, 7)])
def test_one_class_alone_keeps_pointing_at_the_same_place(
    oracles: ModuleType, label: int, list_length: int
) -> None:
    images = oracles.noise_images([label] * 8)
    task = DynamicDependency(images, list_length=list_length, recall_length=3)
    check(oracles, task, images, 5)
    assert (task.sample(5).repeats[list_length:] == label).all()


@pytest.mark.parametrize("classes, list_length", [(1, 1), (4, 4), (4, 6), (10, 10)])
def test_images_of_a_few_classes_make_shorter_lists(
    oracles: ModuleType, digits: ImageSet, classes: int, list_length: int
) -> None:
    task = DynamicDependency(digits, list_length=list_length, recall_length=2, classes=classes)
    check(oracles, task, digits, 9)
    labels = task.sample(200).labels
    assert set(labels.unique().tolist()) == set(range(classes)), "and all of them are shown"
    assert task.published_as is None


@pytest.mark.parametrize(("classes", "least"), [(3, 3), (1, 5)])
def test_no_image_of_the_classes_is_refused(oracles: ModuleType, classes: int, least: int) -> None:
    images = oracles.noise_images([least, 9])
    message = oracles.refusal(lambda: DynamicDependency(images, classes=classes))
    assert message == (
        f"classes: got {classes}, must be more than the least label, {least}, so that there are "
        "images to show"
    )


def test_classes_must_be_counted(oracles: ModuleType, digits: ImageSet) -> None:
    message = oracles.refusal(lambda: DynamicDependency(digits, classes=0))
    assert "classes must be a positive integer, got 0" in message
    message = oracles.refusal(lambda: DynamicDependency(digits, list_length=4, classes=5))
    assert "list_length: got 4, must be more than the greatest label, 4" in message


def test_curriculum_has_addresses_for_its_lists(digits: ImageSet) -> None:
    sizes = DynamicDependency(digits, list_length=14, recall_length=5).curriculum()
    assert sizes == [
        {"list_length": 4, "recall_length": 2, "classes": 4},
        {"list_length": 6, "recall_length": 3, "classes": 6},
        {"list_length": 8, "recall_length": 4, "classes": 8},
        {"list_length": 10, "recall_length": 5},
        {"list_length": 12, "recall_length": 5},
    ]


@pytest.mark.parametrize(
    "labels, list_length", [([0, 9], 9), ([3, 3], 3), ([0, 1], 1), (list(range(10)), 5)]
)
def test_an_address_outside_the_list_is_refused(
    oracles: ModuleType, labels: list[int], list_length: int
) -> None:
    images = oracles.noise_images(labels)
    message = oracles.refusal(
        lambda: DynamicDependency(images, list_length=list_length, recall_length=1)
    )
    assert (
        f"list_length: got {list_length}, must be more than the greatest label, {max(labels)}"
        in message
    )


def test_the_defaults_are_the_setting_of_the_paper(digits: ImageSet) -> None:
    task = DynamicDependency(digits)
    assert (task.list_length, task.recall_length) == (20, 5)
