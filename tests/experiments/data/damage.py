"""Damaged and odd files, as Hypothesis draws them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

BOMB = gzip.compress(bytes(2**25))  # 32 KB


class Code:
    """What would run where a pickle is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo code was run",)


FOREIGN = (
    b"",
    b"\0",
    b"<html>404</html>",
    BOMB,
    pickle.dumps(Code()),
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
)
"""Files of other kinds, left where one of these belongs."""


NO_FILES = st.sampled_from(["nothing", "folder", "broken link", "loop", "pipe"])
"""What can lie in the place of a file; in the place of its content, for :func:`put`."""


def put(path: Path, content: bytes | str) -> None:
    """Make a file of this content, or one of NO_FILES."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(path)
    elif content in ("broken link", "loop"):
        path.symlink_to(path if content == "loop" else path.with_name("nothing at all"))


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Cut, changed, filled up, mixed up, or something else."""
    content = bytearray(good)
    places = st.integers(0, max(0, len(content) - 1))
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(places), draw(st.integers(1, 40))
        how = draw(
            st.sampled_from(["flip", "flip", "cut", "drop", "repeat", "insert", "overwrite"])
        )
        if how == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del content[at:]
        elif how == "drop":
            del content[at : at + length]
        elif how == "repeat":
            content[at:at] = content[at : at + length]
        elif how == "insert":
            content[at:at] = draw(st.binary(max_size=length))
        elif how == "overwrite":
            content[at : at + length] = b"\xff" * length
    return bytes(content)


def bytes_like(good: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(good), damaged(good), st.sampled_from(FOREIGN))


LENGTHS = st.sampled_from(
    [0, 1, 2, 3, 4, 5, 2**20, 2**40, 2**62, 2**63, 2**70, 10**40, -1, -(2**62)]
)
SHAPES = st.one_of(
    st.lists(LENGTHS, max_size=6).map(lambda lengths: str(tuple(lengths))),
    st.sampled_from(
        [
            "(2, 3, 4, 4, 3)",
            "(2L, 3L)",
            "(",
            "((((",
            "[2]",
            "3",
            "None",
            "(1,)*9",
            "(0x10,)",
            "(1e3,)",
        ]
    ),
    st.integers(30, 70).map(lambda axes: str((1,) * axes)),
)
WELL_FORMED = "|u1 <f8 >f8 |b1 <c16 <f16 |O <M8[ns] |V8 |S0 <U0 <U5 <U999999999 <i3 f4,f4 uint8 a5"
TYPES = st.one_of(
    st.sampled_from(WELL_FORMED.split(" ")).map(repr),
    st.sampled_from(
        ["[('x','<f4')]", "('<f4',(2,))", "__import__('os').system('x')", "'\\d'", "1_0a"]
    ),
)


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    """A header that says anything, and some values."""
    entries = [
        f"'descr': {draw(TYPES)}",
        f"'fortran_order': {draw(st.sampled_from(['False', 'True', '0', 'false']))}",
        f"'shape': {draw(SHAPES)}",
    ]
    entries = draw(
        st.one_of(st.just(entries), st.permutations(entries), st.lists(st.sampled_from(entries)))
    )
    text = (
        "{" + ", ".join(entries) + draw(st.sampled_from([", }", "}", "", "}}", ", 'x': (", "\0}"]))
    )
    header = text.encode().ljust(draw(st.sampled_from([0, 118, 20_000]))) + b"\n"
    version, packing = draw(
        st.sampled_from([(1, "<H"), (1, "<H"), (2, "<I"), (3, "<I"), (9, "<H")])
    )
    length = draw(st.sampled_from([len(header), len(header), 0, 1, 65_535]))
    values = bytes(draw(st.sampled_from([0, 1, 8, 100, 288, 289])))
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(packing, length) + header + values


def npy(array: Any, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array), allow_pickle=pickled)
    return buffer.getvalue()


OBJECTS = npy(np.array([Code()], dtype=object), pickled=True)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Fields of a member: their places in its own header and in the directory, and their lengths.
FIELDS = ((6, 8, 2), (8, 10, 2), (14, 16, 4), (18, 20, 4), (22, 24, 4), (26, 28, 2), (28, 30, 2))


