"""Arrays from files: what NumPy writes is read, and what no array is ends in one sentence."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest

from pyro_gtm.internals.array_files import ArrayFileError, open_archive, read_array

GIBIBYTE = 2**30


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def with_header(text: str, values: bytes = bytes(24)) -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def of_shape(shape: str, descr: str = "'<f8'") -> bytes:
    return with_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")


def npz(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    # Of one date, whenever it is made: its bytes name tests, which are the same in all workers.
    member = zipfile.ZipInfo("values.npy")
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content, method)
    return buffer.getvalue()


def read(content: bytes, most_bytes: int = GIBIBYTE) -> Any:
    return read_array(io.BytesIO(content), "values", len(content), most_bytes)


def read_packed(content: bytes, most_bytes: int = GIBIBYTE) -> Any:
    with open_archive(io.BytesIO(content)) as archive:
        return archive.read("values", most_bytes)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(2.5, dtype=">f4"),
        np.array(["a", "word", "ü"]),
        np.array([b"bytes"]),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.zeros((0, 3), dtype=np.uint8),
        np.str_(""),
    ],
    ids=str,
)
def test_what_numpy_writes_is_read(array: Any) -> None:
    for found in (read(npy(array)), read_packed(npz(npy(array)))):
        assert found.dtype == np.asarray(array).dtype
        assert np.array_equal(found, array)
        assert found.flags.writeable


def test_every_version_of_the_format_is_read() -> None:
    for version in ((1, 0), (2, 0), (3, 0)):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.arange(3), version)
        assert read(buffer.getvalue()).tolist() == [0, 1, 2]


def test_headers_of_python_2_and_of_other_programs_are_read() -> None:
    assert read(of_shape("(3L,)")).shape == (3,)
    assert read(with_header('{"shape":(1,3),"fortran_order":False,"descr":"<f8"}')).shape == (1, 3)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "in another format"),
        (b"values", "in another format"),
        (b"\x93NUMPY\x09\x00", "unknown version"),
        (npy(np.zeros(3))[:9], "damaged header"),
        (npy(np.zeros(3))[:60], "damaged header"),
        (npy(np.zeros(3))[:-1], "cut short: values has 23 of 24 bytes"),
        (npy(np.zeros(3)) + b"0", r"more than values, of shape \(3,\)"),
        (of_shape(f"({2**37},)"), "too large: .* more than the 1 GiB"),
        (of_shape(f"({2**70},)"), "too large"),
        (of_shape(f"(0, {2**70})"), "too large"),
        (of_shape(f"(0, {2**60})"), "too large"),
        (of_shape(str((1,) * 33)), "too large: values is of a shape that no array can have"),
        (of_shape(f"({2**20},)"), "cut short: .* 8,388,608 bytes, and there are at most"),
        (of_shape("(-3,)"), "damaged header"),
        (of_shape("(3,"), "damaged header"),  # TokenError in NumPy's reader
        (of_shape("(" * 5000), "damaged header"),
        (of_shape("(3,)", "__import__('os').system('echo')"), "damaged header"),
        (of_shape("(3,)", "[('x', '<f8')]"), "fields of several types"),
        (of_shape("(3,)", "'|O'"), "Python objects, which may hold code"),
        (of_shape("(3,)", "'<M8[s]'"), r"of type <M8\[s\]; numbers and words are allowed"),
        (of_shape("(3,)", "'<i3'"), "of type <i3"),
        (of_shape("(3,)", "'\x00<f8'"), "of type <f8; numbers and words"),
        (of_shape("(3,)", "'<U999999999'"), "of type <U999999999|too large"),
        (with_header("{'descr': '<f8', 'shape': (3,)}"), "damaged header"),
    ],
)
def test_what_is_no_array_is_told(content: bytes, why: str) -> None:
    for attempt in (lambda: read(content), lambda: read_packed(npz(content))):
        with pytest.raises(ArrayFileError, match=why):
            attempt()


def test_nothing_is_allocated_for_what_is_not_there() -> None:
    tracemalloc.start()
    try:
        for content in (of_shape(f"({2**26},)"), of_shape(f"({2**37},)")):
            with pytest.raises(ArrayFileError):
                read_packed(npz(content))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def changed(offset_in_member: int, offset_in_list: int, value: int) -> bytes:
    content = bytearray(npz(npy(np.zeros(3))))
    content[content.find(b"PK\x03\x04") + offset_in_member] = value
    content[content.find(b"PK\x01\x02") + offset_in_list] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no archive", "no readable .npz file"),
        (npz(npy(np.zeros(3)))[:-30], "no readable .npz file"),
        (changed(6, 8, 1), r"no readable .npz file \(values is under a password\)"),
        (changed(8, 10, 77), r"no readable .npz file \(values is packed by method 77"),
        (npz(npy(np.zeros(3)), zipfile.ZIP_LZMA), "packed by method 14"),
        (changed(30, 46, 0x0A), r"no readable .npz file \(the name of an array is damaged\)"),
        (changed(14, 16, 1), r"no readable .npz file \(Bad CRC-32"),
    ],
)
def test_what_is_no_archive_is_told(content: bytes, why: str) -> None:
    with pytest.raises(ArrayFileError, match=why):
        read_packed(content)


def test_an_array_that_is_not_there_is_named() -> None:
    with open_archive(io.BytesIO(npz(npy(np.zeros(3))))) as archive:
        assert archive.names == ("values",)
        assert archive.header("values").shape == (3,)
        with pytest.raises(ArrayFileError, match="has no frames"):
            archive.read("frames", GIBIBYTE)
