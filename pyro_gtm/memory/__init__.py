"""The memories: one file each, one interface, known by name."""

from pyro_gtm.memory.associative import AssociativeMemory, AssociativeState
from pyro_gtm.memory.base import NEVER, MemoryModule, MemoryStep, MemoryUnroll, StepInputs
from pyro_gtm.memory.dnc import DNCMemory, DNCState
from pyro_gtm.memory.introspective import IntrospectiveMemory, IntrospectiveState
from pyro_gtm.memory.lru import LRUMemory, LRUState
from pyro_gtm.memory.ntm import NTMMemory, NTMState
from pyro_gtm.memory.recurrent import RecurrentMemory, RecurrentState
from pyro_gtm.memory.registry import make_memory, memory_names, register_memory
from pyro_gtm.memory.slots import AddressedMemory

__all__ = [
    "NEVER",
    "AddressedMemory",
    "AssociativeMemory",
    "AssociativeState",
    "DNCMemory",
    "DNCState",
    "IntrospectiveMemory",
    "IntrospectiveState",
    "LRUMemory",
    "LRUState",
    "MemoryModule",
    "MemoryStep",
    "MemoryUnroll",
    "NTMMemory",
    "NTMState",
    "RecurrentMemory",
    "RecurrentState",
    "StepInputs",
    "make_memory",
    "memory_names",
    "register_memory",
]
