"""Shared by the commands: kinds of values, options, and how bad input is refused."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pyro_gtm.experiments.checkpoint_file import CheckpointError
from pyro_gtm.experiments.config_fields import Setting
from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.experiments.machine import TooLittleMemoryError
from pyro_gtm.experiments.run import Run, RunError

__all__ = [
    "COMMAND",
    "MODULES",
    "NamedPath",
    "Refused",
    "Registered",
    "device_option",
    "download_option",
    "given_settings",
    "import_option",
    "length_options",
    "moved_data_option",
    "named_values_option",
    "refusing_bad_input",
    "run_argument",
    "setting_options",
    "tell_notes",
]

COMMAND: dict[str, Any] = {"show_default": True, "help_option_names": ["-h", "--help"]}
"""Context settings of every command."""

MODULES = "pyro_gtm.modules"
"""Key in click's context of what ``--import`` named."""


class Refused(click.ClickException):
    """Input that cannot be served: one sentence on stderr, exit code 2."""

    exit_code = 2


@contextmanager
def refusing_bad_input() -> Iterator[None]:
    """Within it, what the library refuses is refused with its sentence and exit code 2."""
    try:
        yield
    except (ValueError, MissingDataError, RunError, CheckpointError, TooLittleMemoryError) as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.filename} cannot be used: {error.strerror}") from error


def tell_notes(run: Run) -> None:
    """Say on stderr what is to be known of how a run's folder was found."""
    for note in run.notes:
        click.echo(f"Note: {note}.", err=True)


class Registered(click.Choice):
    """The names that are registered by the time the command runs, and perhaps some others.

    Args:
        registry: the names, looked at anew each time.
        others: more names.
    """

    def __init__(self, registry: Iterable[str], others: tuple[str, ...] = ()) -> None:
        super().__init__([*registry, *others])
        self.registry, self.others = registry, others

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        self.choices = (*self.registry, *self.others)
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            if isinstance(value, str) and value.endswith("+mixture"):
                self.fail("the mixture prior is an option of its own here: --prior mixture.")
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


class NameAndValue(click.ParamType):
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


def named_values_option(flag: str, help: str) -> Callable[[Any], Any]:
    """A repeatable option ``NAME=VALUE``: a dictionary, named as the flag is, with an s."""
    return click.option(
        flag,
        f"{flag.removeprefix('--').replace('-', '_')}s",
        type=NameAndValue(),
        multiple=True,
        callback=_each_once,
        metavar="NAME=VALUE",
        help=help,
    )


def _each_once(
    ctx: click.Context, param: click.Parameter, pairs: Iterable[tuple[str, Any]]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise click.BadParameter(f"{name} is given twice.", ctx, param)
        values[name] = value
    return values


class Number(click.ParamType):
    """An integer or a number, checked as its setting is."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.name = setting.kind.__name__

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, str):
            with suppress(ValueError):  # no number is refused as it stands
                value = self.setting.kind(value)
        if not self.setting.allows(value):
            self.fail(f"{self.setting.refusal(value)}.", param, ctx)
        return value


def setting_options(settings: Iterable[Setting]) -> Callable[[Any], Any]:
    """Decorator of a command: an option for each setting, without a value unless it is given."""

    def decorate(command: Any) -> Any:
        for setting in reversed(list(settings)):
            command = _option(setting)(command)
        return command

    return decorate


def _option(setting: Setting) -> Callable[[Any], Any]:
    flag = f"--{setting.name.replace('_', '-')}"
    if setting.kind == dict[str, Any]:
        return named_values_option(flag.removesuffix("s"), setting.help)
    default = setting.default_help or setting.default
    help = setting.help if default is None else f"{setting.help} [default: {default}]"
    return click.option(*setting.flags, flag, setting.name, type=_type_of(setting), help=help)


def _type_of(setting: Setting) -> click.ParamType:
    if setting.registry is not None:
        return Registered(setting.registry)
    if setting.choices:
        return click.Choice(setting.choices)
    if setting.folder:
        return NamedPath(file_okay=False)
    return Number(setting) if setting.kind in (int, float) else click.STRING


tensorboard_option = click.option(
    "--tensorboard",
    is_flag=True,
    help="Also write event files for TensorBoard into each run's folder.",
)


def given_settings(ctx: click.Context, flags: dict[str, Any]) -> dict[str, Any]:
    """The options given on the command line, by the names of settings where they are such."""
    given = {
        name: value
        for name, value in flags.items()
        if value is not None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    lengths = {name: given.pop(name) for name in ("list_length", "recall_length") if name in given}
    task_options = given.get("task_options", {})
    for name in task_options.keys() & lengths.keys():
        flag = f"--{name.replace('_', '-')}"
        raise Refused(f"{flag} and --task-option {name} are the same setting: give one of them")
    if lengths:
        given["task_options"] = task_options | lengths
    for name in given.keys() & {"data_dir", "init_from"}:  # a run may be resumed from elsewhere
        given[name] = os.path.abspath(given[name])
    return given


def _import(ctx: click.Context, param: click.Parameter, modules: tuple[str, ...]) -> None:
    ctx.meta[MODULES] = modules
    if modules and os.getcwd() not in sys.path:  # it is not, for an installed command
        sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a module of the user's raises
            advice = " (a module's name has no .py)" if module.endswith(".py") else ""
            raise click.BadParameter(
                f"{module!r} cannot be imported: {type(error).__name__}: {error}{advice}"
            ) from error


import_option = click.option(
    "--import",
    multiple=True,
    metavar="MODULE",
    is_eager=True,  # before names are looked up
    expose_value=False,
    callback=_import,
    help="A module, perhaps in this folder, that registers a memory, task, network, likelihood, "
    "data source or ELBO of your own; repeatable.",
)

run_argument = click.argument("run", type=NamedPath(path_type=Path), metavar="RUN_FOLDER")

device_option = click.option(
    "--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1, ..."
)

moved_data_option = click.option(
    "--data-dir",
    type=NamedPath(file_okay=False),
    help="Where the data is now, if it has moved.",
)

download_option = click.option(
    "--download", is_flag=True, help="Fetch what --data-dir lacks; needs pooch."
)


def length_options(default: str) -> Callable[[Any], Any]:
    """``--list-length`` and ``--recall-length``, with their default in words."""

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
