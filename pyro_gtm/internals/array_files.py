"""Arrays from .npy and .npz files of strangers: no code of theirs runs, no size is believed.

NumPy's own reader evaluates a header as Python, takes the memory that it declares, and unpickles
objects where it is let. Here a header must have the form that NumPy writes, and an array is made
only when the file is long enough to hold it.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ArrayArchive", "ArrayFileError", "ArrayHeader", "open_archive", "read_array"]

MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # by version of the format
MOST_HEADER = 10_000  # bytes, as in NumPy
MOST_AXES = 32  # those of every release of NumPy
MOST_DIGITS = 18  # of an axis, beyond any length there is
MOST_DEFLATED = 1032  # bytes that one deflated byte can stand for
MOST_LETTERS = 80  # of a name, and of what a sentence quotes of the file
CHUNK = 2**20  # bytes that are read at once

ENTRY = re.compile(
    r"""['"](?:"""
    r"""descr['"]\s*:\s*['"](?P<descr>[^'"]{1,16})['"]"""
    r"""|fortran_order['"]\s*:\s*(?P<order>True|False)"""
    r"""|shape['"]\s*:\s*\(\s*(?P<shape>(?:\d+L?\s*(?:,\s*\d+L?\s*)*,?\s*)?)\))"""
)
HEADER = re.compile(rf"\{{\s*(?:{ENTRY.pattern}\s*(?:,\s*|(?=\}})))*\}}\s*")
"""The dictionary that NumPy writes, of Python 3 or 2, its entries in any order."""

# A word has fewer than 2**29 letters, for NumPy before 2 counts their bytes in 32 bits.
NUMBERS_AND_WORDS = re.compile(r"[<>|=]?(?:b1|[iufc]\d{1,2}|[SU]\d{1,8})")

STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1  # a flag of a member

DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # a password; a newer version of the format
    OverflowError,  # a place beyond any file
    UnicodeDecodeError,  # the name of a member
    ValueError,  # a negative place
    OSError,  # a place that cannot be sought
)
"""What reading a damaged archive raises."""


class ArrayFileError(ValueError):
    """An array cannot be had from a file; the message goes on after the file's name."""


class ArrayHeader(NamedTuple):
    """What a file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool


class ArrayArchive:
    """The arrays of an open .npz file, by name; made by :func:`open_archive`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        self.names = tuple(self._members)
        if not all(name.isprintable() and len(name) <= MOST_LETTERS for name in self.names):
            raise ArrayFileError("is no readable .npz file (the name of an array is damaged)")

    def header(self, name: str) -> ArrayHeader:
        """What the file says of an array, of which no value is read.

        Raises:
            ArrayFileError: there is none of this name, or it is unreadable.
        """
        with self._open(name) as file:
            return _read_header(file, name)

    def read(self, name: str, most_bytes: int) -> npt.NDArray[Any]:
        """An array, in memory of its own.

        Args:
            name: of the array.
            most_bytes: that it may take.

        Raises:
            ArrayFileError: there is none of this name, it is unreadable, or too large.
        """
        info = self._member(name)
        # What the directory declares may be false, but no packed byte can stand for more than this.
        room = info.compress_size * (MOST_DEFLATED if info.compress_type else 1)
        with self._open(name) as file:
            return read_array(file, name, min(info.file_size, room), most_bytes)

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise ArrayFileError(f"has no {name}")
        return self._members[name]

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        info = self._member(name)
        if info.flag_bits & ENCRYPTED:
            raise ArrayFileError(f"is no readable .npz file ({name} is under a password)")
        if info.compress_type not in STORED_OR_DEFLATED:
            raise ArrayFileError(
                f"is no readable .npz file ({name} is packed by method {info.compress_type}, and "
                "NumPy stores or deflates)"
            )
        with _naming_damage(), self._archive.open(info) as file:
            yield file


@contextmanager
def open_archive(file: IO[bytes]) -> Iterator[ArrayArchive]:
    """The arrays of an .npz file.

    Args:
        file: open to be read.

    Raises:
        ArrayFileError: it is no such archive.
    """
    with _naming_damage():
        archive = zipfile.ZipFile(file)
    with archive:
        yield ArrayArchive(archive)


