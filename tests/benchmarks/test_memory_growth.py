"""The growth of memories: what is measured, and how exponents, table and figure come of it."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

import pyro_gtm as gtm

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "memory_growth.py"
SPEC = importlib.util.spec_from_file_location("memory_growth", PATH)
memory_growth = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(memory_growth)
Sizes = memory_growth.Sizes

GRID = {"num_steps": (1, 2, 4, 8), "slots": (2, 4, 8), "heads": (1, 2)}
TINY = "-T 1,2,3 --slots 2,4 --heads 1,2 -b 2 --hidden-dim 4 --repeats 1"


def test_one_size_grows_while_the_others_stay_in_the_middle():
    assert memory_growth.sizes_of("dnc", "num_steps", GRID) == [
        Sizes(steps, 4, 1) for steps in (1, 2, 4, 8)
    ]
    assert memory_growth.sizes_of("dnc", "heads", GRID) == [Sizes(2, 4, 1), Sizes(2, 4, 2)]
    assert memory_growth.sizes_of("vrnn", "num_steps", GRID)[0] == Sizes(1, None, None)
    assert memory_growth.sizes_of("vrnn", "slots", GRID) == []


def test_a_memory_has_the_sizes_asked_for():
    memory = memory_growth.build_memory("lru", Sizes(9, 5, 2), latent_dim=3, word_size=4)
    assert (memory.slots, memory.heads, memory.word_size) == (5, 2, 4)


def test_a_run_goes_forward_and_backward(memory_name):
    memory = memory_growth.build_memory(memory_name, Sizes(2, 3, 1), latent_dim=3, hidden_dim=4)
    assert memory_growth.sequence(memory, 2, 2)() > 0
    assert all(weight.grad is not None for weight in memory.controller.parameters())


def test_every_run_has_its_turn_in_each_repeat():
    turns = []

    def run(name, seconds):
        turns.append(name)
        return next(seconds)

    a, b = iter([9.0, 3.0, 1.0, 2.0]), iter([9.0, 5.0, 5.0, 8.0])
    medians = memory_growth.measure({"a": lambda: run("a", a), "b": lambda: run("b", b)}, 3)
    assert "".join(turns) == "abababab"
    assert medians == {"a": 2.0, "b": 5.0}, "the first, which warms, does not count"


@pytest.mark.parametrize("power", [0, 1, 2])
def test_exponents_are_of_the_power_that_grew(power):
    sizes = [Sizes(20, slots, 1) for slots in (8, 16, 48)]
    seconds = [3e-3 * size.slots**power for size in sizes]
    curve = memory_growth.Curve("dnc", "slots", sizes, seconds)
    assert curve.exponents() == pytest.approx([power, power])


def test_command_leaves_numbers_and_a_figure(tmp_path):
    folder = tmp_path / "a" / "b"
    result = CliRunner().invoke(memory_growth.main, [*TINY.split(), "--output", str(folder)])
    assert result.exit_code == 0, result.output
    assert (folder / "memory_growth.png").read_bytes().startswith(b"\x89PNG")
    with open(folder / "memory_growth.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    measured = {(row["memory"], row["grown"]) for row in rows}
    own = {(name, "num_steps") for name in gtm.memory_names()}
    assert own <= measured
    assert ("dnc", "slots") in measured and ("vrnn", "slots") not in measured
    assert [row["slots"] for row in rows if (row["memory"], row["grown"]) == ("dnc", "slots")] == [
        "2",
        "4",
    ]
    assert all(float(row["ms_a_sequence"]) > 0 for row in rows)


def test_a_memory_without_slots_has_one_table():
    result = CliRunner().invoke(memory_growth.main, [*TINY.split(), "--memory", "vrnn"])
    assert result.exit_code == 0, result.output
    assert "steps T" in result.output
    assert "slots N" not in result.output


def test_a_panel_for_each_size_with_every_line_and_its_exponent():
    medians = {
        (name, sizes): 1e-3 * (sizes.slots or 1) * sizes.num_steps
        for name in ("dnc", "lru", "vrnn")
        for grown in GRID
        for sizes in memory_growth.sizes_of(name, grown, GRID)
    }
    curves = memory_growth.curves_of(["dnc", "lru", "vrnn"], GRID, medians)
    figure = memory_growth.draw_growth(curves, GRID, batch_size=16)
    assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [
        ["dnc", "lru", "vrnn"],
        ["dnc", "lru"],
        ["dnc", "lru"],
    ]
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [["$T^{1.0}$"] * 3, ["$N^{1.0}$"] * 2, ["$R^{0.0}$"] * 2]
    heights = sorted(text.xy[1] for text in figure.axes[1].texts)
    assert heights[0] < heights[1], "labels of lines that end together stand apart"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory none", "'none' is not one of"),
        ("--slots 8", "'8' must be growing whole numbers"),
        ("--slots 8,4", "'8,4' must be growing whole numbers"),
        ("--heads 0,1", "'0,1' must be growing whole numbers"),
        ("-T 1,two", "'1,two' must be growing whole numbers"),
        ("--repeats 0", "0 is not in the range x>=1"),
        ("--memory lru --heads 1,9", "slots must be at least heads=9"),
        ("--output taken", "'taken' is a file"),
        ("--output taken/below", "taken/below cannot be used: Not a directory"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    result = CliRunner().invoke(memory_growth.main, [*TINY.split(), *arguments.split()])
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]
    assert "exponent" not in result.output


def test_help():
    result = CliRunner().invoke(memory_growth.main, ["-h"])
    assert result.exit_code == 0
    assert "16,32,64,128,256" in result.output
