"""The classifier that reads generated digits."""

from __future__ import annotations

import pyro
import pytest
import torch

from pyro_gtm.experiments.classifier import train_classifier
from pyro_gtm.experiments.data import ImageSet, load_digits
from pyro_gtm.experiments.scores import class_score


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def classifier(digits):
    return train_classifier(*digits.train)


@pytest.fixture
def few():
    """Three classes of noise: an image of class c has all its ink in row c."""
    labels = torch.arange(60) % 3
    images = torch.zeros(60, 1, 3, 4)
    images[torch.arange(60), 0, labels] = torch.rand(60, 4).round()
    return ImageSet(images, labels)


def test_reads_digits_it_has_not_seen(classifier, digits):
    assert classifier.accuracy(*digits.test) >= 0.95
    assert classifier.accuracy(*digits.test, (0, 1)) >= 0.99


def test_digits_themselves_score_as_what_they_are(classifier, digits):
    """Against the wrong classes, they score as what they are not."""
    is_answer = digits.test.labels < 2
    frames, labels = (tensor[is_answer].unsqueeze(0) for tensor in digits.test)  # (1, B, ...)
    judged = torch.ones_like(labels, dtype=torch.bool)
    assert class_score(frames, labels, classifier, (0, 1), judged).accuracy >= 0.99
    assert class_score(frames, 1 - labels, classifier, (0, 1), judged).accuracy <= 0.01


def test_reads_among_the_classes_given(classifier, digits):
    """An image of none of them is read as one of them, the likelier of the two."""
    images = digits.test.images[:40].reshape(4, 10, 1, 28, 28)
    logits = classifier.logits(images)
    assert logits.shape == (4, 10, 10)
    assert classifier.read(images).equal(logits.argmax(-1))
    expected = torch.where(logits[..., 8] > logits[..., 3], 8, 3)
    assert classifier.read(images, (8, 3)).equal(expected)


def test_accuracy_counts_images_of_the_classes_given(classifier, digits):
    right = total = 0
    for image, label in zip(*digits.test, strict=True):
        if label in (3, 5):
            logits = classifier.logits(image)
            total += 1
            right += (5 if logits[5] > logits[3] else 3) == label
    assert 0 < right < total
    assert classifier.accuracy(*digits.test, [3, 5]) == pytest.approx(right / total)


def test_the_same_seed_gives_the_same_bits(few):
    one, two, other = (train_classifier(*few, seed=seed, num_steps=20) for seed in (4, 4, 5))
    assert one.logits(few.images).equal(two.logits(few.images))
    assert not one.logits(few.images).equal(other.logits(few.images))


def test_nothing_else_is_disturbed(few):
    before = torch.get_rng_state()
    train_classifier(*few, num_steps=3)
    assert torch.get_rng_state().equal(before)
    assert not list(pyro.get_param_store())


def test_trains_where_gradients_are_off_and_asks_for_none(few):
    with torch.no_grad():
        classifier = train_classifier(*few, num_steps=100)
        assert not torch.is_grad_enabled()
    assert classifier.accuracy(*few) > 0.85  # an empty image may be of any class
    assert not classifier.logits(few.images.requires_grad_()).requires_grad


def test_trains_in_the_precision_of_the_images(few):
    doubles = ImageSet(few.images.double(), few.labels)
    assert train_classifier(*doubles, num_steps=3).logits(doubles.images).dtype == torch.float64


@pytest.mark.parametrize(
    "labels",
    [
        torch.linspace(0, 1, 60),
        torch.arange(60) - 1,
        torch.arange(60) + 100,
        torch.arange(60) > 3,
    ],
    ids=["fractions", "negative", "large", "booleans"],
)
def test_labels_that_are_no_classes_are_refused(few, labels):
    with pytest.raises(ValueError, match=r"labels: got torch.*, must be integers from 0 to 99"):
        train_classifier(few.images, labels)


def test_other_impossible_arguments_are_refused(few):
    nothing = ImageSet(few.images[:0], few.labels[:0])
    for images in (nothing, ImageSet(few.images, few.labels[:9])):
        with pytest.raises(
            ValueError,
            match=r"images, labels: .* must be \(N, C, H, W\) and \(N,\) with N at least 1",
        ):
            train_classifier(*images)
    with pytest.raises(ValueError, match=r"num_steps.* got 0"):
        train_classifier(*few, num_steps=0)
    classifier = train_classifier(*few, num_steps=1)
    for classes in ((), (0, 3), (-1,)):
        with pytest.raises(ValueError, match=r"classes: got .*, must be one or more of 0 to 2"):
            classifier.read(few.images, classes)
    with pytest.raises(
        ValueError, match=r"got shape \(60, 1, 4, 3\), must be \(\*batch, 1, 3, 4\)"
    ):
        classifier.logits(few.images.mT)
    with pytest.raises(ValueError, match="labels: got none of classes="):
        classifier.accuracy(few.images[:1], few.labels[:1], [2])
