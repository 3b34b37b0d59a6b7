"""Labelled image sets: what the tasks draw their frames from.

One file a source; each returns an `ImageSplits` of ready tensors. Nothing here knows of tasks,
models or Pyro. A new source is one function with the arguments of `load_images` less the name,
and one line in `IMAGE_SOURCES`.
"""

from __future__ import annotations

from pyro_gtm.data.digits import load_digits
from pyro_gtm.data.images import (
    BINARISATIONS,
    ImageSet,
    ImageSplits,
    MissingDataError,
    prepare,
    with_shifts,
)
from pyro_gtm.data.mnist import load_mnist
from pyro_gtm.data.sources import IMAGE_SOURCES, load_images

__all__ = [
    "BINARISATIONS",
    "IMAGE_SOURCES",
    "ImageSet",
    "ImageSplits",
    "MissingDataError",
    "load_digits",
    "load_images",
    "load_mnist",
    "prepare",
    "with_shifts",
]
