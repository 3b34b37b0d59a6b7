"""The results that the paper plots, to be put beside one's own.

Source: Gemici et al. 2017 (arXiv 1702.04649v2), Figures 4 to 17, read off the plots in
``published.csv``: to about 0.5 nats for a KL and 1 nat for a bound. Where the paper's curves cannot
be told apart (parity recall), all memories have the same value.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import NamedTuple

from pyro_gtm.tasks import ListTask, MNISTMap, Task

__all__ = ["Published", "published_results"]

MEMORIES = ("vrnn", "introspective", "ntm", "lru", "dnc")
ALL = "all"


class Published(NamedTuple):
    """The end of one curve of the paper's.

    Attributes:
        updates: gradient steps that had been taken.
        last_frame_kl: KL of the last frame, nats; of rotation_3d the mean of the second turn.
        negative_elbo_per_frame: nats a frame.
    """

    updates: int
    last_frame_kl: float
    negative_elbo_per_frame: float


def published_results(task: Task) -> dict[str, Published]:
    """What the paper plots for this very task, by memory; empty for sizes it does not have."""
    results: dict[str, Published] = {}
    text = (files("pyro_gtm") / "published.csv").read_text()
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        if row["task"] != task.name or int(row["frames"]) != task.num_steps:
            continue
        if isinstance(task, ListTask) and int(row["list_length"]) != task.list_length:
            continue
        if isinstance(task, MNISTMap) and (task.rows, task.columns) != (4, 4):
            continue
        for memory in MEMORIES if row["memory"] == ALL else (row["memory"],):
            results[memory] = Published(
                updates=int(row["updates"]),
                last_frame_kl=float(row["last_frame_kl"]),
                negative_elbo_per_frame=float(row["negative_bound_per_frame"]),
            )
    return results
