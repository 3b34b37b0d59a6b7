"""Parity recall against the paper's Algorithm 2, read literally."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import ParityRecall

SIZES = [(10, 5), (20, 5), (50, 5), (1, 1), (6, 1), (4, 4)]  # (list_length, recall_length)


@pytest.mark.parametrize("list_length, recall_length", SIZES)
@pytest.mark.parametrize("batch_size", [1, 9])
def test_sequences_follow_algorithm_2(
    oracles: ModuleType, digits: ImageSet, list_length: int, recall_length: int, batch_size: int
) -> None:
    task = ParityRecall(digits, list_length=list_length, recall_length=recall_length)
    batch = task.sample(batch_size)
    assert task.num_steps == list_length + recall_length
    assert task.num_given == list_length
    oracles.assert_well_formed(task, batch, batch_size)

    for b, column in enumerate(oracles.instances(batch.frames, digits).T.tolist()):
        labels = [digits.labels[i].item() for i in column]
        assert labels[list_length:] == oracles.algorithm_2(labels[:list_length], recall_length)
        assert batch.labels[:, b].tolist() == labels
        assert batch.predictable[:, b].tolist() == [False] * list_length + [True] * recall_length
        assert batch.repeats[:, b].tolist() == [-1] * task.num_steps


def test_figure_5(oracles: ModuleType) -> None:
    """7 8 9 0 8 is followed by 0 1 0 1 1, by the transcription that the task is held to."""
    assert oracles.algorithm_2([7, 8, 9, 0, 8], 5) == [0, 1, 0, 1, 1]


@pytest.mark.parametrize("digit, answer", [(0, 1), (8, 1), (1, 0), (9, 0)])
def test_even_is_answered_with_a_one_and_odd_with_a_zero(
    oracles: ModuleType, digit: int, answer: int
) -> None:
    images = oracles.noise_images([digit] * 30 + [0, 1])
    batch = ParityRecall(images, list_length=4, recall_length=2).sample(200)
    asked = batch.labels[:2] == digit
    assert asked.any()
    assert (batch.labels[4:][asked] == answer).all()


def test_any_image_of_the_class_answers_and_each_as_often(oracles: ModuleType) -> None:
    """Classes of different sizes, not lying together, so that a wrong range would be seen."""
    images = oracles.noise_images([1, 4, 0, 1, 7, 0, 1, 4, 0, 1, 1, 7])
    zeros, ones = [2, 5, 8], [0, 3, 6, 9, 10]
    generator = torch.Generator().manual_seed(0)
    batch = ParityRecall(images, list_length=3, recall_length=2).sample(4_000, generator)
    found = oracles.instances(batch.frames, images)
    even = batch.labels[:2] % 2 == 0
    oracles.assert_uniform(found[3:][even].tolist(), ones)
    oracles.assert_uniform(found[3:][~even].tolist(), zeros)

    # Which image answers depends neither on the one asked about nor on the other answer.
    shown, answer = found[0].tolist(), found[3].tolist()
    pairs = [(s, a) for s, a in zip(shown, answer, strict=True) if a in zeros]
    odd = [i for i, label in enumerate(images.labels.tolist()) if label % 2]
    oracles.assert_uniform(pairs, [(s, a) for s in odd for a in zeros])
    answers = zip(*found[3:, even.all(0)].tolist(), strict=True)
    oracles.assert_uniform(answers, [(a, b) for a in ones for b in ones])


def test_a_single_zero_and_a_single_one_are_enough(oracles: ModuleType) -> None:
    images = oracles.noise_images([0, 1])
    batch = ParityRecall(images, list_length=3, recall_length=3).sample(20)
    assert batch.labels[3:].equal(1 - batch.labels[:3])  # 0 is even: a 1


@pytest.mark.parametrize(
    "labels, missing", [([1, 2, 3], 0), ([0, 2, 4], 1), ([1] * 5, 0), ([0] * 5, 1)]
)
def test_a_set_without_the_digits_to_answer_with_is_refused(
    oracles: ModuleType, labels: list[int], missing: int
) -> None:
    message = oracles.refusal(lambda: ParityRecall(oracles.noise_images(labels)))
    assert message.startswith(f"images: got none of a {missing}")


def test_the_defaults_are_the_first_setting_of_the_paper(digits: ImageSet) -> None:
    task = ParityRecall(digits)
    assert (task.list_length, task.recall_length) == (10, 5)


def test_no_more_is_recalled_than_was_shown(oracles: ModuleType, digits: ImageSet) -> None:
    message = oracles.refusal(lambda: ParityRecall(digits, list_length=4, recall_length=5))
    assert "recall_length: got 5, must be at most list_length=4" in message
