"""Draws the diagrams of ``docs/concepts/``: ``python docs/draw_diagrams.py``.

Each is an SVG as wide as a phone, on white, so that it reads in a dark page too.  Drawn by hand and
schematic: no number in them was measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

FOLDER = Path(__file__).parent / "concepts" / "diagrams"
WIDTH = 360

INK, FAINT = "#222222", "#8a8a8a"
MEMORY, PROGRAM, SEEN, HANDLER = "#d9e8f5", "#fdebd3", "#e4e4e4", "#e3f1dd"
WEIGHT, OTHER_WEIGHT = "#1f6fb2", "#c8602b"

Point = tuple[float, float]

SYMBOLS = "font-style:italic;font-family:'STIX Two Text',Georgia,'Times New Roman',serif"
WORDS = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"

CODE = "font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"


def _marked_up(text: str) -> str:
    """``z_{t-1}^r`` as raised and lowered spans."""
    parts, offset = [], 0
    for mark, braced, single, plain in re.findall(r"([_^])(?:\{([^}]*)\}|(.))|([^_^]+)", text):
        wanted = {"_": 4, "^": -5}.get(mark, 0)
        size = ' font-size="10"' if mark else ""
        content = escape(braced or single or plain)
        parts.append(f'<tspan dy="{wanted - offset}"{size}>{content}</tspan>')
        offset = wanted
    return "".join(parts)


class Picture:
    """An SVG in the making; coordinates in pixels, from the top left."""

    def __init__(self, height: int, title: str) -> None:
        self.height = height
        self.title = title
        self.parts: list[str] = []

    def text(
        self, x: float, y: float, text: str, *, size: int = 14, anchor: str = "middle",
        colour: str = INK, words: bool = False,
    ) -> None:  # fmt: skip
        """``words`` are set upright, symbols in italics."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{colour}" style="{WORDS if words else SYMBOLS}">{_marked_up(text)}</text>'
        )

    def words(self, x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle",
              colour: str = INK) -> None:  # fmt: skip
        self.text(x, y, text, size=size, anchor=anchor, colour=colour, words=True)

    def code(self, x: float, y: float, text: str) -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="12.5" fill="{INK}" style="{CODE}">'
            f"{escape(text)}</text>"
        )

    def box(
        self, x: float, y: float, width: float, height: float, text: str = "", *,
        fill: str = "white", words: bool = False, size: int = 14,
    ) -> None:  # fmt: skip
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" '
            f'fill="{fill}" stroke="{INK}"/>'
        )
        if text:
            self.text(x + width / 2, y + height / 2 + 5, text, words=words, size=size)

    def circle(self, x: float, y: float, text: str, *, fill: str = "white", r: int = 20) -> None:
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{r}" fill="{fill}" stroke="{INK}"/>')
        self.text(x, y + 5, text)

    def arrow(self, *points: Point, dashed: bool = False, colour: str = INK) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{dash} '
            'marker-end="url(#head)"/>'
        )

    def line(self, *points: Point, colour: str = INK, width: float = 1.4) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def slots(self, x: float, y: float, labels: Sequence[str], *, width: float = 40,
              height: float = 30, fill: str = MEMORY) -> None:  # fmt: skip
        """A row of slots, the text of each inside."""
        for i, label in enumerate(labels):
            self.box(x + i * width, y, width, height, label, fill=fill, size=13)

    def bars(self, x: float, y: float, heights: Sequence[float], *, width: float = 40,
             most: float = 34, colour: str = WEIGHT) -> None:  # fmt: skip
        """A bar for each slot, standing on ``y``."""
        for i, share in enumerate(heights):
            high = max(1.0, most * share)
            self.parts.append(
                f'<rect x="{x + i * width + width * 0.28:g}" y="{y - high:g}" '
                f'width="{width * 0.44:g}" height="{high:g}" fill="{colour}"/>'
            )

    def svg(self) -> str:
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            f'role="img">\n<title>{escape(self.title)}</title>\n'
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" '
            f'fill="{INK}"/></marker></defs>\n'
            f'<rect width="{WIDTH}" height="{self.height}" rx="6" fill="white"/>\n{body}\n</svg>\n'
        )


