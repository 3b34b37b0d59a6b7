"""Perfect recall against the paper's Algorithm 1, read literally."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_gtm.data import ImageSet
from pyro_gtm.tasks import PerfectRecall

NUM_IMAGES = 40
SIZES = [(10, 5), (6, 1), (4, 4), (1, 1), (50, 5)]  # (list_length, recall_length)


@pytest.fixture
def images() -> ImageSet:
    """Noise images, all different, whose labels do not tell them apart."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(NUM_IMAGES, 2, 3, 5, generator=generator)
    return ImageSet(pixels, torch.arange(NUM_IMAGES) % 7)


def instances(frames: Tensor, images: ImageSet) -> Tensor:
    """Which image each frame is, bit for bit: (T, B); fails if it is none of them."""
    same = (frames.unsqueeze(2) == images.images).flatten(3).all(-1)
    assert same.sum(-1).eq(1).all()
    return same.int().argmax(-1)


def algorithm_1(list_of_images: list[int], k: int) -> list[int]:
    sequence = list(list_of_images)
    for j in range(k):
        sequence.append(sequence[j])
    return sequence


@pytest.mark.parametrize("list_length, recall_length", SIZES)
@pytest.mark.parametrize("batch_size", [1, 9])
def test_sequences_follow_algorithm_1(
    images: ImageSet, list_length: int, recall_length: int, batch_size: int
) -> None:
    task = PerfectRecall(images, list_length=list_length, recall_length=recall_length)
    frames, controls, labels, predictable = task.sample(batch_size)

    assert task.num_steps == list_length + recall_length
    assert frames.shape == (task.num_steps, batch_size, *task.event_shape)
    assert labels.shape == predictable.shape == (task.num_steps, batch_size)
    assert (labels.dtype, predictable.dtype) == (torch.int64, torch.bool)
    assert controls is None and task.control_dim == 0

    for b, column in enumerate(instances(frames, images).T.tolist()):
        assert column == algorithm_1(column[:list_length], recall_length)
        assert labels[:, b].tolist() == [i % 7 for i in column]
        assert predictable[:, b].tolist() == [False] * list_length + [True] * recall_length


def test_recalled_frames_are_bit_identical(images: ImageSet) -> None:
    frames = PerfectRecall(images, list_length=10, recall_length=5).sample(32).frames
    assert frames[10:].equal(frames[:5])


def test_the_defaults_are_the_first_setting_of_the_paper(images: ImageSet) -> None:
    task = PerfectRecall(images)
    assert (task.list_length, task.recall_length, task.num_steps) == (10, 5, 15)


def test_listed_images_are_uniform_and_independent(images: ImageSet) -> None:
    few = ImageSet(images.images[:4], images.labels[:4])
    generator = torch.Generator().manual_seed(1)
    batch = PerfectRecall(few, list_length=3, recall_length=1).sample(20_000, generator)
    listed = instances(batch.frames[:3], few)
    # Each of the 64 lists is equally likely: within five standard deviations of 312.5.
    counts = (listed * torch.tensor([[16], [4], [1]])).sum(0).bincount(minlength=64)
    assert (counts - 312.5).abs().max() < 5 * (20_000 * (1 / 64) * (63 / 64)) ** 0.5


def test_a_list_may_be_longer_than_the_set(images: ImageSet) -> None:
    one = ImageSet(images.images[:1], images.labels[:1])
    frames = PerfectRecall(one, list_length=5, recall_length=2).sample(3).frames
    assert frames.equal(one.images.expand(7, 3, -1, -1, -1))


def test_seeds_reproduce(images: ImageSet) -> None:
    task = PerfectRecall(images)

    def draw(seed: int) -> Tensor:
        return task.sample(8, torch.Generator().manual_seed(seed)).frames

    assert draw(5).equal(draw(5))
    assert not draw(5).equal(draw(6))

    generator = torch.Generator().manual_seed(5)
    first, second = task.sample(8, generator), task.sample(8, generator)
    assert not first.frames.equal(second.frames)

    torch.manual_seed(5)
    first_global = task.sample(8).frames
    torch.manual_seed(5)
    assert first_global.equal(task.sample(8).frames)


def test_a_generator_leaves_the_global_one_alone(images: ImageSet) -> None:
    before = torch.get_rng_state()
    PerfectRecall(images).sample(4, torch.Generator().manual_seed(0))
    assert torch.get_rng_state().equal(before)


def test_sequences_are_drawn_where_the_images_are(images: ImageSet) -> None:
    task = PerfectRecall(images.to("meta"))
    frames, _, labels, predictable = task.sample(4)
    assert task.device.type == "meta"
    assert {x.device.type for x in (frames, labels, predictable)} == {"meta"}
    with pytest.raises(ValueError, match="generator is on cpu, and must be on meta"):
        task.sample(4, torch.Generator())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_sequences_are_drawn_on_the_gpu(images: ImageSet) -> None:
    task = PerfectRecall(images.to("cuda"))
    batch = task.sample(4, torch.Generator("cuda").manual_seed(0))
    assert batch.frames.is_cuda and batch.labels.is_cuda and batch.predictable.is_cuda
    assert batch.frames[10:].equal(batch.frames[:5])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"list_length": 0}, "list_length must be a whole number of at least 1, got 0"),
        ({"list_length": -3}, "list_length must be a whole number of at least 1, got -3"),
        ({"list_length": 2.5}, "list_length must be a whole number of at least 1, got 2.5"),
        ({"recall_length": 0}, "recall_length must be a whole number of at least 1, got 0"),
        ({"list_length": 3, "recall_length": 4}, "recall_length=4 must be at most list_length=3"),
        ({"list_length": 4}, "recall_length=5 must be at most list_length=4"),
    ],
)
def test_impossible_lengths_are_refused(images: ImageSet, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerfectRecall(images, **options)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "8"])
def test_impossible_batch_sizes_are_refused(images: ImageSet, batch_size: int) -> None:
    with pytest.raises(
        ValueError, match=f"batch_size must be a whole number of at least 1, got {batch_size!r}"
    ):
        PerfectRecall(images).sample(batch_size)


def test_an_empty_set_is_refused(images: ImageSet) -> None:
    with pytest.raises(ValueError, match="images holds no image"):
        PerfectRecall(ImageSet(images.images[:0], images.labels[:0]))
