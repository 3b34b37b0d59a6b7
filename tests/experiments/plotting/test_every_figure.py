"""What holds for all figures: arrays of either kind, named arguments, nothing global touched."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.plotting import (
    addresses_over_time,
    association_over_time,
    attention_over_time,
    frame_strips,
    kl_per_frame,
    map_visits,
    memories_compared,
    memory_over_time,
    recall_under_interventions,
    save,
    training_curves,
    turn,
)


def test_tensors_are_as_good_as_arrays(assert_reads_well: Callable[[Figure], None]) -> None:
    predictable = torch.arange(4) >= 3
    curve = torch.rand(4, requires_grad=True)
    (axes,) = kl_per_frame({"dnc": curve}, predictable, {"dnc": curve}).axes
    assert np.array_equal(axes.lines[0].get_ydata(), curve.detach().numpy())

    frames = [torch.rand(4, 1, 1, 2, 2, requires_grad=True) for _ in range(2)]
    for last in (frames[0].bfloat16(), frames[0].half(), frames[0] > 0.5):
        figure = frame_strips(*frames, last, predictable, 3)
        image = figure.axes[0].images[-1]
        assert np.array_equal(image.get_array(), last[3, 0, 0].detach().float().numpy())
        assert_reads_well(figure)

    weights = torch.rand(4, 1, 3, requires_grad=True)
    figure = attention_over_time(weights, predictable, weights)
    assert np.array_equal(figure.axes[0].images[0].get_array(), weights[:, 0].detach().numpy().T)

    figure = memory_over_time({"read_weights": weights, "write_weights": weights}, predictable)
    assert np.array_equal(figure.axes[1].images[0].get_array(), weights[:, 0].detach().numpy().T)

    rows = [{"step": 1, "last_frame_kl": curve[0], "negative_elbo_per_frame": 1.0}]
    rows[0]["kl_per_frame"] = curve
    figure = memories_compared({"dnc": [rows]}, predictable)
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), curve.detach().numpy())

    figure = recall_under_interventions({"cut": curve}, {"A": frames[0][:, 0]}, predictable)
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), curve.detach().numpy())

    path = torch.tensor([[0], [1], [1], [0]])
    figure = map_visits(frames[0], path, path, 2)
    assert np.array_equal(
        figure.axes[0].images[-1].get_array()[..., 0], frames[0][1, 0, 0].detach().numpy()
    )

    views = torch.rand(4, 1, 3, 2, 2, requires_grad=True)
    figure = turn(views, views, torch.tensor([-1, -1, 0, 1]), 2)
    last = views[3, 0].detach().numpy()
    assert np.array_equal(figure.axes[0].images[-1].get_array(), np.moveaxis(last, 0, -1))


P3, P4 = np.arange(3) >= 2, np.arange(4) >= 3  # the last frame is recalled
FRAMES = np.zeros((4, 2, 1, 3, 3))
WEIGHTS = np.ones((4, 2, 3)) / 3
ROW = {"step": 1.0, "negative_elbo_per_frame": 1.0}
PAPER = {"last_frame_kl": 9.0, "updates": 1}
DETAILS = {"read_weights": WEIGHTS, "write_weights": WEIGHTS[:, :1]}
EVALUATED = [ROW | {"kl_per_frame": np.ones(3), "last_frame_kl": 1.0}]
CELLS = np.zeros((4, 2), int)
VIEWS = np.zeros((4, 2, 3, 3, 3))
TURNS = np.array([-1, -1, 0, 1])
AGAIN = np.array([-1, -1, 0, 1])
ADDRESSES = np.ones((4, 2, 5)) / 5
CALLED, RIGHT = np.repeat(AGAIN[:, None] >= 0, 2, 1), np.repeat(AGAIN[:, None], 2, 1)
REASONS = {"read_weights": WEIGHTS, "logits_lag": WEIGHTS, "logits_place": WEIGHTS}
CURVES, ROWS = {"cut": np.ones(4)}, {"A": FRAMES[:, 0]}


def strips_with(notes: Any) -> Figure:
    return frame_strips(FRAMES, FRAMES, FRAMES, P4, 1, notes=notes)


@pytest.mark.parametrize(
    "draw, argument",
    [
        (lambda: training_curves([], []), "metrics"),
        (lambda: training_curves([ROW, {"step": 2.0}], []), r"metrics\[1\]"),
        (lambda: training_curves([ROW], [ROW]), r"evaluations\[0\]"),
        (lambda: kl_per_frame({}, P3), "curves"),
        (lambda: kl_per_frame({"dnc": np.ones(4)}, P3), r"curves\['dnc'\]"),
        (lambda: kl_per_frame({"dnc": np.ones((3, 1))}, P3), r"curves\['dnc'\]"),
        (lambda: kl_per_frame({"dnc": np.ones(3)}, P3[:, None]), "predictable"),
        (lambda: kl_per_frame({"dnc": np.ones(3)}, np.array([0, 1, 2])), "predictable"),
        (lambda: kl_per_frame({"dnc": np.ones(3)}, np.full(3, np.nan)), "predictable"),
        (lambda: kl_per_frame({"dnc": np.ones(3)}, P3, {"ntm": np.ones(3)}), "spread"),
        (lambda: kl_per_frame({"dnc": np.ones(3)}, P3, {"dnc": np.ones(2)}), "spread"),
        (lambda: kl_per_frame({"dnc": np.ones(3)}, P3, oracle_kl=np.ones(2)), "oracle_kl"),
        (lambda: frame_strips(FRAMES[0], FRAMES, FRAMES, P4, 1), "given"),
        (lambda: frame_strips(*[np.zeros((4, 1, 2, 3, 3))] * 3, P4, 1), "given"),
        (lambda: frame_strips(FRAMES.astype(np.uint8), FRAMES, FRAMES, P4, 1), "given"),
        (lambda: frame_strips(FRAMES, FRAMES[1:], FRAMES, P4, 1), "reconstructed"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES[:, 1:], P4, 1), "generated"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES, P3, 1), "predictable"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES, P4, 5), "num_given"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES, P4, 1, 0), "num_sequences"),
        (lambda: strips_with(notes=[["1", "2"]] * 3), "notes"),
        (lambda: strips_with(notes=[["1", "2"]] * 3 + [["1"]]), "notes"),
        (lambda: strips_with(notes=[["1", 2]] * 4), "notes"),
        (lambda: attention_over_time(WEIGHTS[0], P4), "read_weights"),
        (lambda: attention_over_time(WEIGHTS, P3), "predictable"),
        (lambda: attention_over_time(WEIGHTS, P4, WEIGHTS[..., 0]), "gates"),
        (lambda: attention_over_time(WEIGHTS, P4, WEIGHTS[:, :1]), "gates"),
        (lambda: association_over_time({"read_weights": WEIGHTS}, P4, AGAIN), "details"),
        (lambda: association_over_time({"logits_lag": WEIGHTS}, P4, AGAIN), "details"),
        (
            lambda: association_over_time(REASONS | {"read_weights": WEIGHTS[0]}, P4, AGAIN),
            r"details\['re",
        ),
        (
            lambda: association_over_time(REASONS | {"logits_lag": WEIGHTS[:, :1]}, P4, AGAIN),
            r"details\['logits_lag",
        ),
        (lambda: association_over_time(REASONS, P3, AGAIN), "predictable"),
        (lambda: association_over_time(REASONS, P4, RIGHT), "repeats"),
        (lambda: association_over_time(REASONS, P4, AGAIN + 2), "repeats"),
        (lambda: addresses_over_time(ADDRESSES[0], ADDRESSES, CALLED, RIGHT), "weights"),
        (lambda: addresses_over_time(ADDRESSES[1:], ADDRESSES, CALLED, RIGHT), "weights"),
        (lambda: addresses_over_time(ADDRESSES, ADDRESSES[:, :1], CALLED, RIGHT), "responsib"),
        (lambda: addresses_over_time(ADDRESSES, ADDRESSES, P4, RIGHT), "predictable"),
        (lambda: addresses_over_time(ADDRESSES, ADDRESSES, CALLED, AGAIN), "repeats"),
        (lambda: addresses_over_time(ADDRESSES, ADDRESSES, CALLED, RIGHT - 1), "repeats"),
        (lambda: addresses_over_time(ADDRESSES, ADDRESSES, CALLED, RIGHT + 0.0), "repeats"),
        (lambda: memory_over_time({"read_weights": WEIGHTS}, P4), "details"),
        (
            lambda: memory_over_time(DETAILS | {"read_weights": WEIGHTS[0]}, P4),
            r"details\['re",
        ),
        (
            lambda: memory_over_time(DETAILS | {"write_weights": WEIGHTS[0]}, P4),
            r"details\['w",
        ),
        (
            lambda: memory_over_time(DETAILS | {"write_weights": WEIGHTS[1:]}, P4),
            r"details\['w",
        ),
        (
            lambda: memory_over_time(DETAILS | {"write_weights": WEIGHTS[..., 1:]}, P4),
            r"details\['w",
        ),
        (lambda: memory_over_time(DETAILS, P3), "predictable"),
        (lambda: memories_compared({}, P3), "evaluations"),
        (lambda: memories_compared({"dnc": [[]]}, P3), r"evaluations\['dnc'\]"),
        (lambda: memories_compared({"dnc": [EVALUATED]}, P4), r"evaluations\['dnc'\]\[0\]\['kl_"),
        (lambda: memories_compared({"dnc": [EVALUATED]}, P3[:, None]), "predictable"),
        (lambda: map_visits(FRAMES[0], CELLS, CELLS, 1), "frames"),
        (lambda: map_visits(VIEWS, CELLS, CELLS, 1), "frames"),
        (lambda: map_visits(FRAMES.astype(int), CELLS, CELLS, 1), "frames"),
        (lambda: map_visits(FRAMES, CELLS[1:], CELLS, 1), "row"),
        (lambda: map_visits(FRAMES, CELLS + 0.0, CELLS, 1), "row"),
        (lambda: map_visits(FRAMES, CELLS, CELLS[:, 0], 1), "column"),
        (lambda: map_visits(FRAMES, CELLS, CELLS - 1, 1), "column"),
        (lambda: map_visits(FRAMES, CELLS, CELLS, 5), "num_given"),
        (lambda: map_visits(FRAMES, CELLS, CELLS, -1), "num_given"),
        (lambda: map_visits(FRAMES, CELLS, CELLS, 1, 0), "num_sequences"),
        (lambda: map_visits(FRAMES, CELLS + 2, CELLS, 1, size=(2, 9)), "size"),
        (lambda: map_visits(FRAMES, CELLS, CELLS + 2, 1, size=(9, 2)), "size"),
        (lambda: turn(VIEWS[0], VIEWS, TURNS, 1), "truth"),
        (lambda: turn(FRAMES, FRAMES, TURNS, 1), "truth"),
        (lambda: turn(VIEWS.astype(np.uint8), VIEWS, TURNS, 1), "truth"),
        (lambda: turn(VIEWS, VIEWS[:, :1], TURNS, 1), "generated"),
        (lambda: turn(VIEWS, VIEWS, TURNS[1:], 1), "repeats"),
        (lambda: turn(VIEWS, VIEWS, CELLS, 1), "repeats"),
        (lambda: turn(VIEWS, VIEWS, TURNS + 0.0, 1), "repeats"),
        (lambda: turn(VIEWS, VIEWS, TURNS - 1, 1), "repeats"),
        (lambda: turn(VIEWS, VIEWS, TURNS + 1, 1), "repeats"),
        (lambda: turn(VIEWS, VIEWS, np.array([-1, 0, -1, 0]), 1), "repeats"),
        (lambda: turn(VIEWS, VIEWS, np.array([-1, -1, 0, 2]), 1), "repeats"),
        (lambda: turn(VIEWS, VIEWS, TURNS, 5), "num_given"),
        (lambda: turn(VIEWS, VIEWS, TURNS, 1, 0), "num_sequences"),
        (lambda: recall_under_interventions({}, ROWS, P4), "curves"),
        (lambda: recall_under_interventions(CURVES, {}, P4), "rows"),
        (lambda: recall_under_interventions(CURVES, ROWS, P3), r"curves\['cut'\]"),
        (lambda: recall_under_interventions(CURVES, {"A": FRAMES}, P4), r"rows\['A'\]"),
        (lambda: recall_under_interventions(CURVES, {"A": FRAMES[1:, 0]}, P4), r"rows\['A'\]"),
        (lambda: recall_under_interventions(CURVES, ROWS, P4, {"B": 2}), "num_given"),
        (lambda: recall_under_interventions(CURVES, ROWS, P4, {"A": 5}), r"num_given\['A'\]"),
    ],
)
def test_a_wrong_argument_is_named(draw: Callable[[], Figure], argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^{argument}[^\n]*: got [^\n]+, must [^\n]+$"):
        draw()


def draw_all() -> Iterator[Figure]:
    metrics = [ROW, ROW | {"step": 2.0}]
    evaluated = [row | {"recall_kl": 22 / row["step"], "last_frame_kl": 2.0} for row in metrics]
    yield training_curves(metrics, evaluated)
    yield kl_per_frame({"dnc": np.ones(3)}, P3)
    yield frame_strips(FRAMES, FRAMES, FRAMES, P4, 1)
    yield attention_over_time(WEIGHTS, P4)
    yield memory_over_time(DETAILS, P4)
    yield association_over_time(REASONS, P4, AGAIN)
    yield addresses_over_time(ADDRESSES, ADDRESSES, CALLED, RIGHT)
    yield recall_under_interventions(CURVES, ROWS, P4)
    yield memories_compared({"dnc": [EVALUATED]}, P3, np.zeros(3), {"dnc": ROW | PAPER})
    yield map_visits(FRAMES, CELLS, CELLS, 1)
    yield turn(VIEWS, VIEWS, TURNS, 1)


def test_nothing_global_is_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    # Asking for the backend would import pyplot.
    before = {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}
    for figure in draw_all():
        figure.draw_without_rendering()
    save(figure, tmp_path / "last.png", dpi=20)
    assert "matplotlib.pyplot" not in sys.modules
    assert {key: mpl.rcParams[key] for key in before} == before


def imports_of(file: Path) -> set[str]:
    """What a file imports: modules, and names with the modules they come from."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" for alias in node.names]
        )
    }


