"""The folder of a run: what lies where, and what can be read of it.

::

    FOLDER/
      config.json     what was asked for
      init_from.json  which weights were taken from another run, if any
      metrics.jsonl   one line for each log ("split": "train") and evaluation ("split": "test")
      checkpoints/    the last two, newest by its number of steps
      summary.json    the final figures
      figures/        *.png
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_gtm.experiments.checkpoint_file import CheckpointError, checkpoints_in, load_checkpoint
from pyro_gtm.experiments.config import Config, read_config

__all__ = [
    "CONFIG",
    "FIGURES",
    "INIT_RECORD",
    "METRICS",
    "SUMMARY",
    "FolderTakenError",
    "RunError",
    "config_in",
    "newest_weights_in",
    "refusing_folder",
]

CONFIG = "config.json"
INIT_RECORD = "init_from.json"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
FIGURES = "figures"


class RunError(RuntimeError):
    """A run folder cannot be used as asked: one sentence says why."""


class FolderTakenError(RunError):
    """The folder of a new run holds something already."""


def config_in(folder: Path) -> Config:
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} holds no run: there is no config.json in it")
    try:
        return read_config(folder / CONFIG)
    except ValueError as error:
        raise RunError(str(error)) from error


def newest_weights_in(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of the run whose weights another takes."""
    try:
        config_in(folder)
    except RunError as error:
        raise RunError(f"init_from: {error}") from error
    paths = checkpoints_in(folder)
    if not paths:
        raise RunError(f"init_from: got {folder}, must be a run with a checkpoint: it has none yet")
    try:
        return load_checkpoint(paths[-1])
    except CheckpointError as error:
        raise CheckpointError(f"init_from: {error}") from error


@contextmanager
def refusing_folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"output: {folder} cannot be written: {error.strerror}") from error