def model() -> Picture:
    """One step of the model, as in Figure 2 of the paper."""
    picture = Picture(250, "One step: the memory gives a context, the prior a latent, that a frame")
    picture.box(14, 28, 70, 40, "M_{t-1}", fill=MEMORY)
    picture.box(276, 28, 70, 40, "M_t", fill=MEMORY)
    picture.circle(49, 125, "Ψ_t", fill=MEMORY)
    picture.circle(180, 125, "z_t", fill=PROGRAM)
    picture.circle(180, 212, "x_t", fill=SEEN)
    picture.arrow((84, 48), (276, 48))
    picture.arrow((49, 68), (49, 104))
    picture.words(58, 90, "read", anchor="start", size=11)
    picture.arrow((69, 125), (159, 125))
    picture.words(114, 118, "prior")
    picture.arrow((180, 145), (180, 191))
    picture.words(173, 160, "likelihood", anchor="end")
    picture.arrow((66, 137), (162, 204), colour=FAINT)
    picture.arrow((195, 111), (290, 69))
    picture.words(256, 104, "write", anchor="start", size=11)
    picture.arrow((196, 200), (212, 170), (194, 140), dashed=True)
    picture.words(218, 174, "posterior", anchor="start")
    return picture


def effects() -> Picture:
    """A program sends messages up a stack of handlers; the memory answers."""
    picture = Picture(262, "A program sends read and write up the stack; handlers answer or watch")
    rows = [
        ("use_memory(memory)", "answers: Ψ_t", MEMORY),
        ("record_memory()", "looks at the result", HANDLER),
        ("lesion_memory(steps)", "changes the step", HANDLER),
    ]
    for i, (name, role, fill) in enumerate(rows):
        picture.box(14, 16 + 44 * i, 190, 34, fill=fill)
        picture.code(26, 38 + 44 * i, name)
        picture.words(214, 38 + 44 * i, role, anchor="start")
    picture.box(14, 166, 332, 84, fill=PROGRAM)
    lines = ["context = gtm.read()", "z = pyro.sample(..., prior(context))", "gtm.write(z)"]
    for i, line in enumerate(lines):
        picture.code(26, 190 + 21 * i, line)
    picture.arrow((70, 166), (70, 140))
    picture.arrow((140, 140), (140, 166))
    picture.words(64, 158, "message", anchor="end", size=11)
    picture.words(147, 158, "context", anchor="start", size=11)
    return picture


def recurrent() -> Picture:
    """A chain of LSTM cells: the context is the hidden state."""
    picture = Picture(170, "An LSTM over the latents; its hidden state is the context")
    for i, (latent, hidden) in enumerate([("z_{t-2}", "h_{t-1}"), ("z_{t-1}", "h_t"), ("z_t", "h_{t+1}")]):  # noqa: E501  # fmt: skip
        x = 38 + 112 * i
        picture.box(x, 66, 64, 36, "LSTM", fill=MEMORY, words=True, size=13)
        picture.text(x + 32, 152, latent)
        picture.arrow((x + 32, 136), (x + 32, 103))
        picture.text(x + 32, 28, f"Ψ = {hidden}")
        picture.arrow((x + 32, 66), (x + 32, 36))
        picture.arrow((x - 46 if i else 6, 84), (x - 1, 84))
    picture.arrow((326, 84), (354, 84))
    return picture


