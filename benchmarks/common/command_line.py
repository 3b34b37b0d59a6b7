"""Options that several scripts have, and how bad input is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
import torch

from pyro_gtm.experiments.build import pick_device
from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.memory import memory_names

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

command = partial(
    click.command,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)


def size_option(*names: str, default: int | None, **settings: Any) -> Decorator:
    """A positive integer."""
    return click.option(*names, type=click.IntRange(1), default=default, **settings)


def names_option(flag: str, parameter: str, names: Sequence[str], default: Any) -> Decorator:
    """Some of ``names``, each once."""
    return click.option(
        flag,
        parameter,
        type=click.Choice(names),
        multiple=True,
        default=default,
        callback=lambda _, __, given: list(dict.fromkeys(given)),
        help="Repeatable.",
    )


def memories_option(*default: str) -> Decorator:
    """Registered memories, by default all."""
    names = memory_names()
    return names_option("--memory", "memories", names, default or names)


def device_option() -> Decorator:
    def find(_: click.Context, __: click.Parameter, name: str) -> torch.device:
        with refusing_bad_input():
            return pick_device(name)

    return click.option("--device", default="cpu", callback=find, help="auto, cpu, cuda, ...")


@contextmanager
def refusing_bad_input() -> Iterator[None]:
    """Within it, what the library or the file system refuses ends the script with a sentence."""
    try:
        yield
    except (ValueError, MissingDataError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"{error.filename} cannot be used: {error.strerror}") from error
