"""Similarity-cued recall against the paper's Algorithm 4, read literally."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import SimilarityCuedRecall

SIZES = [(20, 5), (10, 5), (50, 5), (2, 1), (6, 1), (5, 4)]  # (list_length, recall_length)


@pytest.mark.parametrize("list_length, recall_length", SIZES)
@pytest.mark.parametrize("batch_size", [1, 9])
def test_sequences_follow_algorithm_4(
    oracles: ModuleType, digits: ImageSet, list_length: int, recall_length: int, batch_size: int
) -> None:
    task = SimilarityCuedRecall(digits, list_length=list_length, recall_length=recall_length)
    batch = task.sample(batch_size)
    assert task.num_steps == list_length + recall_length
    oracles.assert_well_formed(task, batch, batch_size)

    for b, column in enumerate(oracles.instances(batch.frames, digits).T.tolist()):
        r = batch.repeats[list_length, b].item() + 1
        assert r in oracles.starts(list_length, recall_length)
        assert column == oracles.algorithm_4(column[:list_length], recall_length, r)
        steps = oracles.algorithm_4(range(list_length), recall_length, r)
        assert batch.repeats[:, b].tolist() == [-1] * list_length + steps[list_length:]
        assert batch.labels[:, b].tolist() == [i % 10 for i in column]
        assert batch.predictable[:, b].tolist() == [False] * list_length + [True] * recall_length


@pytest.mark.parametrize(
    "list_length, recall_length, num_starts",
    [(20, 5, 15), (6, 2, 4), (3, 2, 1), (2, 1, 1), (7, 1, 6)],
)
def test_recall_begins_anywhere_but_at_the_last_possible_place(
    oracles: ModuleType, list_length: int, recall_length: int, num_starts: int
) -> None:
    """The start is read from the frames: with 5,000 images a list hardly holds one twice."""
    images = oracles.noise_images([0] * 5_000)
    task = SimilarityCuedRecall(images, list_length=list_length, recall_length=recall_length)
    batch = task.sample(1_500, torch.Generator().manual_seed(0))
    found = []
    for column in oracles.instances(batch.frames, images).T.tolist():
        listed, cue = column[:list_length], column[list_length]
        if listed.count(cue) == 1:
            found.append(listed.index(cue) + 1)
    possible = oracles.starts(list_length, recall_length)
    assert possible == list(range(1, num_starts + 1))
    assert len(found) > 1_400
    oracles.assert_uniform(found, possible)


def test_the_cue_is_given_before_generation_begins(digits: ImageSet) -> None:
    assert SimilarityCuedRecall(digits, list_length=6, recall_length=2).num_given == 7
    assert SimilarityCuedRecall(digits, list_length=6, recall_length=1).num_given == 6


@pytest.mark.parametrize("list_length, recall_length", [(1, 1), (5, 5), (3, 4), (4, 5)])
def test_recall_must_leave_a_choice_of_places(
    oracles: ModuleType, digits: ImageSet, list_length: int, recall_length: int
) -> None:
    message = oracles.refusal(
        lambda: SimilarityCuedRecall(digits, list_length=list_length, recall_length=recall_length)
    )
    assert (
        f"recall_length: got {recall_length}, must be less than list_length={list_length}"
        in message
    )


def test_the_defaults_are_the_setting_of_the_paper(digits: ImageSet) -> None:
    task = SimilarityCuedRecall(digits)
    assert (task.list_length, task.recall_length) == (20, 5)


def test_sequences_are_drawn_where_the_images_are(digits: ImageSet) -> None:
    task = SimilarityCuedRecall(digits.to("meta"))
    assert {x.device.type for x in task.sample(4) if x is not None} == {"meta"}
    with pytest.raises(ValueError, match="generator: got one on cpu, must be on meta"):
        task.sample(4, torch.Generator())
