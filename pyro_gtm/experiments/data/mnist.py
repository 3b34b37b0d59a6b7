"""The full MNIST set: 60,000 digits to train on and 10,000 to test on.

Its four idx files, plain or gzipped, are read where torchvision or a plain download leaves them.
Each is checked against the MD5 of its content, since a digit read from a damaged file looks like
any other digit; of several copies the first that is intact is taken. No two grey images are equal;
thresholding makes eight binary images appear in both parts. (c) Yann LeCun and Corinna Cortes,
derived from NIST data, CC BY-SA 3.0.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from pyro_gtm.experiments.data.fetching import fetch
from pyro_gtm.experiments.data.files import entries, first_intact, folder_of, opened
from pyro_gtm.experiments.data.images import ImageSet, ImageSplits, MissingDataError, prepare

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
TORCHVISION_FOLDER = "MNIST/raw"
FOLDERS = (".", "raw", TORCHVISION_FOLDER)
GZIP = b"\x1f\x8b"


class IdxFile(NamedTuple):
    """A published file: bytes and MD5 of its content, and the MD5 of its .gz download."""

    name: str
    size: int
    md5: str
    md5_gz: str


FILES = (
    IdxFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "6bbc9ace898e44ae57da46a324031adb",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        60_008,
        "a25bea736e30d166cdddb491f175f624",
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "2646ac647ad5339dbf082846283269ea",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "27ae3e4e09519cfbb04c329615203637",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)


def load_mnist(
    data_dir: str | os.PathLike[str],
    download: bool = False,
    binarise: str = "threshold",
    seed: int = 0,
) -> ImageSplits:
    """MNIST with its published split, each image ``(1, 28, 28)``.

    Args:
        data_dir: the folder DIR; the files may lie in DIR, DIR/raw or DIR/MNIST/raw, in capitals or
            with a dot before ``idx``, gzipped or not whatever their ending.
        download: fetch the files that are missing into DIR/MNIST/raw (needs ``pooch``).
        binarise: see :func:`prepare`.
        seed: fixes the draws of ``binarise="sampled"``.

    Raises:
        MissingDataError: a file is missing, damaged, or cannot be fetched.
    """
    root = folder_of(data_dir)
    contents = [_load(file, root, download) for file in FILES]
    train_levels, train_labels, test_levels, test_labels = contents

    # Prepared as one set, so that under "sampled" no test image shares its draws with a train one.
    images, labels = prepare(
        np.concatenate([train_levels, test_levels]),
        np.concatenate([train_labels, test_labels]),
        binarise,
        seed,
    )
    n = len(train_labels)
    return ImageSplits(ImageSet(images[:n], labels[:n]), ImageSet(images[n:], labels[n:]))


def _load(file: IdxFile, root: Path, download: bool) -> npt.NDArray[np.uint8]:
    read = partial(_read, file)
    faults: list[MissingDataError] = []
    content = first_intact(_copies(file, root), read, faults)
    if content is not None:
        return content
    if faults:
        raise faults[0]
    return read(_obtain(file, root, download))


def _copies(file: IdxFile, root: Path) -> list[Path]:
    """Where the file may be, folder by folder, plain before gzipped."""
    names = (file.name, f"{file.name}-gz")
    found = [
        (folder, names.index(name), path)
        for folder, where in enumerate(FOLDERS)
        for path in entries(root / where)
        if (name := path.name.lower().replace(".", "-")) in names
    ]
    return [path for *_, path in sorted(found)]


def _obtain(file: IdxFile, root: Path, download: bool) -> Path:
    archive = f"{file.name}.gz"
    if not download:
        raise MissingDataError(
            f"{file.name} is missing, plain or .gz, from {root}, {root / 'raw'} and "
            f"{root / TORCHVISION_FOLDER}: fetch it with `--download` (download=True), "
            "or name the folder that has it with `--data-dir`."
        )
    return fetch(URL, archive, file.md5_gz, root / TORCHVISION_FOLDER)


def _read(file: IdxFile, path: Path) -> npt.NDArray[np.uint8]:
    """The array in an idx file: magic number (its last byte counts the axes), sizes, values."""
    with opened(path) as packed:
        gzipped = packed.read(len(GZIP)) == GZIP  # a browser may have unpacked it
        packed.seek(0)
        plain = cast(BinaryIO, gzip.GzipFile(fileobj=packed)) if gzipped else packed
        try:
            # No more than belongs there: a small file of gzip can stand for gigabytes.
            content = plain.read(file.size + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error):  # cut short, followed by more, garbled
            content = b""
    # The MD5 of the content, not of the archive: recompressing a file does not damage it.
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        raise MissingDataError(
            f"{path} does not match its checksum: delete it and fetch it again with `--download`."
        )
    num_axes = content[3]
    sizes = np.frombuffer(content, dtype=">u4", count=num_axes, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * num_axes).reshape(sizes)
