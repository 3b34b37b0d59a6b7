"""Drawings in PNG files: the same ink however it is coloured, one sentence where there is none."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pyro_gtm.experiments.data.drawings import MOST_BYTES, DrawingError, read_ink

SIDE = 21
INK = np.zeros((SIDE, SIDE), dtype=bool)
INK[4:16, 9] = INK[10, 5:14] = True


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def coloured(ink: tuple[int, ...], ground: tuple[int, ...], mode: str) -> Image.Image:
    return Image.fromarray(np.where(INK[..., None], ink, ground).astype(np.uint8).squeeze(), mode)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def with_chunk(png: bytes, added: bytes) -> bytes:
    """After the header of 33 bytes."""
    return png[:33] + added + png[33:]


BLACK_ON_WHITE = saved(Image.fromarray(~INK))


@pytest.mark.parametrize(
    "png",
    [
        BLACK_ON_WHITE,
        saved(Image.fromarray(INK)),
        saved(coloured((30,), (220,), "L")),
        saved(coloured((200,), (90,), "L")),
        saved(coloured((10, 20, 90), (250, 240, 230), "RGB")),
        saved(coloured((255, 255, 255), (0, 0, 60), "RGB")),
        saved(coloured((0, 0, 0, 255), (255, 255, 255, 255), "RGBA")),
        saved(coloured((255, 255, 255, 255), (0, 0, 0, 255), "RGBA")),
        saved(coloured((0, 0, 0, 255), (0, 0, 0, 0), "RGBA")),
        saved(coloured((0, 0, 0, 255), (255, 255, 255, 0), "RGBA")),
        saved(coloured((255, 255, 255, 255), (0, 0, 0, 0), "RGBA")),
        saved(coloured((0, 255), (0, 0), "LA")),
        saved(coloured((255, 255), (255, 0), "LA")),
        saved(coloured((0,), (1,), "L"), transparency=1),
        saved(coloured((10, 20, 90), (250, 240, 230), "RGB").quantize(2)),
        saved(coloured((0, 0, 90, 255), (0, 0, 0, 0), "RGBA").quantize(2)),
        saved(Image.fromarray(np.where(INK, 9_000, 60_000).astype(np.uint16))),
        saved(Image.fromarray(np.where(INK, 60_000, 9_000).astype(np.uint16))),
    ],
    ids=[
        "black on white",
        "white on black",
        "grey",
        "light on grey",
        "colours",
        "white on blue",
        "opaque RGBA",
        "opaque RGBA, white on black",
        "clear ground, black beneath",
        "clear ground, white beneath",
        "white on a clear ground",
        "LA",
        "LA, white on a clear ground",
        "one level is clear",
        "palette",
        "palette with a clear ground",
        "16 bits",
        "16 bits, white on black",
    ],
)
def test_ink_is_what_was_drawn(png: bytes) -> None:
    assert np.array_equal(read_ink(png, SIDE), INK)


def text_of(size: int) -> bytes:
    info = PngInfo()
    info.add_text("comment", "a" * size, zip=True)
    return saved(Image.fromarray(~INK), pnginfo=info)


@pytest.mark.parametrize(
    "png",
    [
        text_of(4 * 2**20),
        with_chunk(BLACK_ON_WHITE, chunk(b"acTL", bytes(8))),
        with_chunk(BLACK_ON_WHITE, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**6)))),
        BLACK_ON_WHITE + b"what follows the end",
    ],
    ids=["4 MB of packed text", "animation without frames", "profile", "trailing bytes"],
)
def test_what_is_not_of_the_pixels_is_not_read(png: bytes) -> None:
    assert np.array_equal(read_ink(png, SIDE), INK)


def declaring(width: int, height: int) -> bytes:
    header = struct.pack(">II", width, height) + BLACK_ON_WHITE[24:29]
    return BLACK_ON_WHITE[:8] + chunk(b"IHDR", header) + BLACK_ON_WHITE[33:]


def other_pixels() -> bytes:
    """One bit of the packed pixels is another, the checksum of their chunk is not."""
    at = BLACK_ON_WHITE.index(b"IDAT") + 12
    return BLACK_ON_WHITE[:at] + bytes([BLACK_ON_WHITE[at] ^ 4]) + BLACK_ON_WHITE[at + 1 :]


def with_rows(count: int) -> bytes:
    """Checksums and all in order, with fewer rows of pixels than the header says."""
    at = BLACK_ON_WHITE.index(b"IDAT") + 4
    rows = zlib.decompressobj().decompress(BLACK_ON_WHITE[at:])
    packed = zlib.compress(rows[: len(rows) * count // SIDE])
    return BLACK_ON_WHITE[:33] + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def as_format(name: str) -> Callable[[], bytes]:
    def make() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(~INK).convert("L").save(buffer, name)
        return buffer.getvalue()

    return make


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"", "no PNG file"),
        (lambda: b"<html>404</html>", "no PNG file"),
        (as_format("JPEG"), "no PNG file"),
        (as_format("EPS"), "no PNG file"),  # which Pillow would give to another program
        (lambda: BLACK_ON_WHITE[:20], "cut short"),
        (lambda: BLACK_ON_WHITE[:-1], "cut short"),
        (lambda: BLACK_ON_WHITE[:8] + chunk(b"IHDR", b"\0\0"), "damaged"),
        (lambda: BLACK_ON_WHITE[:8] + chunk(b"IEND", b""), "damaged"),
        (lambda: BLACK_ON_WHITE[:33] + chunk(b"IEND", b""), "cut short"),
        (lambda: with_rows(10), "cut short"),
        (lambda: declaring(30_000, 30_000), "it has 30000 x 30000"),
        (lambda: declaring(10_000, 10_000), "it has 10000 x 10000"),
        (lambda: with_chunk(BLACK_ON_WHITE, declaring(30_000, 1)[8:33]), "it has 30000 x 1"),
        (other_pixels, "damaged"),
        (lambda: bytes(MOST_BYTES + 1), "more than 1,048,576 bytes"),
        (lambda: saved(coloured((255,), (255,), "L")), "blank"),
        (lambda: saved(coloured((200,), (255,), "L")), "same side of mid-grey as its paper"),
        (lambda: saved(coloured((0,), (0,), "L")), "blank"),
        (lambda: saved(coloured((0, 0), (0, 0), "LA")), "blank"),
    ],
)
def test_what_is_no_drawing_is_told(make: Callable[[], bytes], why: str) -> None:
    with pytest.raises(DrawingError, match=why):
        read_ink(make(), SIDE)