def read_array(file: IO[bytes], name: str, size: int, most_bytes: int) -> npt.NDArray[Any]:
    """The array of a .npy file, in memory of its own.

    Args:
        file: open to be read, at its beginning.
        name: what to call the array where it cannot be had.
        size: of the file, in bytes.
        most_bytes: that the array may take.

    Raises:
        ArrayFileError: it is unreadable, too large, or is followed by something else.
    """
    shape, dtype, fortran_order = _read_header(file, name)
    wanted = math.prod(shape) * dtype.itemsize
    # An array of no values has strides all the same, which must not be beyond any number.
    spanned = max(1, dtype.itemsize) * math.prod(max(1, length) for length in shape)
    if spanned > most_bytes:
        raise ArrayFileError(
            f"is too large: {name} of shape {shape} would take more than the "
            f"{most_bytes / 2**30:.3g} GiB that are allowed"
        )
    if wanted > size:
        raise ArrayFileError(
            f"is cut short: {name} of shape {shape} takes {wanted:,} bytes, and there are at most "
            f"{size:,}"
        )
    values = _read_exactly(file, name, wanted)
    if file.read(1):
        raise ArrayFileError(f"holds more than {name}, of shape {shape}")
    return np.ndarray(shape, dtype, values.data, order="F" if fortran_order else "C")


def _read_exactly(file: IO[bytes], name: str, wanted: int) -> npt.NDArray[np.uint8]:
    try:
        values = np.empty(wanted, np.uint8)
    except MemoryError as error:
        raise ArrayFileError(
            f"is too large: {name} takes {wanted:,} bytes, more than is left here"
        ) from error
    filled = 0
    while chunk := file.read(min(CHUNK, wanted - filled)):
        values[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < wanted:
        raise ArrayFileError(f"is cut short: {name} has {filled:,} of {wanted:,} bytes")
    return values


def _read_header(file: IO[bytes], name: str) -> ArrayHeader:
    start = file.read(len(MAGIC) + 2)
    if start[: len(MAGIC)] != MAGIC:
        raise ArrayFileError(f"holds {name} with a damaged header, or in another format")
    length_bytes = LENGTH_BYTES.get(start[len(MAGIC) :])
    if length_bytes is None:
        raise ArrayFileError(f"holds {name} in an unknown version of NumPy's format")
    length = int.from_bytes(file.read(length_bytes), "little")
    text = file.read(min(length, MOST_HEADER)).decode("latin-1")
    entries = {key: entry[key] for entry in ENTRY.finditer(text) if (key := entry.lastgroup)}
    if len(text) != length or not HEADER.fullmatch(text) or len(entries) != 3:
        raise ArrayFileError(f"holds {name} with a damaged header, or with fields of several types")
    return ArrayHeader(
        _shape(entries["shape"], name), _dtype(entries["descr"], name), entries["order"] == "True"
    )


def _shape(text: str, name: str) -> tuple[int, ...]:
    lengths = re.findall(r"\d+", text)
    if len(lengths) > MOST_AXES or any(len(digits) > MOST_DIGITS for digits in lengths):
        raise ArrayFileError(f"is too large: {name} is of a shape that no array can have")
    return tuple(map(int, lengths))


def _dtype(descr: str, name: str) -> np.dtype[Any]:
    if "O" in descr:
        raise ArrayFileError(f"holds {name} as Python objects, which may hold code; refused")
    refusal = ArrayFileError(f"holds {name} of type {_words(descr)}; numbers and words are allowed")
    if not NUMBERS_AND_WORDS.fullmatch(descr):
        raise refusal
    try:
        return np.dtype(descr)
    except (TypeError, ValueError) as error:  # i3
        raise refusal from error


@contextmanager
def _naming_damage() -> Iterator[None]:
    try:
        yield
    except ArrayFileError:
        raise
    except DAMAGED_ARCHIVE as error:
        reason = _words(str(error)) or "it is cut short"
        raise ArrayFileError(f"is no readable .npz file ({reason})") from error


def _words(text: str) -> str:
    """What a sentence may hold of a text that comes from a file."""
    return "".join(filter(str.isprintable, text))[:MOST_LETTERS]
