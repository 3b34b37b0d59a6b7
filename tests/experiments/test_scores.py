"""Scores of generated frames: right where they are right, and at chance where nothing is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import pyro_gtm as gtm
from pyro_gtm.experiments.classifier import Classifier
from pyro_gtm.experiments.scores import Score, class_score, nearest_image_score


def recall(num_listed, num_recalled, batch_size):
    """Repeats of a list that is recalled from its beginning: ``(T, B)``."""
    listed, recalled = torch.full((num_listed,), -1), torch.arange(num_recalled)
    return torch.cat([listed, recalled]).unsqueeze(1).expand(-1, batch_size)


def walk(num_steps, batch_size, cells=8):
    """Cells stepped on along walks on a ring, and the repeats: two of ``(T, B)``."""
    steps = 2 * torch.randint(2, (num_steps, batch_size)) - 1
    path = steps.cumsum(0) % cells
    repeats = torch.full_like(path, -1)
    for t in range(num_steps):
        for s in reversed(range(t)):
            repeats[t] = torch.where(path[s] == path[t], s, repeats[t])
    return path, repeats


def along(path, images):
    """What lies in the cells of a path: ``(cells, B, C, H, W) -> (T, B, C, H, W)``."""
    return images.gather(0, path[..., None, None, None].expand(-1, -1, *images.shape[2:]))


def plain_score(output, repeats, num_given):
    """Frame by frame: accuracies and chances of those judged."""
    accuracies, chances = [], []
    num_steps, batch_size = repeats.shape
    for t in range(num_given, num_steps):
        for b in range(batch_size):
            right = int(repeats[t, b])
            if right < 0:
                continue
            frames = [frame.flatten().tolist() for frame in output[:, b]]
            candidates = [
                s for s in range(t) if repeats[s, b] < 0 and (s < num_given) == (right < num_given)
            ]
            as_good = {s for s in candidates if right < num_given and frames[s] == frames[right]}
            as_good.add(right)
            far = {
                s: sum((x - y) ** 2 for x, y in zip(frames[s], frames[t], strict=True))
                for s in candidates
            }
            nearest = {s for s in candidates if far[s] == min(far.values())}
            accuracies.append(len(nearest & as_good) / len(nearest))
            chances.append(len(as_good) / len(candidates))
    return accuracies, chances


@pytest.mark.parametrize("num_given", [1, 4, 9])
@pytest.mark.parametrize("values", [2, 3])
def test_equals_a_plain_loop(num_given, values):
    """Frames of three pixels with few values: full of equal images and of ties."""
    _, repeats = walk(12, 40, cells=6)
    output = torch.randint(values, (12, 40, 1, 1, 3)).float()
    accuracies, chances = plain_score(output, repeats, num_given)
    assert sum(1 for accuracy in accuracies if accuracy not in (0, 1)) > 0
    score = nearest_image_score(output, repeats, num_given)
    assert score.num_frames == len(accuracies)
    assert score.accuracy == pytest.approx(sum(accuracies) / len(accuracies))
    assert score.chance == pytest.approx(sum(chances) / len(chances))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_copies_are_right(noise):
    """Of what was given and of what was generated, exactly or nearly."""
    path, repeats = walk(20, 50)
    images = torch.rand(8, 50, 1, 6, 6).round()
    output = along(path, images)
    output[10:] += noise * torch.rand(10, 50, 1, 6, 6)
    score = nearest_image_score(output, repeats, num_given=10)
    assert score.accuracy == 1.0
    assert score.chance < 0.5
    assert score.num_frames == (repeats[10:] >= 0).sum()


def test_the_wrong_copies_are_wrong():
    listed = torch.rand(6, 50, 1, 5, 5)
    score = nearest_image_score(torch.cat([listed, listed[1:4]]), recall(6, 3, 50), 6)
    assert score == Score(0.0, pytest.approx(1 / 6), 150)


def test_either_of_two_equal_images_of_a_list_is_right():
    listed = torch.rand(4, 1, 1, 5, 5)
    listed[3] = listed[0]
    score = nearest_image_score(torch.cat([listed, listed[:2]]), recall(4, 2, 1), 4)
    assert score == Score(1.0, pytest.approx((2 / 4 + 1 / 4) / 2), 2)


def test_a_tie_counts_for_its_share():
    """Between what was made up, however equal, and between given images that differ."""
    blank = torch.zeros(5, 1, 1, 2, 2)
    repeats = torch.tensor([-1, -1, -1, -1, 2]).unsqueeze(1)
    assert nearest_image_score(blank, repeats, 1).accuracy == pytest.approx(1 / 3)
    left, top = torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([[1.0, 1], [0, 0]])
    output = torch.stack([left, top, (left + top) / 2])[:, None, None]
    assert nearest_image_score(output, recall(2, 1, 1), 2).accuracy == pytest.approx(1 / 2)


def test_given_frames_are_not_judged():
    repeats = torch.tensor([-1, 0, -1, 0, -1]).unsqueeze(1)
    output = torch.rand(5, 1, 1, 3, 3)
    assert nearest_image_score(output, repeats, 2).num_frames == 1
    assert nearest_image_score(output, repeats, 4) == Score(None, None, 0)


def assert_at_chance(score, num_independent):
    """Within four standard errors of as many independent frames."""
    error = math.sqrt(score.chance * (1 - score.chance) / num_independent)
    assert abs(score.accuracy - score.chance) < 4 * error
    assert 4 * error < 0.3 * score.chance


@pytest.mark.parametrize("intensity", [0.0, 0.3, 1.0])
def test_the_same_image_ever_again_is_at_chance_after_a_list(intensity):
    output = torch.rand(12, 3000, 1, 4, 4)
    output[8:] = intensity
    assert_at_chance(nearest_image_score(output, recall(8, 4, 3000), 8), 3000)


@pytest.mark.parametrize("num_given", [2, 8, 14])
def test_the_same_image_ever_again_is_at_chance_on_a_walk(num_given):
    """Where most returns are to a recent frame, and so to one that is itself generated."""
    path, repeats = walk(16, 4000)
    images = torch.rand(8, 4000, 1, 4, 4)
    output = along(path, images)
    output[num_given:] = 0.4
    assert_at_chance(nearest_image_score(output, repeats, num_given), 4000)


@pytest.mark.parametrize("sample", [False, True])
def test_an_untrained_model_is_at_chance(memory_name, sample, make_model, make_frames):
    pair, listed = make_model(memory_name), make_frames(6, 2000)
    output = gtm.continue_frames(*pair, listed, num_steps=9, sample=sample)
    assert_at_chance(nearest_image_score(output, recall(6, 3, 2000), 6), 2000)


@pytest.mark.parametrize(
    "repeats",
    [[-1, -1, 2, -1], [-1, 0, 1, -1], [-1, -1, 3, -1], [-1, -2, 0, 0], [0, -1, -1, -1]],
    ids=["itself", "a repeat", "later", "below -1", "the first"],
)
def test_repeats_of_no_earlier_new_frame_are_refused(repeats):
    with pytest.raises(
        ValueError, match=r"repeats: got -?\d at step \d of sequence 0, must be -1 or an"
    ):
        nearest_image_score(torch.rand(4, 1, 1, 2, 2), torch.tensor(repeats).unsqueeze(1), 2)


def test_frames_that_are_no_numbers_are_refused():
    output = torch.rand(9, 5, 1, 2, 2)
    output[7, 2, 0, 1, 1] = math.nan
    with pytest.raises(ValueError, match="output: got NaN or infinity"):
        nearest_image_score(output, recall(6, 3, 5), 6)


@pytest.mark.parametrize("shape", [(5, 9), (9, 1), (9,), (9, 5, 1)])
def test_shapes_that_do_not_fit_are_refused(shape):
    output, other = torch.rand(9, 5, 1, 2, 2), torch.zeros(shape, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"repeats: got shape \(.*\), must be \(9, 5\)"):
        nearest_image_score(output, other, 6)
    with pytest.raises(ValueError, match=r"target: got shape \(.*\), must be \(9, 5\)"):
        class_score(output, other, PIXELS, (0, 1), torch.ones(9, 5, dtype=torch.bool))
    target = torch.zeros(9, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"judged: got shape \(.*\), must be \(9, 5\)"):
        class_score(output, target, PIXELS, (0, 1), other.bool())


PIXELS = Classifier(nn.Flatten(-3), (1, 5, 5), 25)
"""The class of an image is the number of its brightest pixel."""


def images_of(classes):
    """Faint images that have them: ``(*batch) -> (*batch, 1, 5, 5)``."""
    return 0.1 * nn.functional.one_hot(classes, 25).float().unflatten(-1, (1, 5, 5))


def test_only_frames_judged_count():
    target = torch.randint(2, (6, 30))
    judged = torch.rand(6, 30) < 0.4
    shown = torch.where(judged, target, 1 - target)
    score = class_score(images_of(shown), target, PIXELS, (0, 1), judged)
    assert score.accuracy == 1.0 and score.num_frames == judged.sum()
    assert class_score(images_of(1 - shown), target, PIXELS, (0, 1), judged).accuracy == 0.0


def test_accuracy_is_the_share_of_right_readings():
    target, shown = torch.tensor([[4, 4, 7, 9]]), torch.tensor([[4, 7, 7, 7]])
    judged = torch.tensor([[True, True, True, False]])
    score = class_score(images_of(shown), target, PIXELS, (4, 7), judged)
    assert score == Score(pytest.approx(2 / 3), pytest.approx(2 / 3), 3)


def test_chance_is_what_the_best_constant_answer_gets():
    """More than one in two, where one class is more frequent."""
    target = (torch.rand(10, 200) < 0.3).long()
    judged = torch.ones(10, 200, dtype=torch.bool)
    scores = [
        class_score(images_of(torch.full_like(target, c)), target, PIXELS, (0, 1), judged)
        for c in (0, 1)
    ]
    assert scores[0].chance == scores[1].chance == scores[0].accuracy
    assert scores[0].accuracy == pytest.approx(0.7, abs=0.04)
    assert scores[1].accuracy == pytest.approx(1 - scores[0].accuracy)


@pytest.mark.parametrize("sample", [False, True])
def test_an_untrained_models_classes_are_at_chance(memory_name, sample, make_model, make_frames):
    """Whatever it shows is read as one of the two."""
    pair, listed = make_model(memory_name), make_frames(3, 3000)
    output = gtm.continue_frames(*pair, listed, num_steps=4, sample=sample)
    target = torch.randint(2, (4, 3000))
    judged = (torch.arange(4) >= 3).unsqueeze(1).expand(4, 3000)
    score = class_score(output, target, PIXELS, (0, 1), judged)
    assert score.num_frames == 3000
    assert score.chance == pytest.approx(0.5, abs=0.04)
    assert_at_chance(score, 3000)


def test_nothing_judged_is_no_number():
    target, judged = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.bool)
    assert class_score(images_of(target), target, PIXELS, (0, 1), judged) == Score(None, None, 0)


def test_a_target_that_is_none_of_those_given_is_refused():
    target = torch.tensor([[0, 1, 5]])
    judged = torch.tensor([[True, True, True]])
    with pytest.raises(ValueError, match=r"target: got the classes \[0, 1, 5\] .* among \(0, 1\)"):
        class_score(images_of(target), target, PIXELS, (0, 1), judged)
    judged[0, 2] = False
    assert class_score(images_of(target), target, PIXELS, (0, 1), judged).accuracy == 1.0
