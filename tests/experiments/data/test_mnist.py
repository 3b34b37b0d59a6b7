"""MNIST from idx files: a tiny set with the real layout, and the real set where it is at hand."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gtm.experiments.data import (
    MissingDataError,
    load_data,
    load_mnist,
    load_omniglot,
    load_recordings,
    mnist,
)

rng = np.random.default_rng(0)
ARRAYS = {
    "train-images-idx3-ubyte": rng.integers(0, 256, (6, 4, 3), dtype=np.uint8),
    "train-labels-idx1-ubyte": rng.integers(0, 10, 6, dtype=np.uint8),
    "t10k-images-idx3-ubyte": rng.integers(0, 256, (5, 4, 3), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": rng.integers(0, 10, 5, dtype=np.uint8),
}


def idx(array: np.ndarray) -> bytes:
    """The idx format as its author describes it: 0, 0, type 8 = uint8, axes, sizes, values."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


PLAIN = {name: idx(array) for name, array in ARRAYS.items()}
GZIPPED = {name: gzip.compress(content, mtime=0) for name, content in PLAIN.items()}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("pooch.retrieve", refuse)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny files be the ones whose checksums are known."""

    def md5(content: bytes) -> str:
        return hashlib.md5(content).hexdigest()

    known = [
        mnist.IdxFile(name, len(PLAIN[name]), md5(PLAIN[name]), md5(GZIPPED[name]))
        for name in PLAIN
    ]
    monkeypatch.setattr(mnist, "FILES", tuple(known))


def write(folder: Path, contents: dict[str, bytes], ending: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}{ending}").write_bytes(content)


@pytest.mark.usefixtures("tiny")
class TestTinyFiles:
    @pytest.mark.parametrize("folder", [".", "raw", "MNIST/raw"])
    @pytest.mark.parametrize("ending", ["", ".gz"])
    def test_found_and_read(self, tmp_path: Path, folder: str, ending: str) -> None:
        write(tmp_path / folder, GZIPPED if ending else PLAIN, ending)
        for split, part in zip(
            load_mnist(tmp_path, binarise="none"), ("train", "t10k"), strict=True
        ):
            levels = (split.images * 255).round().to(torch.uint8).squeeze(1)
            assert np.array_equal(levels.numpy(), ARRAYS[f"{part}-images-idx3-ubyte"])
            assert np.array_equal(split.labels.numpy(), ARRAYS[f"{part}-labels-idx1-ubyte"])

    def test_threshold_by_default_and_folder_as_text(self, tmp_path: Path) -> None:
        write(tmp_path, PLAIN)
        train, _ = load_data("mnist", data_dir=str(tmp_path))
        expected = ARRAYS["train-images-idx3-ubyte"] >= 128
        assert np.array_equal(train.images.squeeze(1).numpy(), expected)

    def test_plain_and_gzipped_files_mix(self, tmp_path: Path) -> None:
        names = list(PLAIN)
        write(tmp_path, {name: PLAIN[name] for name in names[:2]})
        write(tmp_path / "raw", {name: GZIPPED[name] for name in names[2:]}, ".gz")
        assert len(load_mnist(tmp_path).test.labels) == 5

    def test_recompressed_files_are_as_good(self, tmp_path: Path) -> None:
        again = {name: gzip.compress(content, 1, mtime=1) for name, content in PLAIN.items()}
        assert all(again[name] != GZIPPED[name] for name in PLAIN)
        write(tmp_path, again, ".gz")
        assert len(load_mnist(tmp_path).train.labels) == 6

    @pytest.mark.parametrize("ending", ["", ".gz", ".GZ"])
    def test_names_come_with_dots_and_in_capitals(self, tmp_path: Path, ending: str) -> None:
        contents = GZIPPED if ending else PLAIN
        dotted = {name.replace("-idx", ".idx"): contents[name] for name in contents}
        write(tmp_path / "dots", dotted, ending)
        write(tmp_path / "capitals", {name.upper(): contents[name] for name in contents}, ending)
        for folder in ("dots", "capitals"):
            assert len(load_mnist(tmp_path / folder).train.labels) == 6

    def test_what_a_browser_unpacked_keeps_its_ending(self, tmp_path: Path) -> None:
        write(tmp_path, PLAIN, ".gz")
        assert len(load_mnist(tmp_path).train.labels) == 6

    @pytest.mark.parametrize("damage", ["damaged", "empty", "folder", "broken link"])
    @pytest.mark.parametrize(("good", "ending"), [(".", ".gz"), ("MNIST/raw", "")])
    def test_a_good_copy_stands_in_for_a_damaged_one(
        self, tmp_path: Path, damage: str, good: str, ending: str
    ) -> None:
        """A gzipped one beside it, or one in the next folder."""
        name = "train-images-idx3-ubyte"
        write(tmp_path / good, GZIPPED if ending else PLAIN, ending)
        if damage == "folder":
            (tmp_path / name).mkdir()
        elif damage == "broken link":
            (tmp_path / name).symlink_to(tmp_path / "nothing")
        else:
            write(tmp_path, {name: PLAIN[name][:-1] if damage == "damaged" else b""})
        train = load_mnist(tmp_path, binarise="none").train
        levels = (train.images * 255).round().to(torch.uint8).squeeze(1)
        assert np.array_equal(levels.numpy(), ARRAYS[name])

    @pytest.mark.parametrize("kind", ["a folder", "a link to nothing"])
    def test_what_is_no_file_is_told(self, tmp_path: Path, kind: str) -> None:
        write(tmp_path, PLAIN)
        path = tmp_path / "t10k-labels-idx1-ubyte"
        path.unlink()
        path.mkdir() if kind == "a folder" else path.symlink_to(tmp_path / "nothing")
        with pytest.raises(MissingDataError, match=f"{path.name} is {kind}.* place of a file"):
            load_mnist(tmp_path)

    def test_companions_of_systems_are_passed_over(self, tmp_path: Path) -> None:
        write(tmp_path, GZIPPED, ".gz")
        write(tmp_path, {f"._{name}": b"Mac OS X" for name in GZIPPED}, ".gz")
        write(tmp_path / ".ipynb_checkpoints", {name: b"" for name in PLAIN})
        assert len(load_mnist(tmp_path).train.labels) == 6

    def test_sampled_is_fixed_by_the_seed(self, tmp_path: Path) -> None:
        write(tmp_path, PLAIN)
        first, again, other = (load_mnist(tmp_path, False, "sampled", s).test for s in (3, 3, 4))
        assert first.images.equal(again.images)
        assert not first.images.equal(other.images)

    @pytest.mark.parametrize("name", list(PLAIN))
    def test_a_missing_file_is_named_with_its_folder(self, tmp_path: Path, name: str) -> None:
        write(tmp_path, PLAIN)
        (tmp_path / name).unlink()
        with pytest.raises(MissingDataError, match=f"{name}.*--download") as caught:
            load_mnist(tmp_path)
        assert str(tmp_path) in str(caught.value)

    def test_a_missing_folder_is_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match="nowhere"):
            load_mnist(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", list(PLAIN))
    @pytest.mark.parametrize("ending", ["", ".gz"])
    def test_one_changed_pixel_is_noticed(self, tmp_path: Path, name: str, ending: str) -> None:
        content = bytearray(PLAIN[name])
        content[-1] ^= 1
        write(tmp_path, GZIPPED if ending else PLAIN, ending)
        changed = gzip.compress(content) if ending else bytes(content)
        write(tmp_path, {name: changed}, ending)
        with pytest.raises(MissingDataError, match=f"{name}{ending} does not match its checksum"):
            load_mnist(tmp_path)

    @pytest.mark.parametrize("damage", ["truncated", "empty", "not gzip", "garbled"])
    def test_a_damaged_archive_is_noticed(self, tmp_path: Path, damage: str) -> None:
        name = "train-images-idx3-ubyte"
        good = GZIPPED[name]
        bad = {
            "truncated": good[: len(good) // 2],
            "empty": b"",
            "not gzip": b"<html>404</html>",
            "garbled": good[:12] + b"\xff" * 20 + good[32:],
        }[damage]
        write(tmp_path, GZIPPED | {name: bad}, ".gz")
        with pytest.raises(MissingDataError, match=f"{name}.gz does not match its checksum"):
            load_mnist(tmp_path)

    def test_a_truncated_plain_file_is_noticed(self, tmp_path: Path) -> None:
        name = "t10k-labels-idx1-ubyte"
        write(tmp_path, PLAIN | {name: PLAIN[name][:-2]})
        with pytest.raises(MissingDataError, match=f"{name} does not match its checksum"):
            load_mnist(tmp_path)

    def test_download_fetches_only_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = list(PLAIN)
        fetched = []

        def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
            name = fname.removesuffix(".gz")
            assert url == f"https://ossci-datasets.s3.amazonaws.com/mnist/{fname}"
            assert known_hash == f"md5:{hashlib.md5(GZIPPED[name]).hexdigest()}"
            fetched.append(name)
            write(Path(path), {name: GZIPPED[name]}, ".gz")
            return str(Path(path) / fname)

        monkeypatch.setattr("pooch.retrieve", retrieve)
        write(tmp_path, {names[0]: PLAIN[names[0]]})
        assert len(load_mnist(tmp_path, download=True).train.labels) == 6
        assert fetched == names[1:]
        assert (tmp_path / "MNIST" / "raw" / f"{names[1]}.gz").is_file()
        load_mnist(tmp_path, download=True)  # all there now: nothing more is fetched
        assert fetched == names[1:]


def test_a_bomb_is_unpacked_no_further_than_the_known_size(tmp_path: Path) -> None:
    """64 KB of 64 MB of zeros in place of the labels, whose 10,008 bytes are known."""
    bomb = gzip.compress(bytes(2**26))
    assert len(bomb) < 2**16
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(MissingDataError, match=f"{path.name} does not match its checksum"):
            mnist._read(mnist.FILES[3], path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a file", "~nobody-of-this-name/data", "x" * 300])
@pytest.mark.parametrize("load", [load_mnist, load_omniglot, load_recordings])
def test_what_is_no_folder_is_told(tmp_path: Path, load: Callable[[Path], Any], name: str) -> None:
    (tmp_path / "a file").touch()
    folder = Path(name) if name.startswith("~") else tmp_path / name
    with pytest.raises(MissingDataError, match=r"cannot be looked into .*--data-dir") as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_the_real_set(data_dir: Path) -> None:
    train, test = load_mnist(data_dir, binarise="none")
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert train.labels.bincount().tolist()[:3] == [5923, 6742, 5958]

    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)


def test_published_archives_have_the_checksums_that_a_download_asks_for(data_dir: Path) -> None:
    for file in mnist.FILES:
        path = data_dir / mnist.TORCHVISION_FOLDER / f"{file.name}.gz"
        if not path.is_file():
            pytest.skip("the real files are there, but not as published archives")
        content = path.read_bytes()
        assert hashlib.md5(content).hexdigest() == file.md5_gz
