"""Omniglot in every layout: a tiny set of random drawings, and the real set where it is at hand."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_gtm.experiments.data import ImageSplits, MissingDataError, omniglot
from pyro_gtm.experiments.data.omniglot import load_omniglot

CHARACTERS = {
    "images_background": ["Elvish/character01", "Elvish/character02", "Runes/character01"],
    "images_evaluation": ["Signs/character01", "Signs/character02"],
}
TINY_ZIP, TINY_NPZ = "images_background.zip", "omniglot_28.npz"

rng = np.random.default_rng(0)
INK = rng.random((5, 20, 105, 105)) < 0.5  # characters, drawers, rows, columns


def png(ink: np.ndarray) -> bytes:
    """As published: black on white, one bit for each pixel."""
    buffer = io.BytesIO()
    Image.fromarray(~ink).save(buffer, "PNG")
    return buffer.getvalue()


def by_pillow(ink: np.ndarray) -> np.ndarray:
    white_on_black = Image.fromarray(ink).convert("L")
    return np.asarray(white_on_black.resize((28, 28), Image.Resampling.BOX))


LEVELS = np.stack([by_pillow(ink) for ink in INK.reshape(-1, 105, 105)])


def tree() -> dict[str, bytes]:
    """Path in a part's folder, which opens it: content of the PNG file."""
    names = [f"{part}/{character}" for part in CHARACTERS for character in CHARACTERS[part]]
    return {
        f"{name}/{k:04d}_{drawer + 1:02d}.png": png(INK[k, drawer])
        for k, name in enumerate(names)
        for drawer in range(20)
    }


def zipped(part: str) -> bytes:
    """With folders as entries of their own and, as zips may, in no order."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name in reversed(TREE):
            if name.startswith(part):
                archive.writestr(name, TREE[name])
        archive.writestr(f"{part}/", "")
    return buffer.getvalue()


def npz(images: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, alphabet_names=np.array(["Elvish", "Runes"]))
    return buffer.getvalue()


TREE = tree()
ZIPS = {f"{part}.zip": zipped(part) for part in CHARACTERS}
PACKED = {
    "omniglot_28.npz": npz(LEVELS.reshape(5, 20, 28, 28)),
    "omniglot_105_bits.npz": npz(np.packbits(INK, axis=-1)),
}
LAYOUTS = {
    "zips": ZIPS,
    "tree": TREE,
    "zip and tree": {TINY_ZIP: ZIPS[TINY_ZIP]} | TREE,
    "levels": {TINY_NPZ: PACKED[TINY_NPZ]},
    "bits": {"omniglot_105_bits.npz": PACKED["omniglot_105_bits.npz"]},
}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def write(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def levels_of(splits: ImageSplits) -> np.ndarray:
    images = torch.cat([split.images for split in splits]).squeeze(1)
    return (images * 255).round().to(torch.uint8).numpy()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("pooch.retrieve", refuse)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny files be the ones whose checksums and sizes are known."""
    parts = (
        omniglot.Part("images_background", md5(ZIPS[TINY_ZIP]), 2, 3),
        omniglot.Part("images_evaluation", md5(ZIPS["images_evaluation.zip"]), 1, 2),
    )
    monkeypatch.setattr(omniglot, "PARTS", parts)
    monkeypatch.setattr(omniglot, "PACKED", {name: md5(PACKED[name]) for name in PACKED})


