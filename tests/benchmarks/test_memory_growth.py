"""The growth of memories: what is measured, and how exponents, table and figure come of it."""

from __future__ import annotations

import csv
import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import pyro_gtm as gtm

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(FOLDER))  # where a script finds the modules beside it
SPEC = importlib.util.spec_from_file_location("memory_growth", FOLDER / "memory_growth.py")
memory_growth = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(memory_growth)
from growth import cost, curves, figure, sizes  # noqa: E402
from growth.cost import Cost  # noqa: E402
from growth.sizes import Sizes  # noqa: E402

GRID = {"num_steps": (1, 2, 4, 8), "slots": (2, 4, 8), "heads": (1, 2), "batch_size": (3, 9)}
TINY = "-T 1,2,3 --slots 2,4 --heads 1,2 -b 2,3 --hidden-dim 4 --turns 1"


def test_one_size_grows_while_the_others_stay_at_their_least():
    assert sizes.sizes_of("dnc", "num_steps", GRID) == [
        Sizes(steps, 2, 1, 3) for steps in (1, 2, 4, 8)
    ]
    assert sizes.sizes_of("dnc", "heads", GRID) == [Sizes(1, 2, 1, 3), Sizes(1, 2, 2, 3)]
    assert sizes.sizes_of("vrnn", "batch_size", GRID) == [
        Sizes(1, None, None, 3),
        Sizes(1, None, None, 9),
    ]
    assert sizes.sizes_of("vrnn", "slots", GRID) == []


def test_a_memory_has_the_sizes_asked_for():
    memory = sizes.build_memory("lru", Sizes(9, 5, 2, 1), latent_dim=3, word_size=4)
    assert (memory.slots, memory.heads, memory.word_size) == (5, 2, 4)


def test_only_the_dnc_is_said_to_be_quadratic_in_slots(memory_name):
    assert (sizes.expected(memory_name, "slots") == "to 2") == (memory_name == "dnc")
    assert sizes.expected(memory_name, "num_steps") == "1"


def test_nothing_is_said_of_the_slots_of_a_memory_of_somebody_else(monkeypatch):
    class Own(gtm.IntrospectiveMemory):
        pass

    monkeypatch.setattr(sizes, "memory_class", lambda name: Own)
    assert sizes.expected("own", "slots") == sizes.expected("own", "heads") == "-"
    assert sizes.expected("own", "num_steps") == "1"


def test_a_run_goes_forward_and_backward(memory_name):
    memory = sizes.build_memory(memory_name, Sizes(2, 3, 1, 2), latent_dim=3, hidden_dim=4)
    assert cost.sequence(memory, 2, 2)() > 0
    assert all(weight.grad is not None for weight in memory.controller.parameters())


def test_peak_is_the_most_that_lives_at_once():
    def run():
        kept = [torch.ones(256) for _ in range(3)]  # 1024 bytes each
        kept.pop()
        torch.ones(512)  # beside two: not more than with a third
        kept.append(torch.ones(1024))
        return 0.0

    assert cost.peak(run) == 2 * 1024 + 4096


@pytest.mark.parametrize(
    ("name", "small", "large", "power"),
    [
        ("vrnn", Sizes(40, None, None, 8), Sizes(80, None, None, 8), 1),
        ("vrnn", Sizes(40, None, None, 8), Sizes(40, None, None, 16), 1),
        ("introspective", Sizes(10, 256, 1, 2), Sizes(10, 512, 1, 2), 1),
        ("lru", Sizes(10, 256, 1, 2), Sizes(10, 512, 1, 2), 1),
        ("ntm", Sizes(10, 256, 1, 2), Sizes(10, 512, 1, 2), 1),
        ("dnc", Sizes(10, 256, 1, 2), Sizes(10, 512, 1, 2), 2),
    ],
)
def test_peak_memory_of_large_sizes_grows_as_expected(name, small, large, power):
    """Bytes do not depend on the machine."""

    def measured(each):
        memory = sizes.build_memory(name, each, latent_dim=3, hidden_dim=4, word_size=3)
        return cost.peak(cost.sequence(memory, each.num_steps, each.batch_size))

    assert math.log2(measured(large) / measured(small)) == pytest.approx(power, abs=0.07)


def test_the_first_run_is_measured_for_memory_and_all_have_turns_for_time():
    order = []

    def run(name, seconds):
        order.append(name)
        return next(seconds)

    a, b = iter([9.0, 3.0, 1.0, 2.0]), iter([9.0, 5.0, 5.0, 8.0])
    costs = cost.measure({"a": lambda: run("a", a), "b": lambda: run("b", b)}, 3, limit=100)
    assert "".join(order) == "abababab"
    assert costs == {"a": Cost(2.0, 0), "b": Cost(5.0, 0)}, "the first does not count"


def test_long_runs_sit_out_after_a_few_turns():
    order = []

    def run(name, seconds):
        order.append(name)
        return seconds

    runs = {"a": lambda: run("a", 10.0), "b": lambda: run("b", 1.0)}
    cost.measure(runs, 5, limit=10)
    assert order.count("a") == 1 + cost.LEAST_TURNS
    assert order.count("b") == 1 + 5


