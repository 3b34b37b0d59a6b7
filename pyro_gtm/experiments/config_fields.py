"""Fields of a configuration that declare their check and their command-line option.

From the declaration come the check of its values, its option on the command line, whether
``compare`` has that option too, and whether a resumed run may change it::

    @dataclass(frozen=True)
    class Config:
        num_steps: int = setting(2_500, help="Gradient steps.", flags=("-n",), minimum=1)

        def __post_init__(self) -> None:
            check_settings(self)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

__all__ = ["Setting", "check_settings", "flat", "setting", "settings_of"]

KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    str | None: ((str, type(None)), "text"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    dict[str, Any]: ((dict,), "a table of options"),
}
"""The types a setting may have, as values are in JSON, and their names in messages."""


@dataclass(frozen=True)
class Setting:
    """Declaration of a setting; made by :func:`setting` and :func:`settings_of`.

    Attributes:
        name: of the field, in messages, and with dashes of the option.
        kind: the annotated type, one of ``KINDS``.
        help: one sentence for the command line.
        default: where nothing is given.
        default_help: the default in words, where it is not the same in every preset and task.
        flags: short forms of the option.
        minimum, maximum: least and greatest value of an integer.
        positive: whether a number must be positive and finite.
        choices: the allowed words.
        registry: the names that can be registered; checked when they are looked up, as a name may
            be registered later.
        folder: whether it is a path of a folder.
        compare: whether all runs of a comparison share it, so that ``compare`` has its option.
        may_change: whether a resumed run may be given another value.
        option: whether it is an option on the command line, and not found out there.
    """

    name: str
    kind: Any
    help: str
    default: Any
    default_help: str | None = None
    flags: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    positive: bool = False
    choices: tuple[str, ...] = ()
    registry: Iterable[str] | None = None
    folder: bool = False
    compare: bool = True
    may_change: bool = False
    option: bool = True

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.maximum is not None:
            return f"an integer from {self.minimum} to {self.maximum}"
        if self.minimum is not None:
            words = {0: "a non-negative integer", 1: "a positive integer"}
            return words.get(self.minimum, f"an integer of at least {self.minimum}")
        return "a positive number" if self.positive else KINDS[self.kind][1]

    def allows(self, value: Any) -> bool:
        """Whether a value is of the right kind and in range."""
        is_of_kind = isinstance(value, KINDS[self.kind][0]) and not isinstance(value, bool)
        return (
            is_of_kind
            and (not self.choices or value in self.choices)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (not self.positive or 0 < value < math.inf)
        )

    def refusal(self, value: Any) -> str:
        """Refusal of a value that is not allowed, without the name of the setting."""
        return f"got {value!r}, must be {self.allowed}"


def setting(default: Any, *, help: str, **declared: Any) -> Any:
    """A field of a dataclass that is a setting.

    Args:
        default: where nothing is given; a dict is copied.
        help: one sentence for the command line.
        **declared: other attributes of :class:`Setting`.
    """
    metadata = {"help": help, **declared}
    if isinstance(default, dict):
        return field(default_factory=lambda: deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def settings_of(record: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, by name."""
    kinds = get_type_hints(record)
    return {
        entry.name: Setting(
            entry.name,
            kinds[entry.name],
            default=entry.default if entry.default_factory is MISSING else entry.default_factory(),
            **entry.metadata,
        )
        for entry in fields(record)
    }


def check_settings(record: Any) -> None:
    """Refuse a record with an impossible value, naming the setting.

    Raises:
        ValueError: so it is.
    """
    for name, declared in settings_of(type(record)).items():
        value = getattr(record, name)
        if not declared.allows(value):
            raise ValueError(f"{name}: {declared.refusal(value)}")


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested options beside the rest: ``task_options={"size": 3}`` as ``task option size``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            kind = name.removesuffix("s").replace("_", " ")
            flat |= {f"{kind} {option}": choice for option, choice in value.items()}
        else:
            flat[name] = value
    return flat