@pytest.mark.usefixtures("tiny")
class TestTinySet:
    @pytest.mark.parametrize(
        "folder", [".", "omniglot-py", "omniglot", "python", "omniglot/python"]
    )
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout_gives_the_same_images(
        self, tmp_path: Path, folder: str, layout: str
    ) -> None:
        write(tmp_path / folder, LAYOUTS[layout])
        splits = load_omniglot(tmp_path, binarise="none")
        assert np.array_equal(levels_of(splits), LEVELS)
        assert splits.train.event_shape == splits.test.event_shape == (1, 28, 28)
        assert splits.train.labels.tolist() == [k for k in (0, 1, 2) for _ in range(20)]
        assert splits.test.labels.tolist() == [k for k in (3, 4) for _ in range(20)]

    def test_threshold_by_default_and_folder_as_text(self, tmp_path: Path) -> None:
        write(tmp_path, ZIPS)
        train, test = load_omniglot(str(tmp_path))
        images = torch.cat([train.images, test.images]).squeeze(1)
        assert np.array_equal(images.numpy(), LEVELS >= 128)

    def test_sampled_is_fixed_by_the_seed(self, tmp_path: Path) -> None:
        write(tmp_path, LAYOUTS["levels"])
        first, again, other = (load_omniglot(tmp_path, False, "sampled", s) for s in (3, 3, 4))
        assert first.test.images.equal(again.test.images)
        assert not first.test.images.equal(other.test.images)

    @pytest.mark.parametrize(
        ("layout", "slower"),
        [
            (ZIPS, "images_background/Elvish/character01/0000_01.png"),
            (LAYOUTS["bits"], "images_background.zip"),
            (LAYOUTS["levels"], "omniglot_105_bits.npz"),
        ],
    )
    def test_the_quickest_layout_is_read(
        self, tmp_path: Path, layout: dict[str, bytes], slower: str
    ) -> None:
        """What follows in the order is never opened, so that its damage goes unnoticed."""
        write(tmp_path, layout | {slower: b"damaged"})
        assert np.array_equal(levels_of(load_omniglot(tmp_path, binarise="none")), LEVELS)

    @pytest.mark.parametrize("damage", ["damaged", "empty", "folder", "broken link"])
    @pytest.mark.parametrize("name", [*ZIPS, *PACKED, "images_background"])
    def test_a_good_copy_stands_in_for_a_damaged_one(
        self, tmp_path: Path, name: str, damage: str
    ) -> None:
        """In another layout, or the same in another folder."""
        good = LAYOUTS["bits"] if name == TINY_NPZ else TREE
        write(tmp_path / "omniglot", good)
        if damage == "folder":
            (tmp_path / name).mkdir()
        elif damage == "broken link":
            (tmp_path / name).symlink_to(tmp_path / "nothing")
        else:
            (tmp_path / name).write_bytes(b"damaged" if damage == "damaged" else b"")
        assert np.array_equal(levels_of(load_omniglot(tmp_path, binarise="none")), LEVELS)

    def test_other_files_in_the_tree_do_no_harm(self, tmp_path: Path) -> None:
        write(tmp_path, TREE | {"images_background/Runes/.DS_Store": b"", "strokes.mat": b""})
        assert np.array_equal(levels_of(load_omniglot(tmp_path, binarise="none")), LEVELS)

    def test_companions_of_systems_are_passed_over(self, tmp_path: Path) -> None:
        at = "images_background/Elvish/character01"
        companions = (
            f"{at}/._0000_01.png",
            f"{at}/.ipynb_checkpoints/0000_01-checkpoint.png",
            "images_background/Elvish/.ipynb_checkpoints/0000_01-checkpoint.png",
            "images_background/__MACOSX/Elvish/0000_01.png",
            "images_background/._Elvish/character01/0000_01.png",
        )
        write(tmp_path, TREE | dict.fromkeys(companions, b"no drawing"))
        assert np.array_equal(levels_of(load_omniglot(tmp_path, binarise="none")), LEVELS)

    def test_endings_come_in_capitals(self, tmp_path: Path) -> None:
        write(tmp_path, {name.replace(".png", ".PNG"): TREE[name] for name in TREE})
        assert np.array_equal(levels_of(load_omniglot(tmp_path, binarise="none")), LEVELS)

    def test_a_part_may_lie_in_a_folder_of_its_own_name(self, tmp_path: Path) -> None:
        write(tmp_path, {f"{name.split('/')[0]}/{name}": TREE[name] for name in TREE})
        assert np.array_equal(levels_of(load_omniglot(tmp_path, binarise="none")), LEVELS)

    @pytest.mark.parametrize("damage", ["a folder", "a link to nothing"])
    def test_a_drawing_that_is_no_file_is_named(self, tmp_path: Path, damage: str) -> None:
        write(tmp_path, TREE)
        path = tmp_path / "images_evaluation/Signs/character01/0003_07.png"
        path.unlink()
        path.mkdir() if damage == "a folder" else path.symlink_to(tmp_path / "nothing")
        with pytest.raises(MissingDataError, match=rf"0003_07\.png is {damage}.* place of a file"):
            load_omniglot(tmp_path)

    @pytest.mark.parametrize("name", [*ZIPS, *PACKED, "images_background"])
    def test_what_is_no_file_or_no_folder_is_named(self, tmp_path: Path, name: str) -> None:
        write(tmp_path, ZIPS if name in ZIPS else {})
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).mkdir() if "." in name else (tmp_path / name).touch()
        with pytest.raises(MissingDataError, match=f"{name} is (a|not the) folder .*take it away"):
            load_omniglot(tmp_path)

    @pytest.mark.parametrize("part", CHARACTERS)
    @pytest.mark.parametrize("layout", ["zips", "tree"])
    def test_a_missing_part_is_named_with_its_folder(
        self, tmp_path: Path, part: str, layout: str
    ) -> None:
        contents = LAYOUTS[layout]
        write(tmp_path, {name: contents[name] for name in contents if not name.startswith(part)})
        with pytest.raises(MissingDataError, match=f"{part} is missing.*--download") as caught:
            load_omniglot(tmp_path)
        assert str(tmp_path) in str(caught.value)

    def test_a_missing_folder_is_a_missing_part(self, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match=r"nowhere.*omniglot_28\.npz"):
            load_omniglot(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", [*ZIPS, *PACKED])
    @pytest.mark.parametrize("damage", ["one bit", "cut short", "empty", "not an archive"])
    def test_a_damaged_file_is_noticed(self, tmp_path: Path, name: str, damage: str) -> None:
        good = (ZIPS | PACKED)[name]
        bad = {
            "one bit": good[:100] + bytes([good[100] ^ 1]) + good[101:],
            "cut short": good[:-1],
            "empty": b"",
            "not an archive": b"<html>404</html>",
        }[damage]
        write(tmp_path, (ZIPS if name in ZIPS else {}) | {name: bad})
        with pytest.raises(MissingDataError, match=f"{name} does not match its checksum.*download"):
            load_omniglot(tmp_path)

    @pytest.mark.parametrize(
        ("lacking", "found"),
        [
            ("images_background/Runes", "40 drawings of 2 characters in 1 alphabets"),
            ("images_background/Elvish/character02", "40 drawings of 2 characters in 2 alphabets"),
            ("images_evaluation/Signs/character02/0004_20", "39 drawings of 2 characters in 1 "),
        ],
    )
    def test_an_unfinished_tree_is_noticed(self, tmp_path: Path, lacking: str, found: str) -> None:
        write(tmp_path, {name: TREE[name] for name in TREE if not name.startswith(lacking)})
        with pytest.raises(MissingDataError, match=f"holds {found}.*delete it and fetch"):
            load_omniglot(tmp_path)

    def test_a_drawing_in_the_wrong_place_is_noticed(self, tmp_path: Path) -> None:
        """The right number of drawings in all, but 19 and 21 of two characters."""
        moved = dict(TREE)
        content = moved.pop("images_background/Elvish/character01/0000_01.png")
        write(tmp_path, moved | {"images_background/Elvish/character02/0000_01.png": content})
        with pytest.raises(MissingDataError, match=r"60 drawings .* where 60 \(20 of each\)"):
            load_omniglot(tmp_path)

    @pytest.mark.parametrize("damage", ["empty", "no image", "cut short", "garbled", "small"])
    def test_a_damaged_drawing_is_named(self, tmp_path: Path, damage: str) -> None:
        name = "images_evaluation/Signs/character01/0003_07.png"
        good = TREE[name]
        bad = {
            "empty": b"",
            "no image": b"<html>404</html>",
            "cut short": good[: len(good) // 2],
            "garbled": good[:20] + b"\xff" * 20 + good[40:],
            "small": png(INK[0, 0, :28, :28]),
        }[damage]
        write(tmp_path, TREE | {name: bad})
        with pytest.raises(MissingDataError, match=f"{name} is no drawing of 105 x 105 pixels"):
            load_omniglot(tmp_path)

    def test_download_fetches_only_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetched = []

        def retrieve(url: str, known_hash: str, fname: str, path: Path) -> str:
            folder = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
            assert url == folder + fname
            assert known_hash == f"md5:{md5(ZIPS[fname])}"
            fetched.append(fname)
            write(Path(path), {fname: ZIPS[fname]})
            return str(Path(path) / fname)

        monkeypatch.setattr("pooch.retrieve", retrieve)
        write(tmp_path, {TINY_ZIP: ZIPS[TINY_ZIP]})
        splits = load_omniglot(tmp_path, download=True, binarise="none")
        assert np.array_equal(levels_of(splits), LEVELS)
        assert fetched == ["images_evaluation.zip"]
        assert (tmp_path / "omniglot-py" / "images_evaluation.zip").is_file()
        load_omniglot(tmp_path, download=True)  # all there now: nothing more is fetched
        assert len(fetched) == 1

    def test_download_fetches_nothing_where_the_set_is_packed(self, tmp_path: Path) -> None:
        write(tmp_path, LAYOUTS["bits"])
        assert len(load_omniglot(tmp_path, download=True).train.labels) == 60


@pytest.fixture
def real(data_dir: Path) -> Path:
    if not (data_dir / "omniglot").is_dir():
        pytest.skip("needs the real Omniglot: a folder omniglot in the one of PYRO_GTM_DATA")
    return data_dir


def test_the_real_set(real: Path) -> None:
    """964 characters to learn from and 659 others, by 20 drawers each."""
    train, test = load_omniglot(real)
    assert train.images.shape == (964 * 20, 1, 28, 28)
    assert test.images.shape == (659 * 20, 1, 28, 28)
    assert train.labels.equal(torch.arange(964).repeat_interleave(20))
    assert test.labels.equal(torch.arange(964, 1623).repeat_interleave(20))
    for split in (train, test):
        assert 0.08 < split.images.mean() < 0.1  # white ink on black
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)


def test_the_real_drawings_are_reduced_to_the_real_levels(real: Path, tmp_path: Path) -> None:
    name = "omniglot_105_bits.npz"
    write(tmp_path, {name: (real / "omniglot" / name).read_bytes()})
    for one, other in zip(
        load_omniglot(tmp_path, binarise="none"), load_omniglot(real, binarise="none"), strict=True
    ):
        assert one.images.equal(other.images)


def test_real_archives_agree_with_the_real_set(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two small background sets have the layout of the whole ones: read them as if they were.

    The alphabets that each holds are found again in the whole set, by their names.
    """
    packed = np.load(real / "omniglot" / "omniglot_28.npz")
    parts = (
        omniglot.Part("images_background_small1", "e704a628b5459e08445c13499850abc4", 5, 136),
        omniglot.Part("images_background_small2", "b75a71a51d3b13f821f212756fe481fd", 5, 156),
    )
    monkeypatch.setattr(omniglot, "PACKED", {})
    monkeypatch.setattr(omniglot, "PARTS", parts)
    splits = load_omniglot(real, binarise="none")
    for split, part in zip(splits, parts, strict=True):
        with ZipFile(real / "omniglot" / f"{part.name}.zip") as archive:
            alphabets = {name.split("/")[1] for name in archive.namelist()} - {""}
        whole = [name.split("/")[0] in alphabets for name in packed["character_names"]]
        expected = packed["images"][whole].reshape(-1, 28, 28)
        assert expected.shape == (part.num_characters * 20, 28, 28)
        levels = (split.images.squeeze(1) * 255).round().to(torch.uint8).numpy()
        assert np.array_equal(levels, expected)


def test_the_small_background_sets_are_no_substitute(real: Path, tmp_path: Path) -> None:
    for name in ("images_background_small1.zip", "images_background_small2.zip"):
        write(tmp_path, {name: (real / "omniglot" / name).read_bytes()})
    with pytest.raises(MissingDataError, match="images_background is missing"):
        load_omniglot(tmp_path)
