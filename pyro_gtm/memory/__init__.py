"""The memories: one file each, one interface, known by name."""

from pyro_gtm.memory.base import MemoryModule, MemoryStep
from pyro_gtm.memory.introspective import IntrospectiveMemory, IntrospectiveState
from pyro_gtm.memory.recurrent import RecurrentMemory, RecurrentState
from pyro_gtm.memory.registry import make_memory, memory_names, register_memory

__all__ = [
    "IntrospectiveMemory",
    "IntrospectiveState",
    "MemoryModule",
    "MemoryStep",
    "RecurrentMemory",
    "RecurrentState",
    "make_memory",
    "memory_names",
    "register_memory",
]
