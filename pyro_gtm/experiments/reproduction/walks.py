"""The table of models of walks over patches, of what ``benchmarks/patch_walk.py --table`` left."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

from pyro_gtm.experiments.comparison_table import NONE, markdown_table, with_spread

__all__ = ["TABLE", "walks_table"]

TABLE = "patch_walk.csv"
"""In the folder of the results."""

COUNTS = ("parameters", "steps")


def walks_table(results: Path) -> str:
    """A line a model, over its seeds, in Markdown.

    Args:
        results: the folder of the results.

    Raises:
        ValueError: there is no such table, or it is another.
    """
    path = results / TABLE
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        columns = list(lines[0])
        bins = columns[columns.index("overall") + 1 : columns.index("commit")]
        body = []
        for name in dict.fromkeys(line["contestant"] for line in lines):
            those = [line for line in lines if line["contestant"] == name]
            counts = (_numbers(those, column) for column in COUNTS)
            measured = (_numbers(those, column) for column in ("minutes", "overall", *bins))
            body.append(
                [
                    name,
                    *(f"{statistics.fmean(v):,.0f}" if v else NONE for v in counts),
                    *(_with_spread(values) for values in measured),
                    str(len(those)) if _numbers(those, "steps") else NONE,
                ]
            )
        made = f"{lines[0]['machine']}, {lines[0]['date']}, commit {lines[0]['commit']}"
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is no table of benchmarks/patch_walk.py: {error}") from error
    head = ["model", *COUNTS, "minutes", "all", *bins, "seeds"]
    return f"{markdown_table(head, body)}\n\n*One thread, {made}.*"


def _numbers(lines: Sequence[dict[str, str]], column: str) -> list[float]:
    """Those that there are: the mean patch has no steps."""
    return [float(line[column]) for line in lines if line[column] != ""]


def _with_spread(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else None
    return with_spread(statistics.fmean(values) if values else None, spread, digits=1)
