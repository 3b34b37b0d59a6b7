"""Files as they come: companions that systems leave, copies of which one is damaged, no files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from pyro_gtm.experiments.data.images import MissingDataError

CHUNK = 2**20  # bytes that are read at once
COMPANIONS = (".", "__MACOSX")
"""How names begin that systems leave: ``._drawing.png``, ``.DS_Store``, ``.ipynb_checkpoints``."""

Content = TypeVar("Content")


def folder_of(data_dir: str | os.PathLike[str]) -> Path:
    """The folder of a source, ``~`` taken for the user's own.

    Raises:
        MissingDataError: it is there and no folder, or cannot be looked into.
    """
    folder = Path(data_dir)
    try:
        folder = folder.expanduser()
        if folder.exists():
            next(folder.iterdir(), None)
    except (OSError, RuntimeError, ValueError) as error:  # ~ of nobody; a name that none can have
        raise MissingDataError(
            f"{folder} cannot be looked into ({_reason(error)}): "
            "name the folder of the data with `--data-dir`."
        ) from error
    return folder


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, less what systems leave there; nothing if it is none.

    Raises:
        MissingDataError: it cannot be looked into.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith(COMPANIONS))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise MissingDataError(f"{folder} cannot be looked into: {_reason(error)}.") from error
    return [folder / name for name in names]


def is_there(path: Path) -> bool:
    """Whether something has that name, a broken link too."""
    return os.path.lexists(path)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """An ordinary file, open to be read.

    Raises:
        MissingDataError: it is no file, or reading it fails.
    """
    try:
        if not path.is_file():  # a pipe, too, which would be waited for
            kind = "a folder" if path.is_dir() else "a link to nothing, or no ordinary file"
            raise MissingDataError(f"{path} is {kind} in the place of a file: take it away.")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise MissingDataError(f"{path} cannot be read: {_reason(error)}.") from error


def md5_of(file: BinaryIO) -> str:
    """The MD5 of an open file, which is at its beginning again afterwards."""
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def first_intact(
    paths: Iterable[Path], read: Callable[[Path], Content], faults: list[MissingDataError]
) -> Content | None:
    """What the first of several copies holds that can be read; None where none can.

    Args:
        paths: where copies lie.
        read: reads one, and raises :class:`MissingDataError` where it is damaged.
        faults: takes what was wrong with those before.
    """
    for path in paths:
        try:
            return read(path)
        except MissingDataError as fault:
            faults.append(fault)
    return None


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__
