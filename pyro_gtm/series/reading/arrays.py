"""Arrays of NumPy: headers are read and sizes checked before an array is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_gtm.internals.array_files import ArrayFileError, open_archive, read_array
from pyro_gtm.series.data import Series
from pyro_gtm.series.reading.failures import MOST_BYTES, DataFileError

__all__ = ["read_npy", "read_npz"]

MEMBERS = ("values", "mask", "lengths", "controls", "ids", "channels", "times", "control_names")
KINDS = "biuf"
"""Of NumPy's kinds of numbers, those that values may be of."""


def read_npy(path: Path) -> Series:
    """Series from one array."""
    with _naming(path), open(path, "rb") as file:
        array = read_array(file, "the array", path.stat().st_size, MOST_BYTES)
    return _series(path, {"values": array})


def read_npz(path: Path) -> Series:
    """Series from arrays by name."""
    with _naming(path), open(path, "rb") as file, open_archive(file) as archive:
        members = {name: name for name in archive.names}
        unknown = [name for name in members if name not in MEMBERS]
        if len(members) == 1 and unknown:  # as np.savez(path, array) writes it
            members = {"values": unknown[0]}
        elif unknown or "values" not in members:
            raise DataFileError(
                path,
                f"holds {', '.join(members) or 'nothing'}; 'values' is needed, and "
                f"{', '.join(MEMBERS[1:])} are allowed",
            )
        arrays: dict[str, Any] = {}
        left = MOST_BYTES
        for name, member in members.items():
            arrays[name] = archive.read(member, left)
            left -= arrays[name].nbytes
    return _series(path, arrays)


def _series(path: Path, arrays: dict[str, Any]) -> Series:
    values = arrays["values"]
    if values.dtype.kind not in KINDS:
        raise DataFileError(
            path, f"holds values of type {values.dtype}, and real numbers are allowed"
        )
    try:
        return Series.of(**arrays)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataFileError(path, f"is refused: {_first_line(error)}") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except ArrayFileError as error:
        raise DataFileError(path, str(error)) from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else ""