FILES = {file.stem: file for file in Path(plotting.__file__).parent.glob("*.py")}


def test_neither_models_nor_pyro_nor_pyplot_are_imported() -> None:
    imported = set().union(*map(imports_of, FILES.values()))
    assert not any(name.startswith("pyro.") or "pyplot" in name for name in imported)
    ours = {name for name in imported if name.startswith("pyro_gtm")}
    ours -= {name for name in ours if name.startswith("pyro_gtm.experiments.plotting.")}
    assert ours == {"pyro_gtm.internals.files.write_atomically"}


def test_a_figure_imports_no_other_figure() -> None:
    shared = {
        "arrays": set(),
        "picture": set(),
        "style": {"arrays"},
        "frames": {"arrays", "picture", "style"},
    }
    for stem in FILES.keys() - {"__init__"}:
        ours = "pyro_gtm.experiments.plotting."
        imported = {
            name.removeprefix(ours).split(".")[0]
            for name in imports_of(FILES[stem])
            if name.startswith(ours)
        }
        assert imported <= shared.get(stem, {"arrays", "picture", "style", "frames"}), stem


def test_every_figure_is_drawn_and_exported() -> None:
    assert len(list(draw_all())) == len(plotting.__all__) - 1, "all but save draw a figure"
    assert plotting.__all__ == sorted(plotting.__all__)
