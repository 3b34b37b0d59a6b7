"""Perfect recall against the paper's Algorithm 1, read literally."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import PerfectRecall

SIZES = [(10, 5), (20, 5), (50, 5), (1, 1), (6, 1), (4, 4)]  # (list_length, recall_length)


@pytest.fixture
def images(oracles: ModuleType) -> ImageSet:
    """Noise images, all different, whose labels do not tell them apart."""
    return oracles.noise_images([i % 7 for i in range(40)])


@pytest.mark.parametrize("list_length, recall_length", SIZES)
@pytest.mark.parametrize("batch_size", [1, 9])
def test_sequences_follow_algorithm_1(
    oracles: ModuleType, images: ImageSet, list_length: int, recall_length: int, batch_size: int
) -> None:
    task = PerfectRecall(images, list_length=list_length, recall_length=recall_length)
    batch = task.sample(batch_size)
    assert task.num_steps == list_length + recall_length
    assert task.num_given == list_length
    oracles.assert_well_formed(task, batch, batch_size)

    steps = oracles.algorithm_1(range(list_length), recall_length)
    for b, column in enumerate(oracles.instances(batch.frames, images).T.tolist()):
        assert column == oracles.algorithm_1(column[:list_length], recall_length)
        assert batch.labels[:, b].tolist() == [i % 7 for i in column]
        assert batch.predictable[:, b].tolist() == [False] * list_length + [True] * recall_length
        assert batch.repeats[:, b].tolist() == [-1] * list_length + steps[list_length:]


def test_recalled_frames_are_bit_identical(images: ImageSet) -> None:
    frames = PerfectRecall(images, list_length=10, recall_length=5).sample(32).frames
    assert frames[10:].equal(frames[:5])


def test_the_defaults_are_the_first_setting_of_the_paper(images: ImageSet) -> None:
    task = PerfectRecall(images)
    assert (task.list_length, task.recall_length, task.num_steps) == (10, 5, 15)


def test_listed_images_are_uniform_and_independent(oracles: ModuleType, images: ImageSet) -> None:
    few = ImageSet(images.images[:4], images.labels[:4])
    generator = torch.Generator().manual_seed(1)
    batch = PerfectRecall(few, list_length=3, recall_length=1).sample(5_000, generator)
    listed = oracles.instances(batch.frames[:3], few)
    numbers = (listed * torch.tensor([[16], [4], [1]])).sum(0)  # one for each of the 64 lists
    oracles.assert_uniform(numbers.tolist(), range(64))


def test_a_list_may_be_longer_than_the_set(images: ImageSet) -> None:
    one = ImageSet(images.images[:1], images.labels[:1])
    batch = PerfectRecall(one, list_length=5, recall_length=2).sample(3)
    assert batch.frames.equal(one.images.expand(7, 3, -1, -1, -1))
    assert batch.repeats[:, 0].tolist() == [-1] * 5 + [0, 1]  # the rule's steps, not the first


def test_sequences_are_drawn_where_the_images_are(images: ImageSet) -> None:
    task = PerfectRecall(images.to("meta"))
    batch = task.sample(4)
    assert task.device.type == "meta"
    assert {x.device.type for x in batch if x is not None} == {"meta"}
    with pytest.raises(ValueError, match="generator: got one on cpu, must be on meta"):
        task.sample(4, torch.Generator())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_sequences_are_drawn_on_the_gpu(images: ImageSet) -> None:
    task = PerfectRecall(images.to("cuda"))
    batch = task.sample(4, torch.Generator("cuda").manual_seed(0))
    assert all(x.is_cuda for x in batch if x is not None)
    assert batch.frames[10:].equal(batch.frames[:5])


@pytest.mark.parametrize(
    "options, expected",
    [
        (
            {"list_length": 3, "recall_length": 4},
            "got 4, must be at most list_length=3",
        ),
        ({"list_length": 4}, "got 5, must be at most list_length=4"),
        ({"recall_length": 11}, "got 11, must be at most list_length=10"),
    ],
)
def test_no_more_is_recalled_than_was_shown(
    oracles: ModuleType, images: ImageSet, options: dict[str, int], expected: str
) -> None:
    message = oracles.refusal(lambda: PerfectRecall(images, **options))
    assert message == f"recall_length: {expected}"
