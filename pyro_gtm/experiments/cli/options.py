"""What the commands share: kinds of values, common options, and how bad input is refused."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pyro_gtm.experiments.checkpoint import CheckpointError
from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.experiments.run import RunError

__all__ = [
    "COMMAND",
    "MODULES",
    "NamedPath",
    "Refused",
    "Registered",
    "Setting",
    "data_dir_option",
    "device_option",
    "given_settings",
    "import_option",
    "length_options",
    "memory_option",
    "refusing_bad_input",
    "run_argument",
    "task_option",
]

COMMAND: dict[str, Any] = {"show_default": True, "help_option_names": ["-h", "--help"]}
"""Context settings of every command."""

MODULES = "pyro_gtm.modules"
"""Where click's context keeps what ``--import`` named."""


class Refused(click.ClickException):
    """Input that cannot be served: one sentence on stderr, exit code 2."""

    exit_code = 2


@contextmanager
def refusing_bad_input() -> Iterator[None]:
    """Within it, what the library refuses is refused with its sentence and exit code 2."""
    try:
        yield
    except (ValueError, MissingDataError, RunError, CheckpointError) as error:
        raise Refused(_as_typed(str(error))) from error
    except OSError as error:
        raise Refused(f"{error.filename} cannot be used: {error.strerror}") from error


def _as_typed(message: str) -> str:
    """The library's sentence, with the settings called by the options that gave them."""
    ctx = click.get_current_context()
    # A memory may have an option of the same name, and then the sentence may be about that.
    ambiguous = dict(ctx.params.get("memory_options", ()))
    for option in ctx.command.params:
        name, flag = str(option.name), max(option.opts, key=len)
        typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not typed or name in ambiguous or not isinstance(option, click.Option):
            continue
        alone, end = r"(?<![\w'/-])", r"(?![\w'/-])"
        if option.is_flag:
            setting = f"^{name}(?=:)|{alone}{name}=True{end}"
        elif "_" in name:
            setting = f"(?:task option )?{alone}{name}{end}"
        else:  # "memory" is a word too: meant are "memory=..." anywhere and "memory ..." in front
            setting = f"^{name}(?=[ :])|{alone}{name}(?==)"
        message = re.sub(setting, flag, message)
    return message


class Registered(click.Choice):
    """The names that are registered by the time the command runs."""

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        super().__init__(names())
        self.names = names

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        self.choices = tuple(self.names())
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(
                f"{error.message.rstrip('.')} (for one of your own, --import the module that "
                "registers it).",
                param,
                ctx,
            )


class NamedPath(click.Path):
    """A path that is not empty: Python takes "" for the present folder."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("the name is empty.", param, ctx)
        return super().convert(value, param, ctx)


class Setting(click.ParamType):
    """``NAME=VALUE``, the value a number, true, false or a word."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, separator, text = value.partition("=")
        if not name or not separator:
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        for kind in (int, float):
            try:
                return name, kind(text)
            except ValueError:
                continue
        return name, {"true": True, "false": False}.get(text.lower(), text)


def given_settings(ctx: click.Context, flags: dict[str, Any]) -> dict[str, Any]:
    """What was given on the command line, by the names of :class:`Config`'s settings and ours."""
    given = {
        name: value
        for name, value in flags.items()
        if value is not None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    given["memory_options"] = dict(given.get("memory_options", ()))
    lengths = {name: given.pop(name) for name in ("list_length", "recall_length") if name in given}
    task_options = dict(given.get("task_options", ()))
    for name in task_options.keys() & lengths.keys():
        flag = f"--{name.replace('_', '-')}"
        raise Refused(f"{flag} and --task-option {name} are the same setting: give one of them")
    given["task_options"] = task_options | lengths
    if "data_dir" in given:  # a run may be resumed from another folder
        given["data_dir"] = os.path.abspath(given["data_dir"])
    return {name: value for name, value in given.items() if value != {}}


def _import(ctx: click.Context, param: click.Parameter, modules: tuple[str, ...]) -> None:
    ctx.meta[MODULES] = modules
    if modules and os.getcwd() not in sys.path:  # it is not, for an installed command
        sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:  # ValueError: it registers a name that is taken
            raise click.BadParameter(f"{module!r} cannot be imported: {error}") from error


import_option = click.option(
    "--import",
    multiple=True,
    metavar="MODULE",
    is_eager=True,  # before the names of memories and tasks are looked up
    expose_value=False,
    callback=_import,
    help="A module, perhaps in this folder, that registers a memory or task; repeatable.",
)

run_argument = click.argument("run", type=NamedPath(path_type=Path), metavar="RUN_FOLDER")

device_option = click.option(
    "--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1, ..."
)

data_dir_option = click.option(
    "--data-dir",
    type=NamedPath(file_okay=False),
    help="Where the data is now, if it has moved.",
)

task_option = click.option(
    "--task-option",
    "task_options",
    type=Setting(),
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the task's class, such as list_length=20; repeatable.",
)

memory_option = click.option(
    "--memory-option",
    "memory_options",
    type=Setting(),
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the memory's class, such as slots=20; repeatable.",
)


def length_options(default: str) -> Callable[[Any], Any]:
    """``--list-length`` and ``--recall-length``, whose default is told in words."""

    def decorate(command: Any) -> Any:
        for flag, what in (
            ("--recall-length", "Frames to recall."),
            ("--list-length", "Frames before recall, for tasks that recall a list."),
        ):
            option = click.option(
                flag, type=click.IntRange(min=1), help=f"{what} [default: {default}]"
            )
            command = option(command)
        return command

    return decorate
