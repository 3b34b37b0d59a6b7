"""The file of metrics of a run: one JSON object a line, cut back to where a run goes on.

A checkpoint has a seal of the rows up to it: their number, and SHA-256 of their lines.  What is
behind them in the file is of a run that was killed, and is not read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyro_gtm.experiments.sealed_json import DamagedFileError
from pyro_gtm.internals.files import naming_file, write_atomically

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
        """Read the rows up to a step, unchecked: a killed run may have written some beyond."""
        self.rows = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:  # the line in hand when the run was killed
                break
            if row["step"] > up_to_step:
                break
            self.rows.append(row)

    @property
    def seal(self) -> Row:
        """What :meth:`read_sealed` checks the present rows by."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(_line(row))
        return {"rows": len(self.rows), "sha256": digest.hexdigest()}

    def read_sealed(self, seal: Mapping[str, Any]) -> None:
        """Read the rows that a seal is of.

        Raises:
            DamagedFileError: they are not in the file as they were written.
        """
        try:
            content = self.path.read_bytes() if seal["rows"] else b""
        except OSError as error:
            raise DamagedFileError(f"{self.path} cannot be read: {error.strerror}") from error
        lines = content.split(b"\n")[: seal["rows"]]
        if hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest() != seal["sha256"]:
            raise DamagedFileError(
                f"{self.path} is damaged: its first {seal['rows']} rows fail their checksum"
            )
        self.rows = [json.loads(line) for line in lines]

    @contextmanager
    def appending(self) -> Iterator[Callable[[Row], None]]:
        """Give a function that appends a row; the file has the present rows alone at first."""
        write_atomically(self.path, b"".join(_line(row) for row in self.rows))
        with open(self.path, "ab", buffering=0) as file:  # so that closing it writes nothing

            def append(row: Row) -> None:
                self.rows.append(row)
                line = _line(row)
                with naming_file(self.path):
                    while line:
                        line = line[file.write(line) :]

            yield append

    def split(self, name: str) -> list[Row]:
        """The rows of one split, ``"train"`` or ``"test"``."""
        return [row for row in self.rows if row["split"] == name]


def _line(row: Row) -> bytes:
    return json.dumps(row).encode() + b"\n"