def introspective() -> Picture:
    """A buffer, newest first, read by position."""
    picture = Picture(270, "A first-in-first-out buffer of latents, read by position")
    labels = ["z_{t-1}", "z_{t-2}", "z_{t-3}", "z_{t-4}", "…", "z_{t-L}"]
    picture.slots(106, 118, labels, width=41)
    picture.bars(106, 110, [0.05, 0.05, 0.1, 0.9, 0.1, 0.03], width=41)
    picture.text(98, 104, "w_t", anchor="end")
    picture.words(98, 138, "buffer M", anchor="end")
    picture.text(28, 138, "z_{t-1}")
    picture.arrow((12, 160), (12, 172), (126, 172), (126, 150))
    picture.words(12, 190, "in at the newest slot,", anchor="start", size=11)
    picture.words(12, 206, "out at the oldest", anchor="start", size=11)
    picture.box(14, 24, 74, 36, "LSTM", fill=PROGRAM, words=True, size=13)
    picture.text(51, 82, "h_t")
    picture.arrow((28, 122), (28, 61))
    picture.arrow((88, 42), (229, 42), (229, 70))
    picture.words(96, 34, "where to look: a position alone", anchor="start", size=11)
    picture.arrow((229, 150), (229, 212))
    picture.box(196, 214, 66, 34, "φ ⊙ σ(g)", fill="white")
    picture.arrow((262, 231), (306, 231))
    picture.text(326, 236, "Ψ_t", size=16)
    return picture


def ntm() -> Picture:
    """A head: content, gate, shift, sharpen."""
    picture = Picture(300, "An NTM head: content, gate, shift, sharpen; then write and read")
    picture.slots(60, 22, ["M[1]", "M[2]", "M[3]", "M[4]", "M[5]", "M[6]"], width=48)
    rows = [
        ("content", [0.1, 0.08, 0.5, 0.1, 0.35, 0.1], OTHER_WEIGHT),
        ("gate", [0.04, 0.9, 0.1, 0.04, 0.06, 0.04], WEIGHT),
        ("shift", [0.04, 0.12, 0.8, 0.14, 0.05, 0.05], WEIGHT),
        ("sharpen", [0.01, 0.02, 0.97, 0.02, 0.01, 0.01], WEIGHT),
    ]
    for i, (name, weights, colour) in enumerate(rows):
        y = 104 + 46 * i
        picture.bars(60, y, weights, width=48, colour=colour)
        picture.line((60, y), (348, y), colour=FAINT, width=0.8)
        picture.words(54, y - 6, name, anchor="end")
        if i:
            picture.arrow((352, y - 58), (352, y - 22), colour=FAINT)
    picture.words(180, 270, "a head looks a key up, stays where it was, or moves", size=11)
    picture.words(180, 286, "on by a slot; so reads and writes are addressed", size=11)
    return picture


def lru() -> Picture:
    """Writing where nobody has been for long."""
    picture = Picture(268, "Writing goes to the least used slot or where the head has read")
    picture.slots(66, 112, ["M[1]", "M[2]", "M[3]", "M[4]", "M[5]", "M[6]"], width=47)
    picture.bars(66, 104, [0.95, 0.7, 0.5, 0.35, 0.02, 0.02], width=47, colour=FAINT)
    picture.words(60, 98, "usage u", anchor="end")
    picture.bars(66, 186, [0.03, 0.9, 0.08, 0.03, 0.0, 0.0], width=47)
    picture.line((66, 186), (348, 186), colour=FAINT, width=0.8)
    picture.words(60, 180, "read w^r", anchor="end")
    picture.arrow((277, 40), (277, 96))
    picture.words(348, 32, "1 − σ(α): the least used slot, cleared", anchor="end")
    picture.arrow((136, 214), (136, 190), dashed=True)
    picture.words(66, 230, "σ(α): where the head read before", anchor="start")
    picture.words(66, 250, "reading: softmax of β cos(key, slot)", anchor="start", colour=WEIGHT)
    return picture


def dnc() -> Picture:
    """Allocated slots with links in the order of writing."""
    picture = Picture(276, "Slots are allocated when free, and linked in the order of writing")
    x, width = 60, 48
    picture.slots(x, 96, ["M[1]", "M[2]", "M[3]", "M[4]", "M[5]", "M[6]"], width=width)
    for i in range(4):
        start, end = x + width * (i + 0.5), x + width * (i + 1.5)
        picture.parts.append(
            f'<path d="M{start:g},96 C{start:g},62 {end:g},62 {end:g},94" fill="none" '
            f'stroke="{OTHER_WEIGHT}" stroke-width="1.6" marker-end="url(#head)"/>'
        )
    picture.words(156, 58, "links L: which slot was written next", colour=OTHER_WEIGHT)
    picture.bars(x, 172, [0.98, 0.97, 0.96, 0.95, 0.94, 0.02], width=width, colour=FAINT)
    picture.line((x, 172), (348, 172), colour=FAINT, width=0.8)
    picture.words(54, 168, "usage u", anchor="end")
    picture.arrow((324, 40), (324, 94))
    picture.words(350, 30, "write: the first free slot", anchor="end")
    picture.bars(x, 224, [0.02, 0.06, 0.92, 0.05, 0.02, 0.01], width=width)
    picture.line((x, 224), (348, 224), colour=FAINT, width=0.8)
    picture.words(54, 220, "read w^r", anchor="end")
    picture.words(204, 246, "π: backward along the links, by content, or forward", size=11)
    picture.words(204, 264, "u: freed by the read heads’ free gates", size=11)
    return picture


