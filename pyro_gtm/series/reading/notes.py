"""Pieces of music as lists of MIDI notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pyro_gtm.series.data import Series
from pyro_gtm.series.reading.failures import DataFileError, check_size

__all__ = ["KEYS", "read_notes"]

KEYS = range(21, 109)
"""MIDI numbers of a piano's 88 keys."""

MIDI = range(128)
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def read_notes(path: Path, *, part: str | None = None) -> Series:
    """Frames of 0 and 1, ``(88,)``: the keys that sound.

    All 128 numbers of MIDI are frames' elements where some note is no key of a piano.

    Args:
        path: the file.
        part: the name of the list, where the file has several.
    """
    check_size(path, 20 * path.stat().st_size)  # what Python makes of it
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DataFileError(path, "is no text in UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataFileError(path, f"is no JSON ({str(error).splitlines()[0]})") from error
    pieces, places = _part(path, content, part)
    notes = [note for piece in pieces for step in piece for note in step]
    keys = KEYS if all(note in KEYS for note in notes) else MIDI
    steps = max(map(len, pieces))
    check_size(path, 8 * steps * len(pieces) * len(keys))
    rolls = []
    for piece in pieces:
        roll = torch.zeros(len(piece), len(keys))
        for t, step in enumerate(piece):
            roll[t, [note - keys[0] for note in step]] = 1.0
        rolls.append(roll)
    names = [f"{NAMES[note % 12]}{note // 12 - 1}" for note in keys]
    return Series.of(rolls, ids=places, channels=names)


def _part(path: Path, content: Any, part: str | None) -> tuple[list[list[list[int]]], list[str]]:
    """The pieces, checked, and their names."""
    if isinstance(content, dict):
        if part not in content:
            raise DataFileError(
                path,
                f"holds the parts {', '.join(content) or 'none'}, and part={part!r} was asked for",
            )
        content = content[part]
    elif part is not None:
        raise DataFileError(path, f"holds no parts, and part={part!r} was asked for")
    if not isinstance(content, list) or not content:
        raise DataFileError(path, "holds no list of pieces")
    for number, piece in enumerate(content):
        if not isinstance(piece, list) or not piece:
            raise DataFileError(path, f"holds piece {number}, which is no list of steps")
        for t, step in enumerate(piece):
            if not isinstance(step, list) or not all(_is_note(note) for note in step):
                raise DataFileError(
                    path,
                    f"holds piece {number} with step {t}, which is no list of MIDI notes "
                    "(whole numbers from 0 to 127)",
                )
    prefix = "piece" if part is None else part
    return content, [f"{prefix} {number}" for number in range(len(content))]


def _is_note(note: Any) -> bool:
    return isinstance(note, int) and not isinstance(note, bool) and note in MIDI