@st.composite
def npz_files(draw: st.DrawFn, members: dict[str, bytes]) -> bytes:
    """An archive of these members, some of them others, and its own fields perhaps false."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw(st.sampled_from(METHODS))) as archive:
        for name, good in members.items():
            fate = draw(
                st.sampled_from(["good", "good", "good", "header", "damaged", "objects", "gone"])
            )
            content = {"good": good, "objects": OBJECTS}.get(fate)
            if fate == "header":
                content = draw(npy_files())
            elif fate == "damaged":
                content = draw(bytes_like(good))
            if content is not None:
                archive.writestr(f"{name}.npy", content)
    content = bytearray(buffer.getvalue())
    if draw(st.booleans()):
        own, listed = content.find(b"PK\x03\x04"), content.find(b"PK\x01\x02")
        for at, at_listed, length in draw(st.lists(st.sampled_from(FIELDS), max_size=2)):
            value = draw(st.sampled_from([0, 1, 99, 2**16 - 1, 2**31, 2**32 - 1])) % 2 ** (
                8 * length
            )
            for start in {own + at, listed + at_listed} if own >= 0 <= listed else ():
                content[start : start + length] = value.to_bytes(length, "little")
    return bytes(content)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


PACKED_TEXT = zlib.compress(bytes(2**25))
EXTRAS = st.one_of(
    st.sampled_from(
        [
            (b"zTXt", b"comment\0\0" + PACKED_TEXT),
            (b"iTXt", b"comment\0\1\0\0\0" + PACKED_TEXT),
            (b"iCCP", b"profile\0\0" + PACKED_TEXT),
            (b"acTL", bytes(8)),
            (b"fdAT", bytes(8)),
            (b"eXIf", b"MM"),
            (b"PLTE", bytes(768)),
            (b"tRNS", b"\0"),
            (b"tRNS", bytes(300)),
            (b"gAMA", b""),
            (b"IDAT", PACKED_TEXT),
            (b"IEND", b""),
        ]
    ),
    st.tuples(
        st.sampled_from([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"pHYs"]), st.binary(max_size=20)
    ),
)


@st.composite
def png_headers(draw: st.DrawFn, side: int) -> tuple[bytes, bytes]:
    sides = st.sampled_from([side, side, 0, 1, side + 1, 10_000, 30_000, 2**31 - 1, 2**32 - 1])
    small = st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 255])
    fields = draw(sides), draw(sides), *(draw(small) for _ in range(5))
    return b"IHDR", struct.pack(">IIBBBBB", *fields)


@st.composite
def png_files(draw: st.DrawFn, good: bytes, side: int) -> bytes:
    """Whole chunks, with their checksums, that are others, twice, away or in another order."""
    at, chunks = 8, []
    while at < len(good):
        (length,) = struct.unpack_from(">I", good, at)
        chunks.append((good[at + 4 : at + 8], good[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(chunks)))
        added = draw(st.one_of(EXTRAS, EXTRAS, png_headers(side)))
        replaced = draw(st.integers(0, 1))
        chunks[place : place + replaced] = [added]
    return good[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


@st.composite
def odd_drawings(draw: st.DrawFn, ink: np.ndarray) -> bytes:
    """The same ink in other colours, on other grounds, in other modes of PNG."""
    dark, light = draw(st.integers(0, 120)), draw(st.integers(135, 255))
    first, second = (dark, light) if draw(st.booleans()) else (light, dark)
    levels = np.where(ink, first, second).astype(np.uint8)
    mode = draw(st.sampled_from(["1", "L", "P", "RGB", "RGBA", "LA", "clear", "I;16"]))
    if mode == "I;16":
        return png(Image.fromarray(levels.astype(np.uint16) * 257))
    if mode == "clear":
        opaque = np.where(ink, 255, 0).astype(np.uint8)
        grey = Image.fromarray(np.full_like(levels, first))
        grey.putalpha(Image.fromarray(opaque))
        return png(grey.convert(draw(st.sampled_from(["LA", "RGBA"]))))
    if mode == "1":
        return png(Image.fromarray(levels >= 128))
    return png(Image.fromarray(levels).convert(mode))
