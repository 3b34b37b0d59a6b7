"""Memories by name: the one place where a memory is added.

A class becomes known under a name by a decorator::

    @register_memory("mine")
    class MyMemory(MemoryModule): ...

or, from an installed package, by an entry point in the group ``pyro_gtm.memories``.  Either way
every example, task and benchmark can be run with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from pyro_gtm.memory.base import MemoryModule

__all__ = ["make_memory", "memory_names", "register_memory"]

ENTRY_POINT_GROUP = "pyro_gtm.memories"

_MEMORIES: dict[str, type[MemoryModule]] = {}

M = TypeVar("M", bound=type[MemoryModule])


def register_memory(name: str) -> Callable[[M], M]:
    """Make a memory class known under ``name``.

    Raises:
        ValueError: the name belongs to another class already.
    """

    def register(cls: M) -> M:
        known = _MEMORIES.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"register_memory: {name!r} is taken by {known.__qualname__}")
        _MEMORIES[name] = cls
        return cls

    return register


def memory_names() -> list[str]:
    """The names of all memories, those of installed packages included."""
    installed = [point.name for point in entry_points(group=ENTRY_POINT_GROUP)]
    return sorted({*_MEMORIES, *installed})


def make_memory(name: str, **options: Any) -> MemoryModule:
    """Build the memory called ``name``.

    Args:
        name: one of :func:`memory_names`.
        **options: arguments of its class, ``latent_dim`` among them.

    Raises:
        ValueError: the name is unknown, or the memory takes no such option.
    """
    cls = memory_class(name)
    allowed = list(inspect.signature(cls).parameters)
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"memory {name!r} takes no option {option!r}; it takes {', '.join(allowed)}"
            )
    return cls(**options)


def memory_class(name: str) -> type[MemoryModule]:
    """The class of the memory called ``name``; ValueError if there is none."""
    if name not in _MEMORIES:
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name == name:
                register_memory(name)(point.load())
                break
        else:
            raise ValueError(f"memory must be one of {', '.join(memory_names())}; got {name!r}")
    return _MEMORIES[name]
