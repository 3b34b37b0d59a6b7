"""The image sources by name: what `--data` on the command line chooses from."""

from __future__ import annotations

import os
from collections.abc import Callable

from pyro_gtm.data.digits import load_digits
from pyro_gtm.data.images import ImageSplits
from pyro_gtm.data.mnist import load_mnist

Folder = str | os.PathLike[str]


def load_images(
    name: str,
    data_dir: Folder | None = None,
    download: bool = False,
    binarise: str = "threshold",
    seed: int = 0,
) -> ImageSplits:
    """The train and test images of the source called `name`, on the CPU.

    Args:
        name: a key of `IMAGE_SOURCES`.
        data_dir: the folder of a source that is read from one ("mnist").
        download: fetch what that folder lacks.
        binarise: see `prepare`.
        seed: fixes the draws of `binarise="sampled"`.

    Raises:
        ValueError: an unknown `name`, or a folder missing where one is needed or given where none
            is read.
        MissingDataError: the data cannot be had; the message says how to get it.
    """
    if name not in IMAGE_SOURCES:
        allowed = ", ".join(map(repr, IMAGE_SOURCES))
        raise ValueError(f"The image source {name!r} is not known: it must be one of {allowed}.")
    return IMAGE_SOURCES[name](data_dir, download, binarise, seed)


def _digits(data_dir: Folder | None, download: bool, binarise: str, seed: int) -> ImageSplits:
    if data_dir is not None or download:
        raise ValueError(
            f"The source 'digits' is installed with a package and takes no folder and no download: "
            f"data_dir={data_dir!r} and download={download!r} must be left out."
        )
    return load_digits(binarise, seed)


def _mnist(data_dir: Folder | None, download: bool, binarise: str, seed: int) -> ImageSplits:
    if data_dir is None:
        raise ValueError(
            "The source 'mnist' is read from a folder: name it with data_dir (`--data-dir DIR`)."
        )
    return load_mnist(data_dir, download, binarise, seed)


IMAGE_SOURCES: dict[str, Callable[[Folder | None, bool, str, int], ImageSplits]] = {
    "digits": _digits,
    "mnist": _mnist,
}
