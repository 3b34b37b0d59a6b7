"""Series from files: tables, arrays, lists of notes and folders of images.

One file a format.  Every reader looks at names, kinds and sizes before it takes memory for them,
runs no code from a file, and refuses with one sentence that names the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyro_gtm.series.data import Series
from pyro_gtm.series.reading.arrays import read_npy, read_npz
from pyro_gtm.series.reading.failures import DataFileError
from pyro_gtm.series.reading.images import read_images
from pyro_gtm.series.reading.notes import KEYS, read_notes
from pyro_gtm.series.reading.tables import Columns, read_csv, series_of_frame

__all__ = ["KEYS", "Columns", "DataFileError", "read", "series_of_frame"]

READERS: dict[str, Callable[..., Series]] = {
    ".csv": read_csv,
    ".npz": read_npz,
    ".npy": read_npy,
    ".json": read_notes,
}
"""By the ending of a file's name."""


def read(path: str | os.PathLike[str], **options: Any) -> Series:
    """Series from a file, or from a folder of images.

    - ``.csv``: a table whose first line names its columns; wide (a column for each channel) or long
      (a column for the channel's name, one for the value), with a column of series ids and one of
      times where there are such.  Options: those of :class:`Columns`.  An empty cell is a gap.
    - ``.npy``: an array as :meth:`Series.of` takes it, ``(T,)``, ``(T, C)`` or ``(N, T, *event)``;
      NaN is a gap.
    - ``.npz``: the same as ``values``, and perhaps ``mask``, ``lengths``, ``controls``, ``ids``,
      ``channels``, ``times`` and ``control_names`` (arguments of :meth:`Series.of`).
    - ``.json``: pieces of music, each a list of steps, each a list of MIDI notes; or an object with
      such a list under each name, of which option ``part`` chooses one.
    - a folder: one of images (a series, in the natural order of their names), or one of such
      folders (a series each).  Frames are ``(colours, height, width)``, in [0, 1].

    Args:
        path: the file or folder.
        **options: of its format.

    Raises:
        DataFileError: one sentence that names the file and says what is wrong with it.
        ValueError: an option that the format does not take.
    """
    path = Path(path)
    if not str(path) or not path.exists():
        raise DataFileError(path, "does not exist")
    if not path.is_file() and not path.is_dir():
        raise DataFileError(path, "is neither a file nor a folder")  # a pipe would be waited for
    reader = read_images if path.is_dir() else READERS.get(path.suffix.lower())
    if reader is None:
        raise DataFileError(
            path,
            f"ends in {path.suffix or 'nothing'!r}, and a name that ends in "
            f"{', '.join(READERS)} or a folder of images is allowed",
        )
    allowed = reader.__kwdefaults__ or {}
    for name in options:
        if name not in allowed:
            raise ValueError(
                f"read: option {name!r} given, {path.suffix or 'a folder of images'} takes "
                f"{', '.join(allowed) or 'none'}"
            )
    try:
        return reader(path, **options)
    except OSError as error:
        raise DataFileError(path, f"cannot be read: {error.strerror or error}") from error
