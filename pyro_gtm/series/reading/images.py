"""Sequences of images in folders."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from pyro_gtm.series.data import Series
from pyro_gtm.series.reading.failures import DataFileError, check_size

__all__ = ["read_images"]

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""Pillow's names of them; of others it would hand some to another program."""

GREY_MODES = ("1", "L")


def read_images(path: Path) -> Series:
    """Frames of ``(1 or 3, height, width)`` in [0, 1], grey where every image is."""
    found = {path.name: _images_in(path)}
    if not found[path.name]:
        folders = sorted(filter(_is_plain_folder, path.iterdir()), key=_natural)
        found = {folder.name: files for folder in folders if (files := _images_in(folder))}
    if not found:
        raise DataFileError(
            path,
            f"holds neither images ({', '.join(ENDINGS)}) nor folders of images",
        )
    every = [file for files in found.values() for file in files]
    size, grey = _size_of_all(path, every)
    colours = 1 if grey else 3
    steps = max(map(len, found.values()))
    check_size(path, 8 * steps * len(found) * colours * size[0] * size[1], "its images")
    sequences = [torch.stack([_frame(file, grey) for file in files]) for files in found.values()]
    names = ["grey"] if grey else ["red", "green", "blue"]
    return Series.of(sequences, ids=list(found), channels=names)


def _images_in(folder: Path) -> list[Path]:
    """In the natural order of their names; companions that systems leave behind are passed over."""
    files = (
        file
        for file in folder.iterdir()
        if file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()
    )
    return sorted(files, key=_natural)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith((".", "__"))


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key by which frame 10 comes after frame 9."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


def _size_of_all(path: Path, files: list[Path]) -> tuple[tuple[int, int], bool]:
    """Width and height of all images, and whether all are grey, from their headers alone."""
    first: tuple[int, int] | None = None
    grey = True
    for file in files:
        try:
            with warnings.catch_warnings():
                # Its size is looked at here, before anything is unpacked.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(file, formats=FORMATS) as image:
                    size, mode = image.size, image.mode
        except Image.DecompressionBombError as error:
            raise DataFileError(file, "is an image too large to be a frame") from error
        except (UnidentifiedImageError, ValueError, SyntaxError, EOFError) as error:
            raise DataFileError(file, "is no readable image") from error
        first = first or size
        if size != first:
            raise DataFileError(
                file,
                f"is {size[0]} x {size[1]} pixels, the first image in {path} is "
                f"{first[0]} x {first[1]}, and all must be of one size",
            )
        grey = grey and mode in GREY_MODES
    assert first is not None
    check_size(path, 12 * first[0] * first[1] * len(files), "its images")
    return first, grey


def _frame(file: Path, grey: bool) -> Tensor:
    try:
        with Image.open(file, formats=FORMATS) as image:
            if "A" in image.getbands():
                raise DataFileError(file, "has a transparent ground, and opaque images are allowed")
            pixels = np.asarray(image.convert("L" if grey else "RGB"), dtype=np.float32)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(file, "is a damaged image") from error
    frame = torch.from_numpy(pixels / 255.0)
    return frame.unsqueeze(0) if grey else frame.permute(2, 0, 1).contiguous()
