"""Everything public says what it is: whatever a module lists in ``__all__``, and its methods."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import pyro_gtm

NOT_PUBLIC = ("pyro_gtm.__main__", "pyro_gtm.internals")
"""The first runs when it is imported."""


def modules() -> list[str]:
    found = pkgutil.walk_packages(pyro_gtm.__path__, "pyro_gtm.")
    names = {info.name for info in found} | {"pyro_gtm"}
    tasks = importlib.import_module("pyro_gtm.tasks")
    names |= {info.name for info in pkgutil.walk_packages(tasks.__path__, "pyro_gtm.tasks.")}
    return sorted(name for name in names if not name.startswith(NOT_PUBLIC))


def public_things(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The classes and functions of a module's ``__all__``, and the methods that the classes add."""
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        if not thing.__module__.startswith("pyro_gtm"):
            continue
        yield name, thing
        for method, value in vars(thing).items() if inspect.isclass(thing) else ():
            is_member = inspect.isfunction(value) or isinstance(
                value, (property, classmethod, staticmethod)
            )
            if is_member and not method.startswith("_"):
                yield f"{name}.{method}", getattr(thing, method)


@pytest.mark.parametrize("name", modules())
def test_what_is_public_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    silent = [thing for thing, value in public_things(module) if not inspect.getdoc(value)]
    assert silent == [], f"{name}: no docstring for {', '.join(silent)}"
