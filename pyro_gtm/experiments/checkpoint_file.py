"""Checkpoint files: written whole or not at all, checked when read, free of code.

A file is one header line (magic, format version, SHA-256 of the rest) and a ``torch.save`` of
tensors and plain values, read back with ``weights_only=True``.  It takes its name in one
atomic move, after its bytes are on the disk; a crash leaves the file before.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from pyro_gtm.internals.files import write_atomically

__all__ = [
    "CheckpointError",
    "checkpoint_path",
    "checkpoints_in",
    "load_checkpoint",
    "load_newest_checkpoint",
    "save_checkpoint",
    "saved_step_in",
]

MAGIC = b"pyro_gtm-checkpoint"
FORMAT_VERSION = 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used: the sentence names the file and says why."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content``: nested dicts and lists of tensors, numbers and strings."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    header = b"%s %d %s\n" % (MAGIC, FORMAT_VERSION, digest)
    write_atomically(path, header + payload)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint, of another version, or
            holds code.
    """
    try:
        header, _, payload = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    fields = header.split(b" ")
    if len(fields) != 3 or fields[0] != MAGIC:
        raise CheckpointError(f"checkpoint {path} is damaged or no pyro_gtm checkpoint at all")
    if fields[1] != b"%d" % FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} has format version {fields[1].decode(errors='replace')}, this "
            f"pyro_gtm reads version {FORMAT_VERSION}"
        )
    if hashlib.sha256(payload).hexdigest().encode() != fields[2]:
        raise CheckpointError(f"checkpoint {path} is damaged: its content fails its checksum")
    try:
        return torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} is refused: it holds more than tensors and plain values"
        ) from error


def load_newest_checkpoint(
    run_folder: Path, device: torch.device | str = "cpu"
) -> dict[str, Any] | None:
    """The newest checkpoint of a run; None before the first.

    Raises:
        CheckpointError: it cannot be used; the sentence names the newest that can.
    """
    paths = checkpoints_in(run_folder)
    if not paths:
        return None
    *before, newest = paths
    try:
        content = load_checkpoint(newest, device)
        if content["step"] != _step_of(newest):
            raise CheckpointError(
                f"checkpoint {newest} holds step {content['step']}: it has been renamed"
            )
        return content
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_what_is_left(before)}") from error


def _what_is_left(paths: list[Path]) -> str:
    """Which of the checkpoints before a damaged one can be used."""
    for path in reversed(paths):
        try:
            load_checkpoint(path)
        except CheckpointError:
            continue
        return f"{path.name} before it is whole: remove the damaged file to go on from there"
    return "no other is whole"


def checkpoint_path(run_folder: Path, step: int) -> Path:
    """Where the state after a step is saved."""
    return run_folder / "checkpoints" / f"step-{step:08d}.pt"


def checkpoints_in(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    paths = (run_folder / "checkpoints").glob("step-*.pt")
    return sorted((path for path in paths if _step_of(path) >= 0), key=_step_of)


def saved_step_in(run_folder: Path) -> int | None:
    """The step of the newest checkpoint of a run; None before the first."""
    paths = checkpoints_in(run_folder)
    return _step_of(paths[-1]) if paths else None


def _step_of(path: Path) -> int:
    """The step that a checkpoint's name says, -1 for none."""
    number = path.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else -1
