"""Omniglot: 1,623 characters of 50 alphabets, each drawn once by 20 people.

Read from wherever it lies in a folder, as two published archives, as the tree of PNG files that
torchvision unpacks from them, or as one of two small .npz files. All give the same images to the
bit: the drawings of 105 x 105 pixels are reduced here as Pillow's box filter does it.

Lake, Salakhutdinov and Tenenbaum, "Human-level concept learning through probabilistic program
induction", Science 350 (2015). (c) 2015 Brenden Lake, MIT licence.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt

from pyro_gtm.experiments.data.drawings import MOST_BYTES, DrawingError, read_ink
from pyro_gtm.experiments.data.fetching import fetch
from pyro_gtm.experiments.data.files import (
    entries,
    first_intact,
    folder_of,
    is_there,
    md5_of,
    opened,
)
from pyro_gtm.experiments.data.images import ImageSet, ImageSplits, MissingDataError, prepare
from pyro_gtm.internals.array_files import open_archive

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
TORCHVISION_FOLDER = "omniglot-py"
# The last three are those of the published repository: alone, cloned, unpacked.
FOLDERS = (
    ".",
    TORCHVISION_FOLDER,
    "omniglot",
    "python",
    "omniglot/python",
    "omniglot-master/python",
)
DRAWERS = 20
DRAWN_SIDE, SIDE = 105, 28  # pixels: as drawn, and here

# (105, 28): 1 where the centre of a drawn pixel lies in a box, its right border included.
BOXES = (
    np.ceil((np.arange(DRAWN_SIDE) + 0.5) * SIDE / DRAWN_SIDE)[:, None] == np.arange(1, SIDE + 1)
).astype(np.float32)
WIDTHS = BOXES.sum(0)  # (28,): of the boxes, 3 or 4


class Part(NamedTuple):
    """A published archive: its name, the MD5 of its .zip download, and what it holds."""

    name: str
    md5: str
    num_alphabets: int
    num_characters: int


PARTS = (
    Part("images_background", "68d2efa1b9178cc56df9314c21c6e718", 30, 964),  # to learn from
    Part("images_evaluation", "6b91aef0f799c5bb55b94e3f2daec811", 20, 659),  # to be judged on
)

# The whole set in one file, with its MD5: an array ``images`` of all characters, those of the first
# part first, and their drawings. The first is ready, the second has one bit for each pixel.
PACKED = {
    "omniglot_28.npz": "c7b6f5a61da15fdc942044da0d5a755c",  # uint8 (1623, 20, 28, 28), 255 = ink
    "omniglot_105_bits.npz": "1bee09d47663332e4268968c9d5ea3fc",  # uint8 (1623, 20, 105, 14)
}


def load_omniglot(
    data_dir: str | os.PathLike[str],
    download: bool = False,
    binarise: str = "threshold",
    seed: int = 0,
) -> ImageSplits:
    """Omniglot with its published split by alphabet, each ``(1, 28, 28)``, ink 1 on paper 0.

    964 characters of 30 alphabets train and 659 of 20 other alphabets test, each drawn by 20
    people: 19,280 and 13,180 images. A label is the number of a character in the whole set, 0 to
    963 in training and 964 to 1622 in testing; alphabets and their characters are in the order of
    their names, and the drawings of a character follow one another in the order of its drawers.

    Looked for in DIR, DIR/omniglot-py, DIR/omniglot and the folder ``python`` of the published
    repository, quickest first: omniglot_28.npz; then omniglot_105_bits.npz; then each of
    images_background and images_evaluation, first its .zip and then its folder,
    ``<alphabet>/<character>/<drawing>.png`` inside.  Files are checked against their MD5, folders
    by the number of their images; of several copies the first that is intact is taken. The small
    background sets of the one-shot experiments are no substitute for the whole and are not looked
    for.

    Drawings in folders may be white on black or on a clear ground, in grey or in colours.

    With the threshold of :func:`prepare`, level 128, 9 % of the pixels are ink and no binary image
    is in both parts.

    Args:
        data_dir: the folder DIR.
        download: fetch the archives that are missing into DIR/omniglot-py (needs ``pooch``).
        binarise: see :func:`prepare`.
        seed: fixes the draws of ``binarise="sampled"``.

    Raises:
        MissingDataError: a part is missing, damaged, or cannot be fetched.
    """
    levels = _load(folder_of(data_dir), download)

    # Prepared as one set, so that under "sampled" no test image shares its draws with a train one.
    characters = np.arange(len(levels)).repeat(DRAWERS)
    images, labels = prepare(levels.reshape(-1, SIDE, SIDE), characters, binarise, seed)
    n = PARTS[0].num_characters * DRAWERS
    return ImageSplits(ImageSet(images[:n], labels[:n]), ImageSet(images[n:], labels[n:]))


def _load(root: Path, download: bool) -> npt.NDArray[np.uint8]:
    """All drawings, from the first copies that are intact: ``(1623, 20, 28, 28)``."""
    faults: list[MissingDataError] = []
    whole = first_intact(_copies(root, *PACKED), _read_packed, faults)
    if whole is not None:
        return whole
    parts = []
    for part in PARTS:
        read = partial(_read_part, part)
        levels = first_intact(_copies(root, f"{part.name}.zip", part.name), read, faults)
        if levels is None:
            if faults:
                raise faults[0]
            levels = read(_obtain(part, root, download))
        parts.append(levels)
    return np.concatenate(parts)


def _copies(root: Path, *names: str) -> list[Path]:
    return [path for name in names for at in FOLDERS if is_there(path := root / at / name)]


def _read_packed(path: Path) -> npt.NDArray[np.uint8]:
    """All drawings from an .npz file: ``(1623, 20, 28, 28)``."""
    with opened(path) as file:
        _check(path, md5_of(file) == PACKED[path.name])
        with open_archive(file) as archive:
            images = archive.read("images", most_bytes=2**30)
    if images.shape[-1] == SIDE:
        return images
    # One character after the other: all of them at 105 x 105 would fill a gigabyte.
    return np.stack([_reduce(np.unpackbits(x, axis=-1, count=DRAWN_SIDE)) for x in images])


def _check(path: Path, intact: bool) -> None:
    if not intact:
        raise MissingDataError(
            f"{path} does not match its checksum: delete it and fetch the set with `--download`."
        )


def _obtain(part: Part, root: Path, download: bool) -> Path:
    archive = f"{part.name}.zip"
    if not download:
        raise MissingDataError(
            f"Omniglot's {part.name} is missing, as {archive} or as a folder of PNG files, from "
            f"{root}, {', '.join(str(root / at) for at in FOLDERS[1:-1])} and "
            f"{root / FOLDERS[-1]}, and none of them holds "
            f"{' or '.join(PACKED)}: fetch it with `--download` (download=True), "
            "or name the folder that has it with `--data-dir`."
        )
    return fetch(URL, archive, part.md5, root / TORCHVISION_FOLDER)


def _read_part(part: Part, path: Path) -> npt.NDArray[np.uint8]:
    """The drawings in a .zip or a folder: ``(characters, 20, 28, 28)``."""
    if path.suffix != ".zip":
        return _read_tree(part, path)
    with opened(path) as file:
        _check(path, md5_of(file) == part.md5)
        with ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            return _read_drawings(part, path, names, archive.read)


def _read_tree(part: Part, path: Path) -> npt.NDArray[np.uint8]:
    if not path.is_dir():
        raise MissingDataError(f"{path} is not the folder that belongs there: take it away.")
    nested = path / path.name  # as some programs unpack an archive that holds one folder
    top = nested if nested.is_dir() else path
    names = [
        drawing.relative_to(top.parent).as_posix()
        for alphabet in entries(top)
        for character in entries(alphabet)
        for drawing in entries(character)
        if drawing.suffix.lower() == ".png"
    ]

    def read(name: str) -> bytes:
        with opened(top.parent / name) as file:
            return file.read(MOST_BYTES + 1)

    return _read_drawings(part, top, names, read)


def _read_drawings(
    part: Part, path: Path, names: list[str], read: Callable[[str], bytes]
) -> npt.NDArray[np.uint8]:
    """What ``read`` gives for the names, which are part/alphabet/character/drawing.png."""
    names = sorted(names, key=lambda name: name.split("/"))
    characters = Counter(name.rpartition("/")[0] for name in names)
    alphabets = {character.rpartition("/")[0] for character in characters}
    found = len(names), len(characters), len(alphabets)
    wanted = part.num_characters * DRAWERS, part.num_characters, part.num_alphabets
    if found != wanted or set(characters.values()) != {DRAWERS}:
        raise MissingDataError(
            f"{path} holds {found[0]} drawings of {found[1]} characters in {found[2]} alphabets "
            f"where {wanted[0]} ({DRAWERS} of each) of {wanted[1]} in {wanted[2]} belong: "
            "delete it and fetch the set with `--download`."
        )
    levels = []
    for first in range(0, len(names), DRAWERS):
        of_character = names[first : first + DRAWERS]
        ink = [_ink(path.parent / name, read(name)) for name in of_character]
        levels.append(_reduce(np.stack(ink)))
    return np.stack(levels)


def _ink(file: Path, content: bytes) -> npt.NDArray[np.bool_]:
    try:
        return read_ink(content, DRAWN_SIDE)
    except DrawingError as error:
        raise MissingDataError(
            f"{file} is no drawing of {DRAWN_SIDE} x {DRAWN_SIDE} pixels ({error}): "
            "delete the folder of its set and fetch the set with `--download`."
        ) from error


def _reduce(ink: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Levels 0..255, ``(..., 28, 28)``, of ink 0 or 1, ``(..., 105, 105)``.

    The mean over a box of 105 / 28 = 3.75 pixels each way, as Pillow's ``Image.BOX`` has it: a
    pixel belongs wholly to the box that its centre lies in, so that boxes are 3 or 4 pixels wide,
    and levels are rounded, halves up, after the rows and again after the columns.  Weighting pixels
    on the border of two boxes by their shares would be more exact and give other images.
    """
    rows = np.floor(ink.astype(np.float32) @ (255 * BOXES) / WIDTHS + 0.5)  # (..., 105, 28)
    levels = np.floor(BOXES.T @ rows / WIDTHS[:, None] + 0.5)  # (..., 28, 28)
    return levels.astype(np.uint8)
