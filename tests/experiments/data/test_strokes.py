"""Characters without a file: what a class is, what a drawing of it is, and who sees which."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gtm.experiments.data import strokes
from pyro_gtm.experiments.data.strokes import draw_characters, load_strokes


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    """(100, 20, 28, 28): no multiple of the groups that are drawn at once."""
    return draw_characters(range(100))


def distinct(images: np.ndarray | Tensor) -> int:
    return len({image.tobytes() for image in np.asarray(images)})


def pieces(ink: Tensor) -> Tensor:
    """How many connected pieces each image, (N, H, W) of 0 and 1, has; corners connect."""
    ids = ink * torch.arange(1.0, ink[0].numel() + 1).view_as(ink[0])
    while True:  # every pixel takes the greatest number beside it
        wider = torch.nn.functional.max_pool2d(ids[:, None], 3, stride=1, padding=1)[:, 0] * ink
        if wider.equal(ids):
            return torch.tensor([len(image.unique()) - 1 for image in ids])
        ids = wider


def test_levels_are_of_the_documented_kind(levels: np.ndarray) -> None:
    assert levels.shape == (100, 20, 28, 28)
    assert levels.dtype == np.uint8
    assert (levels.min(), levels.max()) == (0, 255)


def test_characters_are_strokes_of_ink_on_paper(levels: np.ndarray) -> None:
    """As much ink as in MNIST and Omniglot, in lines that are about two pixels wide."""
    ink = torch.tensor(levels >= 128).flatten(0, 1).float()  # (2000, 28, 28)
    assert 0.08 < ink.mean() < 0.14
    assert ink.mean((1, 2)).min() > 0.015 and ink.mean((1, 2)).max() < 0.3
    inside = -torch.nn.functional.max_pool2d(-ink[:, None], 4, stride=1)  # 4 x 4 pixels all ink
    assert inside.sum() < 0.03 * ink.sum()


def test_a_character_has_two_to_four_strokes() -> None:
    traits = np.random.default_rng(0).random((1000, strokes.NUM_TRAITS))
    counts = np.bincount(strokes._design(traits).owner, minlength=1000)
    assert set(counts.tolist()) == {2, 3, 4}
    assert 0.2 < (counts == 2).mean() < 0.8


def test_strokes_are_not_broken(levels: np.ndarray) -> None:
    """A character has at most four strokes; most of them touch."""
    counts = pieces(torch.tensor(levels[:, :3] >= 128).flatten(0, 1).float())
    assert counts.min() == 1 and counts.max() <= 4
    assert (counts == 1).float().mean() > 0.7


def test_characters_fill_the_middle_of_the_picture(levels: np.ndarray) -> None:
    where = np.argwhere(levels >= 128)[:, 2:]
    assert np.abs(where.mean(0) - 13.5).max() < 0.5
    border = levels.copy()
    border[..., 1:-1, 1:-1] = 0
    assert (border >= 128).mean() < 0.002


def test_no_two_images_are_equal(levels: np.ndarray) -> None:
    assert distinct((levels >= 128).reshape(-1, 28, 28)) == 2000


def test_drawings_of_a_class_are_nearer_to_it_than_to_others(levels: np.ndarray) -> None:
    """The mean of ten drawings finds the ten others among 100 classes; chance is 0.01."""
    ink = torch.tensor(levels >= 128).float().flatten(2)  # (100, 20, 784)
    means, others = ink[:, :10].mean(1), ink[:, 10:].flatten(0, 1)
    distances = torch.cdist(others, means)  # (1000, 100)
    labels = torch.arange(100).repeat_interleave(10)
    assert (distances.argmin(1) == labels).float().mean() > 0.6
    own = distances.gather(1, labels[:, None]).mean()
    assert own < 0.8 * distances.mean()


def test_drawings_of_a_class_differ(levels: np.ndarray) -> None:
    """Of one class by far more than a changed border pixel here and there."""
    ink = levels >= 128
    changed = (ink[:, 0] != ink[:, 1]).sum((1, 2)) / ink[:, 0].sum((1, 2))
    assert 0.3 < np.median(changed) < 1.5


def test_a_class_does_not_depend_on_what_else_is_drawn(levels: np.ndarray) -> None:
    some = [70, 3, 99, 3]
    assert np.array_equal(draw_characters(some), levels[some])
    assert np.array_equal(draw_characters([41], drawings=1), levels[41:42, :1])
    assert np.array_equal(draw_characters(range(30, 70), drawings=7), levels[30:70, :7])
    assert np.array_equal(draw_characters(torch.arange(5), drawings=2), levels[:5, :2])


def test_another_seed_makes_other_characters(levels: np.ndarray) -> None:
    other = draw_characters(range(100), seed=1)
    assert distinct(np.concatenate([levels, other]).reshape(-1, 28, 28)) == 4000
    means, others = (torch.tensor(x >= 128).float().mean(1).flatten(1) for x in (levels, other))
    assert (torch.cdist(others, means).argmin(1) == torch.arange(100)).float().mean() < 0.1


def test_numbers_of_any_size_are_classes() -> None:
    far = draw_characters([0, 10**6, 2**40], drawings=1)
    assert distinct(far.reshape(-1, 28, 28)) == 3


def test_drawing_leaves_the_global_generators_alone() -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    load_strokes(train_classes=1, test_classes=1)
    assert torch.get_rng_state().equal(torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


def test_default_sizes_and_labels() -> None:
    train, test = load_strokes()
    assert train.images.shape == (964 * 20, 1, 28, 28)
    assert test.images.shape == (240 * 20, 1, 28, 28)
    assert train.images.dtype == torch.float32
    assert train.labels.equal(torch.arange(964).repeat_interleave(20))
    assert test.labels.equal(torch.arange(964, 1204).repeat_interleave(20))
    assert set(train.images.unique().tolist()) == {0.0, 1.0}
    assert distinct(torch.cat([train.images, test.images])) == 1204 * 20


def test_images_are_the_characters_of_their_labels(levels: np.ndarray) -> None:
    train, test = load_strokes("none", train_classes=5, test_classes=3, drawings=4)
    images = torch.cat([train.images, test.images]).squeeze(1)
    torch.testing.assert_close(images, torch.tensor(levels[:8, :4]).flatten(0, 1) / 255)
    assert torch.cat([train.labels, test.labels]).tolist() == [k for k in range(8) for _ in "four"]


@pytest.mark.parametrize("binarise", ["threshold", "sampled", "none"])
def test_the_same_seed_is_the_same_to_the_bit(binarise: str) -> None:
    sizes = {"train_classes": 40, "test_classes": 2, "drawings": 3}
    first, again, other = (load_strokes(binarise, seed, **sizes) for seed in (5, 5, 6))
    for one, two, three in zip(first, again, other, strict=True):
        assert one.images.equal(two.images)
        assert one.labels.equal(two.labels) and one.labels.equal(three.labels)
        assert not one.images.equal(three.images)


def test_one_class_each_and_one_drawing() -> None:
    train, test = load_strokes(train_classes=1, test_classes=1, drawings=1)
    assert train.images.shape == test.images.shape == (1, 1, 28, 28)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0], [1])
    assert not train.images.equal(test.images)


def test_ink_is_what_plain_loops_leave() -> None:
    curves = 4 + 20 * np.random.default_rng(0).random((3, 2, strokes.SAMPLES, 2))
    owner, ink = np.array([0, 1, 1]), np.array([[1.0, 0.3], [0.05, 0.2]])
    paper = np.zeros((2, 2, 30, 30))  # a pixel more on each side
    for stroke in range(3):
        for drawing in range(2):
            points = curves[stroke, drawing]
            for (x0, y0), (x1, y1) in pairwise(points):
                length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
                for row in range(28):
                    for column in range(28):
                        near_x = max(0, 1 - abs((x0 + x1) / 2 - column))
                        near_y = max(0, 1 - abs((y0 + y1) / 2 - row))
                        if near_x * near_y:
                            spread = np.outer([2, 5, 2], [2, 5, 2]) / 81
                            at = (slice(row, row + 3), slice(column, column + 3))
                            paper[owner[stroke], drawing][at] += length * near_x * near_y * spread
    paper = paper[..., 1:-1, 1:-1]
    expected = np.minimum(255 * ink[..., None, None] * paper, 255)
    levels = strokes._ink(curves, ink, owner)
    assert np.abs(levels - expected).max() < 0.5 + 1e-9
    assert 0 < (expected == 255).mean() < 0.5


@pytest.mark.parametrize("num_nodes", [2, 3, 4, 5])
def test_smooth_strokes_are_catmull_rom_splines(num_nodes: int) -> None:
    """Each piece as a Bézier curve, evaluated by repeated halving of the way (de Casteljau)."""
    polygons, splines = strokes._bases()
    nodes = np.random.default_rng(1).standard_normal((strokes.MAX_NODES, 2))
    polygon, spline = polygons[num_nodes] @ nodes, splines[num_nodes] @ nodes
    used = nodes[:num_nodes]
    for sample, at in enumerate(np.linspace(0, num_nodes - 1, strokes.SAMPLES)):
        k = min(int(at), num_nodes - 2)
        before, start, end, after = (
            used[max(k - 1, 0)], used[k], used[k + 1], used[min(k + 2, num_nodes - 1)]
        )  # fmt: skip
        leaving = (end - before) / (2 if k > 0 else 1)
        arriving = (after - start) / (2 if k + 2 < num_nodes else 1)
        control = [start, start + leaving / 3, end - arriving / 3, end]
        while len(control) > 1:
            control = [a + (at - k) * (b - a) for a, b in pairwise(control)]
        np.testing.assert_allclose(spline[sample], control[0], atol=1e-12)
        np.testing.assert_allclose(polygon[sample], start + (at - k) * (end - start), atol=1e-12)


@pytest.mark.parametrize("name", ["train_classes", "test_classes", "drawings"])
@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_sizes_that_are_not_positive_are_refused(name: str, size: float) -> None:
    with pytest.raises(ValueError, match=f"{name}.* got"):
        load_strokes(**{name: size})


def test_an_unknown_binarisation_is_refused() -> None:
    with pytest.raises(ValueError, match="binarise: got 'dither'"):
        load_strokes("dither", train_classes=1, test_classes=1)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: got -1"):
        load_strokes(seed=-1)


@pytest.mark.parametrize("classes", [[], range(0), 3, [-1], [0.5], [[1, 2]], ["a"], [True]])
def test_classes_that_are_no_list_of_numbers_are_refused(classes: object) -> None:
    with pytest.raises(
        ValueError, match=r"classes: got .*, must be a collection of non-negative integers"
    ):
        draw_characters(classes)
