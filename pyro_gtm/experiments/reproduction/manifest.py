"""What the page of results is made of: which runs, of which sizes, in which order.

An *experiment* is a task at one of its sizes, a *row* one contestant in it, and a run one seed of a
row.  All rows of an experiment are trained with the same budget of updates, batches and schedule.
A contestant is a memory or, with the mixture prior, ``NAME+mixture``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyro_gtm.experiments.config import Config, make_config

__all__ = [
    "BUDGETS",
    "EXPERIMENTS",
    "PUBLISHED_FIVE",
    "SETTINGS",
    "Budget",
    "ReproducedRow",
    "rows",
    "select",
]

PUBLISHED_FIVE = ("vrnn", "introspective", "ntm", "lru", "dnc")
"""The memories of the paper, in its order."""

WITH_SLOTS = ("associative", "introspective", "ntm", "lru", "dnc")

MIXTURES = tuple(f"{memory}+mixture" for memory in WITH_SLOTS)

CONTESTANTS = ("associative+mixture", "associative", *PUBLISHED_FIVE[::-1], *MIXTURES[1:][::-1])
"""Those of an experiment, most telling first."""

EXPERIMENTS: dict[str, dict[str, Any]] = {
    "perfect_recall_10": {"task": "perfect_recall"},
    "similarity_cued_recall": {"task": "similarity_cued_recall"},
    "dynamic_dependency": {"task": "dynamic_dependency"},
    "mnist_map": {"task": "mnist_map"},
    "one_shot_recall": {"task": "one_shot_recall"},
    "parity_recall_10": {"task": "parity_recall"},
    "perfect_recall_20": {"task": "perfect_recall", "task_options": {"list_length": 20}},
    "rotation_3d": {"task": "rotation_3d"},
    "parity_recall_20": {"task": "parity_recall", "task_options": {"list_length": 20}},
    "perfect_recall_50": {"task": "perfect_recall", "task_options": {"list_length": 50}},
    "parity_recall_50": {"task": "parity_recall", "task_options": {"list_length": 50}},
}
"""Tasks at the sizes of the paper, most telling first."""

SETTINGS: dict[str, Any] = {"batch_size": 16, "warmup": 100, "schedule": "cosine"}
"""What all runs share."""

SEEDS = 3
"""Of the associative memory, and of every memory in perfect recall; one of the others."""

PROTOTYPES = 20
"""Of a mixture prior in parity recall, where the frame itself cannot be told."""


@dataclass(frozen=True)
class Budget:
    """How much a person has.

    Attributes:
        num_steps: gradient steps of a run.
        data: for a source that a task shows by itself, what is shown in its place.
        experiments: those of its rows.
        contestants: those of its rows.
    """

    num_steps: int
    data: Mapping[str, str] = field(default_factory=dict)
    experiments: Sequence[str] = tuple(EXPERIMENTS)
    contestants: Sequence[str] = CONTESTANTS


AS_PUBLISHED = {"digits": "mnist", "strokes": "omniglot"}

BUDGETS = {
    "minutes": Budget(
        1_000,
        experiments=("perfect_recall_10", "similarity_cued_recall", "mnist_map"),
        contestants=("associative+mixture", "dnc", "introspective"),
    ),
    "hours": Budget(5_000, AS_PUBLISHED),
    "full": Budget(50_000, AS_PUBLISHED),
}
"""Data that comes with the package for ``minutes``, the paper's for the others."""


@dataclass(frozen=True)
class ReproducedRow:
    """A contestant in an experiment.

    Attributes:
        budget: one of :data:`BUDGETS`.
        experiment: one of :data:`EXPERIMENTS`.
        contestant: a memory, or ``NAME+mixture``.
    """

    budget: str
    experiment: str
    contestant: str

    @property
    def name(self) -> str:
        """Within its budget."""
        return f"{self.experiment}-{self.contestant}"

    @property
    def seeds(self) -> range:
        """Those of its runs."""
        many = self.contestant.startswith("associative") or self.experiment == "perfect_recall_10"
        return range(SEEDS if many else 1)

    def run_name(self, seed: int) -> str:
        """Of the run with this seed: of its folder, and of its record."""
        return f"{self.name}-{seed}"

    def config(self, seed: int, folders: Mapping[str, str], device: str = "auto") -> Config:
        """The settings of the run with this seed.

        Args:
            seed: of the run.
            folders: where data is that is read from a folder, by the name of its source.
            device: what to train on.

        Raises:
            ValueError: the data is read from a folder, and none is named.
        """
        budget, settings = BUDGETS[self.budget], EXPERIMENTS[self.experiment]
        memory, _, mixture = self.contestant.partition("+")
        given: dict[str, Any] = {**SETTINGS, **settings, "memory": memory}
        if mixture:
            given["prior"] = "mixture"
            if settings["task"] == "parity_recall":
                given["prototypes"] = PROTOTYPES
            if memory == "introspective":  # whose weights are else a function of what it has read
                given["memory_options"] = {"append_hidden": True}
        given |= {"num_steps": budget.num_steps, "seed": seed, "device": device}
        own = make_config(**given).data
        source = budget.data.get(own, own)
        if source != own:
            if source not in folders:
                raise ValueError(
                    f"--{source}: got none, must be the folder of its data for the row {self.name}"
                )
            given |= {"data": source, "data_dir": folders[source]}
        return make_config(**given)


def rows(budget: str) -> list[ReproducedRow]:
    """All rows of a budget, most telling first: the associative memory on all tasks, then the
    others with a Gaussian prior, then with a mixture."""
    planned = BUDGETS[budget]
    return [
        ReproducedRow(budget, experiment, contestant)
        for contestant in planned.contestants
        for experiment in planned.experiments
    ]


def select(budget: str, patterns: Iterable[str]) -> list[ReproducedRow]:
    """The rows of a budget whose names match one of some patterns, such as ``*-dnc``; all, if there
    is no pattern.

    Raises:
        ValueError: a pattern that matches none.
    """
    planned, patterns = rows(budget), list(patterns)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in planned):
            raise ValueError(
                f"--row: got {pattern!r}, must match a row of the budget {budget!r}; --list shows "
                "them"
            )
    return [
        row
        for row in planned
        if not patterns or any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns)
    ]
