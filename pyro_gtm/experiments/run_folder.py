"""The folder of a run: what lies where, and what can be read of it.

::

    FOLDER/
      config.json     what was asked for, and what multiplies
      init_from.json  which weights were taken from another run, if any
      metrics.jsonl   one line for each log ("split": "train") and evaluation ("split": "test")
      checkpoints/    the last two, newest by its number of steps
      summary.json    the final figures
      figures/        *.png
      lock            whose the folder is, while a process trains in it

All but the figures carry a checksum, metrics by way of the checkpoint and the summary.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pyro_gtm.experiments.checkpoint_file import (
    CheckpointError,
    load_newest_checkpoint,
    saved_step_in,
)
from pyro_gtm.experiments.config import Config, read_config
from pyro_gtm.experiments.folder_lock import LOCK, LockedError, locked_folder
from pyro_gtm.experiments.sealed_json import DamagedFileError, read_sealed
from pyro_gtm.internals.files import PARTIAL

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "FIGURES",
    "INIT_RECORD",
    "METRICS",
    "SUMMARY",
    "UNCHECKED",
    "FolderInUseError",
    "FolderTakenError",
    "RunError",
    "clear_half_made",
    "clear_partial",
    "config_in",
    "held_folder",
    "is_half_made",
    "newest_weights_in",
    "notes_on",
    "refusing_folder",
    "summary_in",
]

CONFIG = "config.json"
INIT_RECORD = "init_from.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
SUMMARY = "summary.json"
FIGURES = "figures"

UNCHECKED = "was written by an earlier version: it has no checksum and cannot be checked"


class RunError(RuntimeError):
    """A run folder cannot be used as asked: one sentence says why."""


class FolderTakenError(RunError):
    """The folder of a new run holds something already."""


class FolderInUseError(RunError):
    """Another process trains in the folder."""


def config_in(folder: Path) -> Config:
    """What the run in a folder was asked to be.

    Raises:
        RunError: there is none, or its configuration is damaged.
    """
    if not (folder / CONFIG).is_file():
        if is_half_made(folder):
            raise RunError(
                f"{folder} holds no run yet: it was stopped before it had its {CONFIG}; begin it "
                f"again with --output {folder}"
            )
        raise RunError(f"{folder} holds no run: there is no {CONFIG} in it")
    try:
        return read_config(folder / CONFIG)
    except ValueError as error:
        raise RunError(str(error)) from error


def is_half_made(folder: Path) -> bool:
    """Whether a run was stopped in a folder before its configuration was there.

    It is all that a run writes before, and nothing else: to begin there loses nothing.
    """
    if not folder.is_dir():
        return False
    names = {path.name.removesuffix(PARTIAL) for path in folder.iterdir()}
    if not names or (folder / CONFIG).exists():
        return False
    begun = names <= {LOCK, CHECKPOINTS, FIGURES, INIT_RECORD, CONFIG}
    return begun and not any((folder / FIGURES).glob("*")) and not saved_step_in(folder)


def clear_half_made(folder: Path) -> None:
    """Take away what such a run has left, but for its lock."""
    for name in (CHECKPOINTS, FIGURES):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / INIT_RECORD).unlink(missing_ok=True)
    clear_partial(folder)


def clear_partial(folder: Path) -> None:
    """Take away what was being written when a run was killed."""
    for path in folder.rglob(f"*{PARTIAL}"):
        path.unlink()


def summary_in(folder: Path) -> dict[str, Any] | None:
    """The summary of a run; None before it has one.

    Raises:
        DamagedFileError: it is not as it was written.
    """
    path = folder / SUMMARY
    return read_sealed(path, "summary").content if path.exists() else None


def notes_on(folder: Path) -> list[str]:
    """A note for each record of a run that has no checksum, and for a damaged summary.

    Raises:
        DamagedFileError: another record is not as it was written.
    """
    notes = [
        f"{path} {UNCHECKED}"
        for path in (folder / CONFIG, folder / INIT_RECORD)
        if path.exists() and not read_sealed(path, "object").sealed
    ]
    try:
        if (folder / SUMMARY).exists() and not read_sealed(folder / SUMMARY, "summary").sealed:
            notes.append(f"{folder / SUMMARY} {UNCHECKED}")
    except DamagedFileError as error:
        notes.append(f"{error}; training, resumed, makes it again")
    return notes


def newest_weights_in(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of the run whose weights another takes."""
    try:
        config_in(folder)
    except RunError as error:
        raise RunError(f"init_from: {error}") from error
    try:
        state = load_newest_checkpoint(folder)
    except CheckpointError as error:
        raise CheckpointError(f"init_from: {error}") from error
    if state is None:
        raise RunError(f"init_from: got {folder}, must be a run with a checkpoint: it has none yet")
    return state


@contextmanager
def held_folder(folder: Path, wait: float = 0.0) -> Iterator[list[str]]:
    """Within it, no other process trains in the folder; gives notes on how it was had.

    Raises:
        FolderInUseError: another trains in it.
        RunError: it cannot be written in.
    """
    with ExitStack() as stack:
        try:
            note = stack.enter_context(locked_folder(folder, wait))
        except LockedError as error:
            raise FolderInUseError(str(error)) from error
        except OSError as error:
            raise RunError(f"{folder} cannot be written in: {error.strerror}") from error
        yield [] if note is None else [note]


@contextmanager
def refusing_folder(folder: Path) -> Iterator[None]:
    """Within it, what cannot be written there is refused.

    Raises:
        RunError: in the place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"output: {folder} cannot be written: {error.strerror}") from error