def associative() -> Picture:
    """Five terms make one logit a slot."""
    picture = Picture(330, "Five terms add up to the logits of a head")
    x, width = 104, 40
    picture.slots(x, 18, ["z_1", "z_2", "z_3", "z_4", "z_5", "z_6"], width=width)
    rows = [
        ("succession", [0.1, 0.15, 0.95, 0.1, 0.12, 0.1]),
        ("content", [0.3, 0.2, 0.45, 0.25, 0.3, 0.2]),
        ("lag", [0.1, 0.1, 0.15, 0.7, 0.15, 0.1]),
        ("position", [0.15, 0.2, 0.3, 0.2, 0.15, 0.1]),
        ("place", [0.2, 0.15, 0.5, 0.1, 0.1, 0.15]),
    ]
    for i, (name, heights) in enumerate(rows):
        y = 82 + 34 * i
        picture.bars(x, y, heights, width=width, most=24, colour=OTHER_WEIGHT)
        picture.line((x, y), (344, y), colour=FAINT, width=0.8)
        picture.words(98, y - 3, name, anchor="end")
    picture.words(98, 246, "sum", anchor="end")
    picture.arrow((204, 224), (204, 250))
    picture.words(212, 242, "softmax over filled slots", anchor="start", size=11)
    picture.bars(x, 290, [0.04, 0.05, 0.95, 0.1, 0.05, 0.04], width=width, most=30)
    picture.line((x, 290), (344, 290), colour=FAINT, width=0.8)
    picture.text(98, 286, "w_t", anchor="end")
    picture.words(204, 312, "Ψ_t = gated reads of all heads, and h_t", size=12)
    return picture


def mixture() -> Picture:
    """A prior of stored posteriors and of something new."""
    picture = Picture(236, "The prior is a mixture of what was stored and of something new")

    def curve(centre: float, spread: float, high: float, colour: str, width: float) -> None:
        points = [
            (x, 168 - high * math.exp(-0.5 * ((x - centre) / spread) ** 2))
            for x in range(16, 345, 3)
        ]
        picture.line(*points, colour=colour, width=width)

    curve(180, 88, 26, FAINT, 1.6)
    for centre, high in ((70, 20), (150, 16), (292, 26)):
        curve(centre, 11, high, WEIGHT, 1.6)
    curve(222, 11, 118, WEIGHT, 2.2)
    curve(222, 10, 132, OTHER_WEIGHT, 1.6)
    picture.arrow((16, 168), (348, 168))
    picture.text(348, 186, "z", anchor="end")
    for x, label in ((70, "m_1"), (150, "m_2"), (222, "m_3"), (292, "m_4")):
        picture.text(x, 188, label)
    picture.words(238, 50, "posterior q", anchor="start", colour=OTHER_WEIGHT)
    picture.words(238, 72, "slot 3, weight w_3", anchor="start", colour=WEIGHT)
    picture.words(20, 126, "new", anchor="start", colour=FAINT)
    picture.words(180, 214, "naming the right slot costs −log w_3 nats", size=12)
    return picture


DRAWINGS: tuple[Callable[[], Picture], ...] = (
    model,
    effects,
    recurrent,
    introspective,
    ntm,
    lru,
    dnc,
    associative,
    mixture,
)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for draw in DRAWINGS:
        path = FOLDER / f"{draw.__name__}.svg"
        path.write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
