"""Classes of one kind by name: memories, tasks, networks, likelihoods, data sources, ELBOs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

__all__ = ["Registry"]

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Classes of one kind, known by name; iteration is over the names.

    Args:
        kind: what they are called in messages: ``register_KIND`` is the decorator.
        group: entry points in which installed packages name classes of this kind, if they may.

    Attributes:
        classes: those registered in this process, by name.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self.classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: make a class known under ``name``.

        The same class defined again, as when a notebook cell is rerun, replaces itself.

        Raises:
            ValueError: the name belongs to another class already.
        """

        def decorate(cls: C) -> C:
            known = self.classes.get(name, cls)
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"register_{self.kind}: {name!r} is taken by {known.__qualname__}")
            self.classes[name] = cls
            return cls

        return decorate

    def names(self) -> list[str]:
        """All names in alphabetical order, those of installed packages included."""
        return sorted({*self.classes, *(point.name for point in self._installed())})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def find(self, name: str) -> type[T]:
        """The class called ``name``; ValueError if there is none."""
        if name not in self.classes:
            for point in self._installed():
                if point.name == name:
                    self.register(name)(point.load())
                    break
            else:
                or_install = (
                    ""
                    if self.group is None
                    else f", or name it as an entry point in the group {self.group}"
                )
                raise ValueError(
                    f"{self.kind}: got {name!r}, must be one of {', '.join(self.names())}; for one "
                    "of your own, import the module that registers it (--import on the command "
                    f"line){or_install}"
                )
        return self.classes[name]

    def make(self, name: str, *leading: Any, **options: Any) -> T:
        """Build the one called ``name`` from ``leading`` arguments and options of its own.

        Raises:
            ValueError: the name is unknown, or its class takes no such option.
        """
        cls = self.find(name)
        allowed = list(inspect.signature(cls).parameters)[len(leading) :]
        for option in options:
            if option not in allowed:
                raise ValueError(
                    f"{self.kind} {name!r} takes no option {option!r}; "
                    f"it takes {', '.join(allowed) or 'none'}"
                )
        return cls(*leading, **options)

    def _installed(self) -> list[Any]:
        return [] if self.group is None else list(entry_points(group=self.group))
