"""One-shot recall: the paper's Algorithm 1 over characters that training has never shown."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet, ImageSplits, load_omniglot, load_strokes
from pyro_gtm.tasks import OneShotRecall

SIZES = [(20, 5), (10, 5), (50, 5), (1, 1), (6, 1), (4, 4)]  # (list_length, recall_length)


@pytest.fixture(scope="module")
def strokes() -> ImageSplits:
    return load_strokes(train_classes=30, test_classes=12, drawings=4)


@pytest.fixture(scope="module")
def omniglot(data_dir: Path) -> ImageSplits:
    """The real characters, where they are at hand."""
    return load_omniglot(data_dir)


@pytest.fixture(params=["strokes", "omniglot"])
def splits(request: pytest.FixtureRequest) -> ImageSplits:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("list_length, recall_length", SIZES)
@pytest.mark.parametrize("batch_size", [1, 9])
def test_sequences_follow_algorithm_1(
    oracles: ModuleType, list_length: int, recall_length: int, batch_size: int
) -> None:
    """The very drawing is shown again, among three others of its character."""
    images = oracles.noise_images([i // 4 for i in range(40)])
    task = OneShotRecall(images, list_length=list_length, recall_length=recall_length)
    batch = task.sample(batch_size)
    assert (task.num_steps, task.num_given) == (list_length + recall_length, list_length)
    oracles.assert_well_formed(task, batch, batch_size)

    steps = oracles.algorithm_1(range(list_length), recall_length)
    for b, column in enumerate(oracles.instances(batch.frames, images).T.tolist()):
        assert column == oracles.algorithm_1(column[:list_length], recall_length)
        assert batch.labels[:, b].tolist() == [i // 4 for i in column]
        assert batch.predictable[:, b].tolist() == [False] * list_length + [True] * recall_length
        assert batch.repeats[:, b].tolist() == [-1] * list_length + steps[list_length:]


def test_characters_of_the_test_are_never_seen_in_training(splits: ImageSplits) -> None:
    learnt, judged = (set(split.labels.tolist()) for split in splits)
    assert len(learnt) > 1 and len(judged) > 1
    assert learnt.isdisjoint(judged)

    shown = [OneShotRecall(split).sample(16, torch.Generator().manual_seed(0)) for split in splits]
    for batch, split in zip(shown, splits, strict=True):
        assert batch.frames.shape == (25, 16, *split.event_shape)
        assert batch.frames[20:].equal(batch.frames[:5])
        assert set(batch.labels.flatten().tolist()) <= set(split.labels.tolist())
    assert not drawings(shown[0].frames.flatten(0, 1)) & drawings(shown[1].frames.flatten(0, 1))


def test_no_drawing_is_in_both_splits_of_the_strokes(strokes: ImageSplits) -> None:
    learnt, judged = (drawings(split.images) for split in strokes)
    assert (len(learnt), len(judged)) == (120, 48)
    assert not learnt & judged


def drawings(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_the_defaults_are_the_setting_of_the_paper(digits: ImageSet) -> None:
    task = OneShotRecall(digits)
    assert (task.list_length, task.recall_length) == (20, 5)


def test_no_more_is_recalled_than_was_shown(oracles: ModuleType, digits: ImageSet) -> None:
    message = oracles.refusal(lambda: OneShotRecall(digits, list_length=20, recall_length=21))
    assert "recall_length: got 21, must be at most list_length=20" in message
