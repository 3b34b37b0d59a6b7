"""A setting is declared once: a made-up one has a check, an option, and a place in ``compare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pyro_gtm.experiments.cli import compare, train
from pyro_gtm.experiments.cli.options import given_settings, setting_options
from pyro_gtm.experiments.config import MAY_CHANGE, SETTINGS
from pyro_gtm.experiments.config_fields import check_settings, flat, setting, settings_of
from pyro_gtm.internals.registry import Registry

SHAPES: Registry[object] = Registry("shape")
SHAPES.register("square")(type("Square", (), {}))


@dataclass(frozen=True)
class MadeUp:
    width: int = setting(7, help="Of the shape.", flags=("-w",), minimum=1, may_change=True)
    scale: float = setting(0.5, help="Of the scale.", default_help="a half", positive=True)
    colour: str = setting("red", help="Of the shape.", choices=("red", "blue"), compare=False)
    shape: str = setting("square", help="By name.", registry=SHAPES)
    shape_options: dict[str, Any] = setting({}, help="Of the shape.", compare=False)

    def __post_init__(self):
        check_settings(self)


def command_of(*settings):
    given = {}

    @click.command
    @setting_options(settings)
    @click.pass_context
    def command(ctx, /, **flags):
        given.update(given_settings(ctx, flags))

    def call(line):
        given.clear()
        result = CliRunner().invoke(command, line)
        return given if result.exit_code == 0 else result.output

    return call


def test_a_value_is_checked():
    assert MadeUp(width=1, scale=3).width == 1
    for name, value, allowed in (
        ("width", 0, "a positive integer"),
        ("width", True, "a positive integer"),
        ("scale", float("inf"), "a positive number"),
        ("colour", "green", "one of red, blue"),
        ("shape_options", None, "a table of options"),
    ):
        with pytest.raises(ValueError) as refused:
            MadeUp(**{name: value})
        assert str(refused.value) == f"{name}: got {value!r}, must be {allowed}"
    assert MadeUp(shape="registered later").shape == "registered later"


def test_it_has_an_option():
    call = command_of(*settings_of(MadeUp).values())
    assert call("") == {}
    assert call("-w 3 --scale 2 --colour blue --shape square --shape-option a=1") == {
        "width": 3,
        "scale": 2.0,
        "colour": "blue",
        "shape": "square",
        "shape_options": {"a": 1},
    }
    for line, words in (
        ("--width 0", "'--width': got 0, must be a positive integer."),
        ("--width wide", "got 'wide', must be a positive integer."),
        ("--scale nan", "'--scale': got nan, must be a positive number."),
        ("--colour green", "'--colour': 'green' is not one of 'red', 'blue'"),
        ("--shape round", "'round' is not 'square' (for one of your own, --import"),
    ):
        assert words in call(line), line
    SHAPES.register("round")(type("Round", (), {}))
    assert call("--shape round") == {"shape": "round"}


def test_help_names_the_default():
    settings = settings_of(MadeUp)

    @click.command
    @setting_options(settings.values())
    def command(**flags):
        pass

    said = " ".join(CliRunner().invoke(command, "--help").output.split())
    for words in ("-w, --width INT Of the shape. [default: 7]", "Of the scale. [default: a half]"):
        assert words in said


def test_it_has_its_place_in_a_comparison_and_a_resumed_run():
    settings = settings_of(MadeUp)
    assert [name for name, one in settings.items() if one.compare] == ["width", "scale", "shape"]
    assert [name for name, one in settings.items() if one.may_change] == ["width"]


def test_the_commands_have_an_option_for_each_setting():
    names = {command: {param.name for param in command.params} for command in (train, compare)}
    assert {name for name, one in SETTINGS.items() if one.option} <= names[train]
    assert "ranks" not in names[train], "torchrun tells"
    assert {name for name, one in SETTINGS.items() if one.compare} <= names[compare]
    assert "seed" not in names[compare] and "memory" not in names[compare]
    assert set(MAY_CHANGE) == {
        "num_steps",
        "device",
        "data_dir",
        "checkpoint_every",
        "compile_steps",
        "products",
    }


def test_nested_options_are_named_one_by_one():
    nested = {"seed": 1, "task_options": {"size": 3}, "memory_options": {}}
    assert flat(nested) == {"seed": 1, "task option size": 3}
