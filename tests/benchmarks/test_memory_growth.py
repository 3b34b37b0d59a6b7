"""The growth of memories: what is measured, and how exponents, table and figure come of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import memory_growth
import pyro_gtm as gtm
from common.measure import peak_allocated
from growth import curves, figure, sequences
from growth.sequences import Cost, Point

GRID = {"num_steps": (1, 2, 4, 8), "slots": (2, 4, 8), "heads": (1, 2), "batch_size": (3, 9)}
TINY = "-T 1,2,3 --slots 2,4 --heads 1,2 -b 2,3 --hidden-dim 4 --turns 1"


def sizes_of(memory, grown):
    points = sequences.points_of([memory], GRID)
    return [tuple(point.sizes.values()) for point in points if point.grown == grown]


def test_one_size_grows_while_the_others_stay_at_their_least():
    assert sizes_of("dnc", "num_steps") == [(steps, 2, 1, 3) for steps in (1, 2, 4, 8)]
    assert sizes_of("dnc", "heads") == [(1, 2, 1, 3), (1, 2, 2, 3)]
    assert sizes_of("vrnn", "batch_size") == [(1, 3), (1, 9)]
    assert sizes_of("vrnn", "slots") == []


def test_exponents_by_mathematics(memory_name, monkeypatch):
    """Only the DNC is quadratic in slots; nothing is said of the slots of somebody else's."""

    def expected(grown):
        return curves.Curve(memory_name, grown, [], []).expected

    assert (expected("slots") == "to 2") == (memory_name == "dnc")
    monkeypatch.setattr(curves, "memory_class", lambda name: type("Own", (), {"__module__": "own"}))
    assert expected("slots") == expected("heads") == "-"
    assert expected("num_steps") == "1"


def test_peak_is_the_most_that_lives_at_once():
    def run():
        kept = [torch.ones(256) for _ in range(3)]  # 1024 bytes each
        kept.pop()
        torch.ones(512)  # beside two: not more than with a third
        kept.append(torch.ones(1024))

    assert peak_allocated(run) == 2 * 1024 + 4096


@pytest.mark.parametrize(
    ("name", "small", "grown", "power"),
    [
        ("vrnn", {"num_steps": 40, "batch_size": 8}, "num_steps", 1),
        ("vrnn", {"num_steps": 40, "batch_size": 8}, "batch_size", 1),
        *(
            (name, {"num_steps": 10, "slots": 256, "heads": 1, "batch_size": 2}, "slots", power)
            for name, power in {"introspective": 1, "lru": 1, "ntm": 1, "dnc": 2}.items()
        ),
    ],
)
def test_peak_memory_of_large_sizes_grows_as_expected(name, small, grown, power):
    """Bytes do not depend on the machine."""

    def measured(sizes):
        point = Point(name, grown, sizes)
        return peak_allocated(sequences.build_run(point, latent_dim=3, hidden_dim=4, word_size=3))

    large = {**small, grown: 2 * small[grown]}
    assert math.log2(measured(large) / measured(small)) == pytest.approx(power, abs=0.07)


def test_the_first_run_is_measured_for_memory_and_all_have_turns_for_time():
    order = []

    def run(name, seconds):
        order.append(name)
        return next(seconds)

    a, b = iter([9.0, 3.0, 1.0, 2.0]), iter([9.0, 0.5, 0.5, 0.8])
    costs = sequences.measure([lambda: run("a", a), lambda: run("b", b)], 3)
    assert "".join(order) == "abababab"
    assert costs == [Cost(2.0, 0), Cost(0.5, 0)], "the first does not count"


def test_long_runs_sit_out_after_a_few_turns():
    order = []

    def run(name, seconds):
        order.append(name)
        return seconds

    sequences.measure([lambda: run("a", sequences.LIMIT), lambda: run("b", 0.0)], 5)
    assert order.count("a") == 1 + sequences.LEAST_TURNS
    assert order.count("b") == 1 + 5


def test_a_table_has_the_last_exponent_beside_the_expected():
    points = [Point("dnc", "slots", {"slots": slots}) for slots in (8, 16, 48)]
    costs = [Cost(1e-3 * n**2, 2**20 * n) for n in (1, 2, 6)]
    (curve,) = grown = curves.curves_of(points, costs)
    assert curve.exponents("seconds") == pytest.approx([2, 2])
    assert curve.exponents("bytes") == pytest.approx([1, 1])
    times = curves.table(grown, "slots", "seconds").splitlines()[-1]
    assert times.split() == ["dnc", "1.0", "4.0", "36.0", "2.00", "to", "2"]
    memory = curves.table(grown, "slots", "bytes").splitlines()[-1]
    assert memory.split() == ["dnc", "1.0", "2.0", "6.0", "1.00", "to", "2"]


def test_command_leaves_a_table_for_each_size_and_a_figure(tmp_path):
    path = tmp_path / "a" / "b.png"
    result = CliRunner().invoke(memory_growth.main, [*TINY.split(), "--figure", str(path)])
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(b"\x89PNG")
    tables = result.output.split("\n\n")[2:-1]
    assert [text.splitlines()[0].split()[:3] for text in tables[2:4]] == [
        ["slots", "N,", "ms"],
        ["slots", "N,", "MiB"],
    ]
    assert len(tables) == 2 * len(sequences.GROWING)
    rows = [line.split()[0] for line in tables[0].splitlines()[1:]]
    assert rows == list(gtm.memory.memory_names())
    assert "vrnn" not in tables[2]


def test_a_panel_for_each_size_and_cost_with_every_line_and_its_exponent():
    names = ["dnc", "lru", "vrnn"]
    points = sequences.points_of(names, GRID)
    costs = [
        Cost(
            1e-3 * point.sizes.get("slots", 1) * point.sizes["num_steps"],
            2**20 * point.sizes["batch_size"] ** 2,
        )
        for point in points
    ]
    drawn = figure.draw_growth(curves.curves_of(points, costs), GRID)
    lines = [[line.get_label() for line in axes.lines] for axes in drawn.axes]
    assert lines == 2 * [names, ["dnc", "lru"], ["dnc", "lru"], names]
    texts = [[text.get_text() for text in axes.texts] for axes in drawn.axes]
    assert texts == [
        *(["$T^{1.0}$"] * 3, ["$N^{1.0}$"] * 2, ["$R^{0.0}$"] * 2, ["$B^{0.0}$"] * 3),
        *(["$T^{0.0}$"] * 3, ["$N^{0.0}$"] * 2, ["$R^{0.0}$"] * 2, ["$B^{2.0}$"] * 3),
    ]
    heights = sorted(text.xy[1] for text in drawn.axes[1].texts)
    assert heights[0] < heights[1], "labels of lines that end together stand apart"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory none", "'none' is not one of"),
        ("--slots 8", "'8' must be growing positive integers"),
        ("--slots 8,4", "'8,4' must be growing positive integers"),
        ("--heads 0,1", "'0,1' must be growing positive integers"),
        ("-T 1,two", "'1,two' must be growing positive integers"),
        ("--turns 0", "0 is not in the range x>=1"),
        ("--memory lru --heads 1,9", "slots must be at least heads=9"),
        ("--figure taken/below.png", "taken cannot be used: File exists"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    result = CliRunner().invoke(memory_growth.main, [*TINY.split(), *arguments.split()])
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]
    assert "exponent" not in result.output
