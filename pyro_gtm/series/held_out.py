"""The part of the data that a fit is not shown, and how it is found again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pyro_gtm.internals.checks import check_choice
from pyro_gtm.internals.files import write_atomically
from pyro_gtm.series.data import Series
from pyro_gtm.series.reading import read

__all__ = ["PLAN", "SPLITS", "DataPlan", "Parts", "read_plan"]

SPLITS = ("time", "series", "none")
PLAN = "data.json"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a fit learns from, and what it is judged on."""

    train: Series
    judged: Series
    """The series that hold the part held out, with what comes before it."""

    first: torch.Tensor
    """The first step held out, of each series of ``judged``: ``(N,)``."""


@dataclass(frozen=True)
class DataPlan:
    """How a file is read and split, kept beside the model.

    Raises:
        ValueError: an impossible value.
    """

    split: str = "time"
    """``time`` holds out the last part of each series, ``series`` some series, ``none`` nothing."""

    share: float = 0.2
    """Held out."""

    seed: int = 0
    """Of the choice of series."""

    reading: dict[str, Any] = field(default_factory=dict)
    """Options of :func:`pyro_gtm.series.read`."""

    held_out: tuple[str, ...] = ()
    """With ``split="series"``, the ids that were held out of the file that the model was fitted
    to."""

    def __post_init__(self) -> None:
        check_choice("fit", "split", self.split, SPLITS)
        if self.split != "none" and not 0 < self.share < 1:
            raise ValueError(f"fit: hold_out must lie between 0 and 1, got {self.share!r}")

    def read(self, path: str | Path, reading: dict[str, Any] | None = None) -> Series:
        """The whole file, read as the model's was but for what is given anew."""
        suits = Path(path).suffix.lower()
        kept = self.reading if suits in (".csv", ".json") else {}
        return read(path, **{**kept, **(reading or {})})

    def apply(self, series: Series) -> Parts:
        """Split the series: as those were that the model was fitted to, as far as these are the
        same; series that are all others are judged whole."""
        if self.split == "series" and not self.held_out:
            train, judged = series.split_series(self.share, self.seed)
            return Parts(train, judged, (judged.lengths // 2).clamp(min=1))
        if self.split == "series":
            apart = [n for n, name in enumerate(series.ids) if name in self.held_out]
            learned = [n for n in range(series.num_series) if n not in apart]
            if apart and learned:
                train, judged = series.select(learned), series.select(apart)
                return Parts(train, judged, (judged.lengths // 2).clamp(min=1))
        if self.split == "time":
            train, _ = series.split_time(self.share)
            return Parts(train, series, train.lengths)
        return Parts(series, series, (series.lengths // 2).clamp(min=1))

    def save(self, folder: Path) -> None:
        """Write it into a model's folder."""
        write_atomically(folder / PLAN, (json.dumps(asdict(self), indent=2) + "\n").encode())


def read_plan(folder: Path) -> DataPlan:
    """The plan of a model's data; the default for a model that was saved without one.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / PLAN
    if not path.is_file():
        return DataPlan(split="none")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return DataPlan(**{**told, "held_out": tuple(told.get("held_out", ()))})
    except (TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"model: {path} is damaged ({error})") from error
