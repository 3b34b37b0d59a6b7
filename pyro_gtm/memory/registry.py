"""Memories by name: the one place where a memory is added.

A class becomes known under a name by a decorator::

    @register_memory("mine")
    class MyMemory(MemoryModule): ...

or, from an installed package, by an entry point in the group ``pyro_gtm.memories``.  Either way
every example, task and benchmark can be run with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pyro_gtm.internals.registry import Registry
from pyro_gtm.memory.base import MemoryModule

__all__ = ["make_memory", "memory_class", "memory_names", "register_memory"]

MEMORIES: Registry[MemoryModule] = Registry("memory", group="pyro_gtm.memories")

M = TypeVar("M", bound=type[MemoryModule])


def register_memory(name: str) -> Callable[[M], M]:
    """Make a memory class known under ``name``.

    Raises:
        ValueError: the name belongs to another class already.
    """
    return MEMORIES.register(name)


def memory_names() -> list[str]:
    """The names of all memories, those of installed packages included."""
    return MEMORIES.names()


def make_memory(name: str, **options: Any) -> MemoryModule:
    """Build the memory called ``name``.

    Args:
        name: one of :func:`memory_names`.
        **options: arguments of its class, ``latent_dim`` among them.

    Raises:
        ValueError: the name is unknown, or the memory takes no such option.
    """
    return MEMORIES.make(name, **options)


def memory_class(name: str) -> type[MemoryModule]:
    """The class of the memory called ``name``; ValueError if there is none."""
    return MEMORIES.find(name)
