"""What grows, how far, and how cost should grow with it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyro_gtm as gtm
from pyro_gtm.memory.registry import memory_class

GROWING = {
    "num_steps": "steps T",
    "slots": "slots N",
    "heads": "heads R",
    "batch_size": "sequences B",
}
OF_ANY_MEMORY = {"num_steps", "batch_size"}
QUADRATIC_IN_SLOTS = "dnc"


class Sizes(NamedTuple):
    """What may grow; None where a memory has no such option."""

    num_steps: int
    slots: int | None
    heads: int | None
    batch_size: int


Key = tuple[str, Sizes]
"""A memory and its sizes."""

Grid = Mapping[str, Sequence[int]]
"""What each of ``GROWING`` grows through."""


def expected(memory: str, grown: str) -> str:
    """The exponent by mathematics, of time and of memory alike; "-" for a memory not of ours.

    ``to p``: from below, as what grows outweighs what does not.
    """
    if grown == "num_steps":
        return "1"
    if grown == "batch_size":
        return "to 1"
    if not memory_class(memory).__module__.startswith("pyro_gtm."):
        return "-"
    if grown == "heads":
        return "at most 1"
    return "to 2" if memory == QUADRATIC_IN_SLOTS else "to 1"


def options_of(memory: str) -> set[str]:
    return set(inspect.signature(memory_class(memory)).parameters)


def sizes_of(memory: str, grown: str, grid: Grid) -> list[Sizes]:
    """What to measure of a memory while ``grown`` grows; nothing if it has no such option.

    The others stay at the first, and least, of their lists.
    """
    known = options_of(memory) | OF_ANY_MEMORY
    if grown not in known:
        return []
    base: dict[str, Any] = {
        name: grid[name][0] if name in known and name in grid else None for name in Sizes._fields
    }
    return [Sizes(**{**base, grown: value}) for value in grid[grown]]


def build_memory(name: str, sizes: Sizes, **options: int) -> gtm.MemoryModule:
    """The memory, given those of the options that it knows.

    Raises:
        ValueError: it refuses them.
    """
    options.update({key: value for key, value in sizes._asdict().items() if value is not None})
    known = options_of(name)
    return gtm.make_memory(name, **{key: options[key] for key in options if key in known})
