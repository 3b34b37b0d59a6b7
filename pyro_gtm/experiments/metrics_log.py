"""The file of metrics of a run: one JSON object a line, cut back to where a run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_gtm.internals.files import write_atomically

__all__ = ["MetricsLog", "Row"]

Row = dict[str, Any]


class MetricsLog:
    """Rows of metrics, in memory and in a file.

    Args:
        path: of the file, which need not exist.

    Attributes:
        rows: those up to the step in hand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def read(self, up_to_step: float = math.inf) -> None:
        """Read the rows up to a step: a killed run may have written some beyond."""
        self.rows = []
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line in hand when the run was killed
                break
            if row["step"] > up_to_step:
                break
            self.rows.append(row)

    @contextmanager
    def appending(self) -> Iterator[Callable[[Row], None]]:
        """Give a function that appends a row; the file has the present rows alone at first."""
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_atomically(self.path, lines.encode())
        with open(self.path, "a") as file:

            def append(row: Row) -> None:
                self.rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()

            yield append

    def split(self, name: str) -> list[Row]:
        """The rows of one split, ``"train"`` or ``"test"``."""
        return [row for row in self.rows if row["split"] == name]
