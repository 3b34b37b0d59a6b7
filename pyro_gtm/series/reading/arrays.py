"""Arrays of NumPy: headers are read and sizes checked before an array is."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from pyro_gtm.series.data import Series
from pyro_gtm.series.reading.failures import DataFileError, check_size

__all__ = ["read_npy", "read_npz"]

MEMBERS = ("values", "mask", "lengths", "controls", "ids", "channels", "times", "control_names")
KINDS = "biuf"
"""Of NumPy's kinds of numbers, those that values may be of."""


def read_npy(path: Path) -> Series:
    """Series from one array."""
    with open(path, "rb") as file:
        array = _array(path, "the array", file, path.stat().st_size)
    return _series(path, {"values": array})


def read_npz(path: Path) -> Series:
    """Series from arrays by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            check_size(path, sum(info.file_size for info in members.values()))
            unknown = [name for name in members if name not in MEMBERS]
            if len(members) == 1 and unknown:  # as np.savez(path, array) writes it
                members = {"values": members[unknown[0]]}
            elif unknown or "values" not in members:
                raise DataFileError(
                    path,
                    f"holds {', '.join(members) or 'nothing'}; 'values' is needed, and "
                    f"{', '.join(MEMBERS[1:])} are allowed",
                )
            arrays = {}
            for name, info in members.items():
                with archive.open(info) as file:
                    arrays[name] = _array(path, name, file, info.file_size)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        # An unknown compression is NotImplementedError, a password RuntimeError.
        raise DataFileError(
            path, f"is no readable .npz file ({_first_line(error) or 'it is cut short'})"
        ) from error
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


def _array(path: Path, name: str, file: IO[bytes], size: int) -> Any:
    """An array whose header says no more than there is."""
    try:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if header is None:
            raise DataFileError(path, f"holds {name} in version {version} of NumPy's format")
        shape, fortran_order, dtype = header(file)
    except (ValueError, SyntaxError, tokenize.TokenError, EOFError) as error:
        raise DataFileError(
            path, f"holds {name} with a damaged header ({_first_line(error)})"
        ) from error
    if dtype.hasobject:
        raise DataFileError(path, f"holds {name} as Python objects, which may hold code; refused")
    wanted = math.prod(shape) * dtype.itemsize
    check_size(path, wanted, name)
    if wanted > size:
        raise DataFileError(
            path,
            f"is cut short: {name} of shape {shape} takes {wanted:,} bytes, and there are at most "
            f"{size:,}",
        )
    content = io.BytesIO(file.read(wanted))
    if len(content.getbuffer()) < wanted:
        raise DataFileError(
            path, f"is cut short: {name} has {len(content.getbuffer()):,} of {wanted:,} bytes"
        )
    array = np.frombuffer(content.getbuffer(), dtype=dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else ""
