"""Ink in PNG files of strangers: which pixels of a drawing were drawn.

Published drawings are black on white. White on black, on a clear ground, in grey or in colour they
are the same drawings, and are read as such.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 13
NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # chunks that pixels are made of
SIXTEEN_BITS = ("I", "I;16")  # Pillow's modes, in older and newer releases
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the header's type of colour
PASSES = (  # of an interlaced image: the first column and row of each, and the steps between them
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
MOST_BYTES = 2**20  # of a file of one drawing; the published ones take some 200

INK_AT_MOST = 0.75
"""Of a drawing's pixels. Those of Omniglot are 0.2 % to 22 % ink, and more than 78 % paper, so that
one with more dark pixels than this is white on black."""


class DrawingError(ValueError):
    """A file is no such drawing; the message says what it is instead."""


def read_ink(content: bytes, side: int) -> npt.NDArray[np.bool_]:
    """The pixels that are ink: ``(side, side)``.

    Args:
        content: of a PNG file.
        side: pixels of the drawing, across and from top to bottom.

    Raises:
        DrawingError: it is no PNG file, damaged, of another size, or has no ink.
    """
    plain = _without_extras(content, side)
    try:
        with Image.open(BytesIO(plain), formats=["PNG"]) as image:
            dark = _dark(image)
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise DrawingError("it is damaged") from error
    ink = ~dark if dark.mean() > INK_AT_MOST else dark
    if not ink.any():
        raise DrawingError("it is blank, or its ink is on the same side of mid-grey as its paper")
    return ink


def _without_extras(content: bytes, side: int) -> bytes:
    """The file less texts, profiles and animations, which can be packed larger than any drawing.

    Pillow does not look at the checksums of pixels, and takes rows that are not there for black;
    here the checksums of all chunks that stay are looked at, and the rows counted.
    """
    if len(content) > MOST_BYTES:
        raise DrawingError(f"it takes more than {MOST_BYTES:,} bytes")
    if not content.startswith(SIGNATURE):
        raise DrawingError("it is no PNG file")
    kept, place = [SIGNATURE], len(SIGNATURE)
    kind, header, packed = b"", b"", b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", content[place : place + 8].ljust(8, b"\xff"))
        chunk = content[place : place + 12 + length]
        place += 12 + length
        if len(chunk) < 12 + length:
            raise DrawingError("it is cut short")
        if kind not in NEEDED:
            continue
        intact = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if not intact or (kind == b"IHDR" and length != HEADER_BYTES):
            raise DrawingError("it is damaged")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", chunk, 8)
            if (width, height) != (side, side):
                raise DrawingError(f"it has {width} x {height}")
            header = chunk[8:-4]
        if kind == b"IDAT":
            packed += chunk[8:-4]
        kept.append(chunk)
    size = _size_of_rows(header)
    try:
        rows = zlib.decompressobj().decompress(packed, size)
    except zlib.error as error:
        raise DrawingError("it is damaged") from error
    if len(rows) < size:
        raise DrawingError("it is cut short")
    return b"".join(kept)


def _size_of_rows(header: bytes) -> int:
    """How many bytes the rows of an image have, each with one for its filter."""
    try:
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        bits = depth * CHANNELS[colour]
    except (struct.error, KeyError) as error:
        raise DrawingError("it is damaged") from error

    def size(columns: int, rows: int) -> int:
        return rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0

    if not interlaced:
        return size(width, height)
    return sum(
        size(-(-(width - left) // across), -(-(height - top) // down))
        for left, top, across, down in PASSES
    )


def _dark(image: Image.Image) -> npt.NDArray[np.bool_]:
    """Pixels nearer to black than to white, as they are seen on a ground that shows them."""
    if image.mode in SIXTEEN_BITS:
        return np.asarray(image) < 2**15
    if "A" not in image.getbands() and "transparency" not in image.info:
        return np.asarray(image.convert("L")) < 128
    seen = image.convert("RGBA")
    on_white = _on_ground(seen, "white") < 128
    return on_white if on_white.any() else _on_ground(seen, "black") >= 128


def _on_ground(image: Image.Image, colour: str) -> npt.NDArray[np.uint8]:
    ground = Image.new("RGBA", image.size, colour)
    return np.asarray(Image.alpha_composite(ground, image).convert("L"))
