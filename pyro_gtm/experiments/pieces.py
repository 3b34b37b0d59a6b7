"""Pieces of music as frames of keys, and batches of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gtm.series.reading import KEYS, DataFileError, read

__all__ = [
    "NUM_KEYS",
    "Excerpts",
    "Pieces",
    "longest_repeat",
    "midi",
    "read_pieces",
    "transposed",
]

NUM_KEYS = len(KEYS)
PARTS = ("train", "valid", "test")

TICKS = 480
"""Of a MIDI file, a quarter note."""


class Pieces(NamedTuple):
    """N pieces, each perhaps shorter than T steps."""

    frames: Tensor
    """1 where a key sounds, 0 where it does not and behind the end: ``(T, N, 88)``."""

    lengths: Tensor
    """Steps of each piece, ``(N,)`` of int64."""

    @property
    def mask(self) -> Tensor:
        """The steps that there are, ``(T, N)`` of bool."""
        return torch.arange(len(self.frames)).unsqueeze(1) < self.lengths

    @property
    def num_steps(self) -> int:
        """Of all pieces together."""
        return int(self.lengths.sum())

    def piece(self, number: int) -> Tensor:
        """One of them as long as it is, ``(length, 88)``."""
        return self.frames[: self.lengths[number], number]


def read_pieces(path: Path) -> dict[str, Pieces]:
    """The parts ``train``, ``valid`` and ``test`` of a file of notes.

    Args:
        path: JSON, ``{"train": [piece, ...], ...}``; a piece is a list of steps, a step one of MIDI
            notes from 21 to 108.

    Raises:
        DataFileError: one sentence that names the file and says what is wrong with it.
    """
    parts = {}
    for name in PARTS:
        series = read(path, part=name)
        if series.event_shape != (NUM_KEYS,):
            raise DataFileError(
                path, f"holds notes in {name!r} that no piano has ({KEYS[0]} to {KEYS[-1]})"
            )
        parts[name] = Pieces(series.values.nan_to_num(0.0).float(), series.lengths)
    return parts


def transposed(frames: Tensor, semitones: int) -> Tensor:
    """All notes so many semitones higher; those that leave the piano are lost.

    Args:
        frames: ``(*, 88)``.
        semitones: negative ones lower.
    """
    moved = torch.zeros_like(frames)
    if semitones >= 0:
        moved[..., semitones:] = frames[..., : NUM_KEYS - semitones]
    else:
        moved[..., :semitones] = frames[..., -semitones:]
    return moved


def longest_repeat(frames: Tensor) -> tuple[int, int, int]:
    """The longest phrase of a piece that comes twice, without overlap.

    Args:
        frames: ``(T, 88)``.

    Returns:
        Where it begins, where it comes again, and for how many steps; of several as long the first
        to come again.  All are 0 where no frame comes twice.
    """
    steps = len(frames)
    same = (frames.unsqueeze(0) == frames.unsqueeze(1)).all(-1).tolist()  # [T][T]
    best = (0, 0, 0)
    for first in range(steps):
        for again in range(first + 1, steps):
            most = min(again - first, steps - again)
            length = next((n for n in range(most) if not same[first + n][again + n]), most)
            if length > best[2]:
                best = (first, again, length)
    return best


def midi(frames: Tensor, steps_a_minute: float = 72.0) -> bytes:
    """A piece as a standard MIDI file of format 0, a quarter note a step.

    A key that goes on from one step into the next is held.

    Args:
        frames: ``(T, 88)``, of 0 and 1.
        steps_a_minute: the tempo.
    """
    silence = torch.zeros(1, NUM_KEYS)
    changes = torch.cat([silence, frames, silence]).diff(dim=0)  # (T + 1, 88)
    tempo = round(60e6 / steps_a_minute)  # microseconds a quarter note
    track = bytearray(b"\x00\xff\x51\x03" + tempo.to_bytes(3, "big"))
    last = 0
    for step, change in enumerate(changes):
        for sign, status, velocity in ((-1, 0x80, 0), (1, 0x90, 80)):  # ends before beginnings
            for key in change.eq(sign).nonzero().flatten().tolist():
                track += _variable_length(TICKS * (step - last))
                track += bytes([status, KEYS[key], velocity])
                last = step
    track += _variable_length(TICKS * (len(frames) - last)) + b"\xff\x2f\x00"
    head = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
    return head + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _variable_length(number: int) -> bytes:
    """Seven bits a byte, the highest first; all but the last have their eighth bit set."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))


class Excerpts:
    """Batches of excerpts of one length: pieces of about one length, cut to the shortest.

    Without padding a batch wastes nothing, and a memory that can takes all its steps at once.
    Each pass goes through all pieces in an order of its own.

    Args:
        pieces: to draw from.
        batch_size: B, at most the number of pieces.
        longest: steps of an excerpt, at most.
        semitones: transpose half of the excerpts by up to so many, up or down; 0 for none.
        seed: of all draws.
    """

    def __init__(
        self, pieces: Pieces, batch_size: int, longest: int, semitones: int = 0, seed: int = 0
    ) -> None:
        self.pieces = pieces
        self.batch_size = min(batch_size, len(pieces.lengths))
        self.longest = longest
        self.semitones = semitones
        self.draws = torch.Generator().manual_seed(seed)
        self._order: list[Tensor] = []

    def draw(self) -> Tensor:
        """The next batch: ``(T, B, 88)``."""
        if not self._order:
            self._order = self._shuffled()
        chosen = self._order.pop()  # (B,)
        lengths = self.pieces.lengths[chosen]
        steps = min(int(lengths.min()), self.longest)
        spare = lengths - steps
        # A beginning is unlike any other step, and is seen too rarely by chance.
        begin = (self._uniform() * (spare + 1)).long() * (self._uniform() < 0.7)
        times = begin + torch.arange(steps).unsqueeze(1)  # (T, B)
        frames = self.pieces.frames[times, chosen]
        if self.semitones:
            shifts = torch.randint(
                -self.semitones, self.semitones + 1, chosen.shape, generator=self.draws
            )
            shifts = shifts * (self._uniform() < 0.5)
            moved = [transposed(frames[:, b], shift) for b, shift in enumerate(shifts.tolist())]
            frames = torch.stack(moved, 1)
        return frames

    def _uniform(self) -> Tensor:
        return torch.rand(self.batch_size, generator=self.draws)

    def _shuffled(self) -> list[Tensor]:
        """Batches of pieces, each of pieces of about one length."""
        lengths = self.pieces.lengths.double()
        blurred = lengths + 12 * torch.rand(len(lengths), generator=self.draws)
        order = blurred.argsort()
        first = int(torch.randint(len(order) % self.batch_size + 1, (), generator=self.draws))
        batches = order[first:].split(self.batch_size)
        batches = [batch for batch in batches if len(batch) == self.batch_size]
        turns = torch.randperm(len(batches), generator=self.draws)
        return [batches[turn] for turn in turns.tolist()]
