"""Grey levels become image sets; sources are found by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_gtm.experiments.data import ImageSet, prepare, with_shifts

LEVELS = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
LABELS = np.array([3, 1, 4, 1], dtype=np.uint8)


@pytest.mark.parametrize("binarise", ["threshold", "sampled", "none"])
def test_prepared_set_has_the_documented_layout(binarise: str) -> None:
    images = prepare(LEVELS, LABELS, binarise, seed=0)
    assert images.images.shape == (4, 1, 8, 8)
    assert images.images.dtype == torch.float32
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == [3, 1, 4, 1]
    assert images.event_shape == (1, 8, 8)
    assert images.images.min() >= 0 and images.images.max() <= 1


def test_threshold_splits_the_levels_at_one_half() -> None:
    pixels = prepare(LEVELS, LABELS, "threshold", seed=0).images.flatten()
    assert pixels.tolist() == [0.0] * 128 + [1.0] * 128


def test_none_keeps_every_level_apart() -> None:
    pixels = prepare(LEVELS, LABELS, "none", seed=0).images.flatten()
    torch.testing.assert_close(pixels, torch.linspace(0, 1, 256))


def test_sampled_pixels_are_bernoulli_of_their_intensity() -> None:
    draws = 20_000
    levels = np.tile(np.array([0, 1, 64, 128, 200, 254, 255], np.uint8), (draws, 1, 1))
    pixels = prepare(levels, np.zeros(draws), "sampled", seed=0).images
    assert set(pixels.unique().tolist()) == {0.0, 1.0}

    mean, p = pixels.mean(0).flatten(), torch.tensor(levels[0, 0]) / 255
    five_sigma = 5 * (p * (1 - p) / draws).sqrt()
    assert (mean - p).abs().le(five_sigma).all()  # black and white exactly: their sigma is 0


def test_sampled_pixels_are_fixed_by_the_seed() -> None:
    first, again, other = (
        prepare(LEVELS, LABELS, "sampled", seed=seed).images for seed in (7, 7, 8)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_sampled_pixels_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    prepare(LEVELS, LABELS, "sampled", seed=7)
    assert torch.get_rng_state().equal(before)


def test_equal_images_are_sampled_apart() -> None:
    twins = np.full((2, 16, 16), 128, dtype=np.uint8)
    first, second = prepare(twins, np.zeros(2), "sampled", seed=0).images
    assert not first.equal(second)


def test_colour_images_keep_their_channels() -> None:
    colour = np.zeros((5, 3, 8, 9), dtype=np.uint8)
    assert prepare(colour, np.zeros(5), "none", seed=0).event_shape == (3, 8, 9)


def test_source_arrays_are_copied() -> None:
    levels = LEVELS.copy()
    images = prepare(levels, LABELS, "none", seed=0).images
    levels[:] = 0
    assert images.max() == 1


def test_a_set_moves_as_a_whole() -> None:
    moved = prepare(LEVELS, LABELS, "none", seed=0).to("meta")
    assert moved.images.device.type == moved.labels.device.type == "meta"


def test_unknown_binarisation_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"binarise: got 'dither', .* 'threshold', 'sampled', 'none'"
    ):
        prepare(LEVELS, LABELS, "dither", seed=0)


@pytest.mark.parametrize("levels", [LEVELS / 255.0, LEVELS[0]])
def test_levels_of_another_kind_are_refused(levels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images_uint8: got .* must be uint8 of shape"):
        prepare(levels, LABELS, "none", seed=0)


def test_every_image_needs_its_label() -> None:
    with pytest.raises(
        ValueError, match=r"labels: got shape .*, must be \(\d,\), a label for each image"
    ):
        prepare(LEVELS, LABELS[:3], "none", seed=0)


def test_shifts_move_the_ink_and_lose_what_leaves() -> None:
    image = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    shifted = with_shifts(ImageSet(image, torch.tensor([7])), radius=1)
    assert shifted.labels.tolist() == [7] * 9
    assert torch.equal(shifted.images[0], image[0])  # the unshifted one comes first
    down_right = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 4.0, 5.0]])
    assert sum(torch.equal(one[0], down_right) for one in shifted.images) == 1
    assert len({tuple(one.flatten().tolist()) for one in shifted.images}) == 9


def test_no_shift_is_the_same_set() -> None:
    images = ImageSet(torch.rand(4, 1, 5, 6), torch.arange(4))
    same = with_shifts(images, radius=0)
    assert torch.equal(same.images, images.images) and torch.equal(same.labels, images.labels)


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="radius: got -1"):
        with_shifts(ImageSet(torch.rand(1, 1, 2, 2), torch.tensor([0])), radius=-1)
