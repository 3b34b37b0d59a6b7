"""Omniglot: 1,623 characters of 50 alphabets, each drawn once by 20 people.

Read from wherever it lies in a folder, as two published archives, as the tree of PNG files that
torchvision unpacks from them, or as one of two small .npz files. All give the same images to the
bit: the drawings of 105 x 105 pixels are reduced here as Pillow's box filter does it.

Lake, Salakhutdinov and Tenenbaum, "Human-level concept learning through probabilistic program
induction", Science 350 (2015). (c) 2015 Brenden Lake, MIT licence.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image

from pyro_gtm.experiments.data.fetching import fetch
from pyro_gtm.experiments.data.images import ImageSet, ImageSplits, MissingDataError, prepare

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
TORCHVISION_FOLDER = "omniglot-py"
FOLDERS = (".", TORCHVISION_FOLDER, "omniglot")
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

    Looked for in DIR, DIR/omniglot-py and DIR/omniglot, quickest first: omniglot_28.npz; then
    omniglot_105_bits.npz; then each of images_background and images_evaluation, first its .zip
    and then its folder, ``<alphabet>/<character>/<drawing>.png`` inside.  Files are checked against
    their MD5, folders by the number of their images. The small background sets of the one-shot
    experiments are no substitute for the whole and are not looked for.

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
    root = Path(data_dir).expanduser()
    levels = _read_packed(root)
    if levels is None:
        paths = [
            _find(f"{part.name}.zip", root)
            or _find(part.name, root)
            or _obtain(part, root, download)
            for part in PARTS
        ]
        levels = np.concatenate([_read_part(*found) for found in zip(PARTS, paths, strict=True)])

    # Prepared as one set, so that under "sampled" no test image shares its draws with a train one.
    characters = np.arange(len(levels)).repeat(DRAWERS)
    images, labels = prepare(levels.reshape(-1, SIDE, SIDE), characters, binarise, seed)
    n = PARTS[0].num_characters * DRAWERS
    return ImageSplits(ImageSet(images[:n], labels[:n]), ImageSet(images[n:], labels[n:]))


def _find(name: str, root: Path) -> Path | None:
    return next((path for folder in FOLDERS if (path := root / folder / name).exists()), None)


def _read_packed(root: Path) -> npt.NDArray[np.uint8] | None:
    """All drawings from an .npz file, if there is one: ``(1623, 20, 28, 28)``."""
    for name, md5 in PACKED.items():
        if (path := _find(name, root)) is None:
            continue
        with np.load(BytesIO(_read(path, md5))) as arrays:
            images: npt.NDArray[np.uint8] = arrays["images"]
        if images.shape[-1] == SIDE:
            return images
        # One character after the other: all of them at 105 x 105 would fill a gigabyte.
        return np.stack([_reduce(np.unpackbits(x, axis=-1, count=DRAWN_SIDE)) for x in images])
    return None


def _obtain(part: Part, root: Path, download: bool) -> Path:
    archive = f"{part.name}.zip"
    if not download:
        raise MissingDataError(
            f"Omniglot's {part.name} is missing, as {archive} or as a folder of PNG files, from "
            f"{root}, {root / FOLDERS[1]} and {root / FOLDERS[2]}, and none of them holds "
            f"{' or '.join(PACKED)}: fetch it with `--download` (download=True), "
            "or name the folder that has it with `--data-dir`."
        )
    return fetch(URL, archive, part.md5, root / TORCHVISION_FOLDER)


def _read(path: Path, md5: str) -> bytes:
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise MissingDataError(
            f"{path} does not match its checksum: delete it and fetch the set with `--download`."
        )
    return content


def _read_part(part: Part, path: Path) -> npt.NDArray[np.uint8]:
    """The drawings in a .zip or a folder: ``(characters, 20, 28, 28)``."""
    if path.is_dir():
        files = {file.relative_to(path.parent).as_posix(): file for file in path.glob("*/*/*.png")}
        drawings = {name: file.read_bytes() for name, file in files.items()}
    else:
        with ZipFile(BytesIO(_read(path, part.md5))) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            drawings = {name: archive.read(name) for name in names}

    # A name is part/alphabet/character/drawing.png.
    names = sorted(drawings, key=lambda name: name.split("/"))
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
        ink = [_ink(path.parent / name, drawings[name]) for name in of_character]
        levels.append(_reduce(np.stack(ink)))
    return np.stack(levels)


def _ink(file: Path, content: bytes) -> npt.NDArray[np.bool_]:
    """The black pixels of a PNG file, black on white: ``(105, 105)``."""
    damaged = MissingDataError(
        f"{file} is no drawing of {DRAWN_SIDE} x {DRAWN_SIDE} pixels: "
        "delete the folder of its set and fetch the set with `--download`."
    )
    try:
        with Image.open(BytesIO(content)) as image:
            black = np.asarray(image.convert("L")) < 128
    except (OSError, SyntaxError) as error:  # Pillow's: no image, or cut short; a garbled PNG
        raise damaged from error
    if black.shape != (DRAWN_SIDE, DRAWN_SIDE):
        raise damaged
    return black


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