@pytest.mark.parametrize("power", [0, 1, 2])
def test_exponents_are_of_the_power_that_grew(power):
    grown = [Sizes(20, slots, 1, 1) for slots in (8, 16, 48)]
    costs = [Cost(3e-3 * size.slots**power, 7 * size.slots ** (power + 1)) for size in grown]
    curve = curves.Curve("dnc", "slots", grown, costs)
    assert curve.exponents("seconds") == pytest.approx([power, power])
    assert curve.exponents("bytes") == pytest.approx([power + 1, power + 1])


def test_a_table_has_the_last_exponent_beside_the_expected():
    grown = [Sizes(20, slots, 1, 1) for slots in (8, 16)]
    curve = curves.Curve("dnc", "slots", grown, [Cost(1e-3, 2**20), Cost(4e-3, 2**21)])
    times = curves.table([curve], "slots", "seconds").splitlines()[-1]
    assert times.split() == ["dnc", "1.0", "4.0", "2.00", "to", "2"]
    memory = curves.table([curve], "slots", "bytes").splitlines()[-1]
    assert memory.split() == ["dnc", "1.0", "2.0", "1.00", "to", "2"]


def test_command_leaves_numbers_and_a_figure(tmp_path):
    folder = tmp_path / "a" / "b"
    result = CliRunner().invoke(memory_growth.main, [*TINY.split(), "--output", str(folder)])
    assert result.exit_code == 0, result.output
    assert (folder / "memory_growth.png").read_bytes().startswith(b"\x89PNG")
    with open(folder / "memory_growth.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    measured = {(row["memory"], row["grown"]) for row in rows}
    own = {(name, grown) for name in gtm.memory_names() for grown in ("num_steps", "batch_size")}
    assert own <= measured
    assert ("dnc", "slots") in measured and ("vrnn", "slots") not in measured
    of_dnc = [row for row in rows if (row["memory"], row["grown"]) == ("dnc", "slots")]
    assert [(row["slots"], row["expected"]) for row in of_dnc] == [("2", ""), ("4", "to 2")]
    assert all(float(row["ms_a_sequence"]) > 0 and float(row["peak_mib"]) > 0 for row in rows)


def test_a_memory_without_slots_has_no_table_of_them():
    result = CliRunner().invoke(memory_growth.main, [*TINY.split(), "--memory", "vrnn"])
    assert result.exit_code == 0, result.output
    assert "steps T, ms" in result.output
    assert "sequences B, MiB" in result.output
    assert "slots N" not in result.output


def test_a_panel_for_each_size_and_cost_with_every_line_and_its_exponent():
    names = ["dnc", "lru", "vrnn"]
    costs = {
        (name, each): Cost(1e-3 * (each.slots or 1) * each.num_steps, 2**20 * each.batch_size**2)
        for name in names
        for grown in GRID
        for each in sizes.sizes_of(name, grown, GRID)
    }
    drawn = figure.draw_growth(curves.curves_of(names, GRID, costs), GRID)
    lines = [[line.get_label() for line in axes.lines] for axes in drawn.axes]
    assert lines == 2 * [names, ["dnc", "lru"], ["dnc", "lru"], names]
    texts = [[text.get_text() for text in axes.texts] for axes in drawn.axes]
    assert texts == [
        *(["$T^{1.0}$"] * 3, ["$N^{1.0}$"] * 2, ["$R^{0.0}$"] * 2, ["$B^{0.0}$"] * 3),
        *(["$T^{0.0}$"] * 3, ["$N^{0.0}$"] * 2, ["$R^{0.0}$"] * 2, ["$B^{2.0}$"] * 3),
    ]
    heights = sorted(text.xy[1] for text in drawn.axes[1].texts)
    assert heights[0] < heights[1], "labels of lines that end together stand apart"


def test_labels_stand_around_where_their_lines_end():
    assert figure.apart([1.0, 5.0, 9.0], 1.0) == [1.0, 5.0, 9.0]
    assert figure.apart([1.0, 5.0, 5.0, 9.0], 1.0) == [1.0, 4.5, 5.5, 9.0]
    assert figure.apart([2.0, 2.0, 2.5], 1.0) == pytest.approx([3.5 / 3, 6.5 / 3, 9.5 / 3])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory none", "'none' is not one of"),
        ("--slots 8", "'8' must be growing whole numbers"),
        ("--slots 8,4", "'8,4' must be growing whole numbers"),
        ("--heads 0,1", "'0,1' must be growing whole numbers"),
        ("-T 1,two", "'1,two' must be growing whole numbers"),
        ("-b 0,1", "'0,1' must be growing whole numbers"),
        ("--turns 0", "0 is not in the range x>=1"),
        ("--limit -1", "-1.0 is not in the range x>=0"),
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
    assert "16,64,256,1024" in result.output
