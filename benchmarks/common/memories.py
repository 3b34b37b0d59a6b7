"""A memory by its name, with the options that it knows."""

from __future__ import annotations

import inspect
from typing import Any

import pyro_gtm as gtm
from pyro_gtm.memory.registry import memory_class


def options_of(memory: str) -> set[str]:
    """Names of the arguments of its class."""
    return set(inspect.signature(memory_class(memory)).parameters)


def build_memory(name: str, **options: Any) -> gtm.MemoryModule:
    """The memory, given those of the options that it knows.

    Raises:
        ValueError: it is unknown, or refuses its options.
    """
    known = options_of(name)
    return gtm.make_memory(name, **{key: options[key] for key in options if key in known})
