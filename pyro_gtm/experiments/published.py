"""The results that the paper plots, to be put beside one's own.

Source: Gemici et al. 2017 (arXiv 1702.04649v2), Figures 4 to 17, read off the plots in
``published.csv``: to about 0.5 nats for a KL and 1 nat for a negative ELBO.  Where the paper's
curves cannot be told apart (parity recall), all memories have the same value.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Published", "published_results"]

MEMORIES = ("vrnn", "introspective", "ntm", "lru", "dnc")
ALL = "all"
MEASURED_ON = {
    "one_shot_recall": ("omniglot", "strokes"),  # strokes stand in for Omniglot
    "rotation_3d": ("rooms",),  # and rooms for an environment that was not published
}
"""The data that the paper's values can be put beside; for other tasks that of MNIST."""

DENSITIES = ("rotation_3d",)
"""Tasks whose published ELBOs are of an unknown likelihood and size of frame."""


class Published(NamedTuple):
    """The end of one curve of the paper's."""

    updates: int
    """Gradient steps that had been taken."""

    last_frame_kl: float
    """KL of the last frame, in nats; of rotation_3d the mean of the second turn."""

    negative_elbo_per_frame: float | None
    """In nats; None where it cannot be compared with any other."""


def published_results(task: str, size: Mapping[str, int] | None, data: str) -> dict[str, Published]:
    """Results that the paper plots for a task of a size on such data, by memory; empty without any.

    Args:
        task: its name.
        size: columns of the table and their values, as :attr:`~pyro_gtm.tasks.Task.published_as`
            says; None for a size that the paper does not have.
        data: the name of the source it is made of.
    """
    if size is None or data not in MEASURED_ON.get(task, ("digits", "mnist")):
        return {}
    results: dict[str, Published] = {}
    text = (files("pyro_gtm.experiments") / "published.csv").read_text()
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        fits = all(row[column] == str(value) for column, value in size.items())
        if row["task"] != task or not fits:
            continue
        bound = None if task in DENSITIES else float(row["negative_elbo_per_frame"])
        for memory in MEMORIES if row["memory"] == ALL else (row["memory"],):
            results[memory] = Published(int(row["updates"]), float(row["last_frame_kl"]), bound)
    return results
