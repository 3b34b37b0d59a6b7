"""The figures hold what they were given, and nobody but the caller knows of them."""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from pyro_gtm import plotting
from pyro_gtm.plotting import attention_over_time, frame_strips, kl_per_frame, save, training_curves

LAYOUTS = [(0, 1), (1, 0), (10, 5), (50, 5)]  # (list_length, recall_length)


def recall_after(list_length: int, recall_length: int) -> np.ndarray:
    return np.arange(list_length + recall_length) >= list_length


def rows(count: int, **extra: float) -> list[dict[str, float]]:
    """A bound that falls from hundreds of nats, and stays."""
    return [
        {"step": 10 * i, "negative_elbo_per_frame": 80 + 470 * 0.5**i, **extra}
        for i in range(1, count + 1)
    ]


def evaluations(count: int) -> list[dict[str, float]]:
    return [
        row | {"recall_kl": 22 * 0.7**i, "last_frame_kl": 21 * 0.6**i}
        for i, row in enumerate(rows(count))
    ]


def strips(
    num_frames: int, batch: int = 2, channels: int = 1, size: tuple[int, int] = (4, 4)
) -> list[np.ndarray]:
    return list(np.random.default_rng(0).random((3, num_frames, batch, channels, *size)))


def attention(num_frames: int, heads: int, slots: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(slots), size=(num_frames, heads))


def by_gid(figure: Figure, pattern: str) -> list[Any]:
    """The artists whose gid matches, in the order they were drawn."""
    return figure.findobj(lambda artist: re.fullmatch(pattern, artist.get_gid() or "") is not None)


def spans(axes: Axes) -> list[tuple[float, float]]:
    """From where to where the recall phase is marked, in frames."""
    marks = [patch for patch in axes.patches if (patch.get_gid() or "").startswith("recall/")]
    assert all(isinstance(mark, Rectangle) for mark in marks)
    return [(mark.get_x(), mark.get_x() + mark.get_width()) for mark in marks]


def assert_reads_well(figure: Figure) -> None:
    """Lays the figure out: no two texts lie on each other, and none leaves the figure."""
    figure.draw_without_rendering()
    ticks = {
        label
        for axes in figure.axes
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    }
    texts = [
        text
        for text in figure.findobj(Text)
        if text not in ticks and text.get_visible() and text.get_text().strip()
    ]
    texts = [text for text in texts if text.get_window_extent().width > 1]
    boxes = [text.get_window_extent().padded(-1) for text in texts]
    width, height = figure.bbox.size
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{text.get_text()!r} leaves the figure"
    for (one, box), (other, other_box) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not box.overlaps(other_box), f"{one.get_text()!r} lies on {other.get_text()!r}"


# ------------------------------------------------------------------------------------------------
# Learning curves
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained, held_out", [(1, 0), (0, 1), (7, 2), (300, 30)])
def test_training_curves_draws_every_row(trained: int, held_out: int) -> None:
    metrics, evaluated = rows(trained), evaluations(held_out)
    figure = training_curves(metrics, evaluated)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    expected = {
        "training": (metrics, "negative_elbo_per_frame"),
        "held-out": (evaluated, "negative_elbo_per_frame"),
        "recall phase, mean": (evaluated, "recall_kl"),
        "last frame": (evaluated, "last_frame_kl"),
    }
    expected = {label: source for label, source in expected.items() if source[0]}
    assert lines.keys() == expected.keys()
    for label, (source, key) in expected.items():
        assert lines[label].get_xdata().tolist() == [row["step"] for row in source]
        assert lines[label].get_ydata().tolist() == [row[key] for row in source]
    if min(trained, held_out) == 1:
        assert all(line.get_marker() != "None" for line in lines.values()), "a point is not seen"
    assert_reads_well(figure)


def test_kl_axis_is_logarithmic_where_that_helps() -> None:
    assert training_curves([], evaluations(2)).axes[1].get_yscale() == "linear"
    falls = training_curves([], evaluations(10)).axes[1]
    assert falls.get_yscale() == "log"
    low, high = falls.get_ylim()
    shown = [tick for tick in falls.get_yticks() if low <= tick <= high]
    assert 3 <= len(shown) <= 8
    assert falls.yaxis.get_major_formatter()(0.3) == "0.3"


def test_kl_of_zero_is_seen() -> None:
    """It has no logarithm."""
    evaluated = [*evaluations(10), evaluations(1)[0] | {"recall_kl": 0.0}]
    axes = training_curves([], evaluated).axes[1]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] < 0


def test_a_first_fall_is_left_out_and_that_is_said() -> None:
    axes = training_curves(rows(300), []).axes[0]
    assert axes.get_ylim()[1] < 90
    assert "off scale until step" in axes.get_title("right")


def test_a_small_or_short_fall_is_shown_whole() -> None:
    flat = [{"step": t, "negative_elbo_per_frame": 80 + 0.5 * (t == 0)} for t in range(30)]
    for metrics in (rows(3), flat):
        axes = training_curves(metrics, []).axes[0]
        assert axes.get_ylim()[1] > max(row["negative_elbo_per_frame"] for row in metrics)
        assert axes.get_title("right") == ""


def test_nothing_finite_is_still_a_figure() -> None:
    nan = float("nan")
    evaluated = [
        {"step": 1, "negative_elbo_per_frame": nan, "recall_kl": nan, "last_frame_kl": nan}
    ]
    assert_reads_well(training_curves(evaluated, evaluated))


# ------------------------------------------------------------------------------------------------
# KL of each frame
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kl_per_frame_draws_lines_bands_and_the_recall_phase(layout: tuple[int, int]) -> None:
    predictable = recall_after(*layout)
    num_frames = len(predictable)
    noise = np.random.default_rng(0).random((2, num_frames))
    curves = {"introspective": 22.0 * ~predictable + noise[0], "vrnn": 20 + noise[1]}
    spread = {"vrnn": 1 + noise[0]}
    figure = kl_per_frame(curves, predictable, spread)
    (axes,) = figure.axes

    assert [line.get_label() for line in axes.lines] == list(curves)
    for line, curve in zip(axes.lines, curves.values(), strict=True):
        assert np.array_equal(line.get_xdata(), np.arange(num_frames))
        assert np.array_equal(line.get_ydata(), curve)
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    for t in range(num_frames):
        for sign in (-1, 1):
            assert (t, curves["vrnn"][t] + sign * spread["vrnn"][t]) in corners
    assert spans(axes) == ([(layout[0] - 0.5, num_frames - 0.5)] if layout[1] else [])
    assert any(text.get_text() == "recall phase" for text in axes.texts) == bool(layout[1])
    assert_reads_well(figure)


def test_kl_per_frame_title_gives_the_recall_means() -> None:
    predictable = recall_after(2, 2)
    curves = {"dnc": np.array([9, 9, 1, 2.0]), "vrnn": np.full(4, 12.0)}
    title = kl_per_frame(curves, predictable).axes[0].get_title("left")
    assert title == "KL in the recall phase: dnc 1.50 nats a frame, vrnn 12.0 nats"


def test_every_run_of_shares_is_marked_as_deep_as_it_is() -> None:
    share = np.array([0, 0.25, 0.25, 0, 1, 0.5])
    (axes,) = kl_per_frame({"dnc": np.ones(6)}, share).axes
    assert spans(axes) == [(0.5, 2.5), (3.5, 4.5), (4.5, 5.5)]
    assert [patch.get_alpha() for patch in axes.patches] == [0.25, 1, 0.5]


# ------------------------------------------------------------------------------------------------
# Frames
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [(0, 1), (1, 0), (50, 5)])
def test_frame_strips_shows_every_frame_once(layout: tuple[int, int]) -> None:
    predictable = recall_after(*layout)
    num_frames, num_given = len(predictable), layout[0] // 2
    batch = 1 if num_frames > 30 else 2
    frames = strips(num_frames, batch)
    sources = dict(zip(("given", "reconstructed", "generated"), frames, strict=True))
    figure = frame_strips(*sources.values(), predictable, num_given)
    (axes,) = figure.axes
    images = {image.get_gid(): image for image in axes.images}
    assert len(images) == len(axes.images) == 3 * batch * num_frames
    for gid, image in images.items():
        row, sequence, t = gid.split("/")
        assert np.array_equal(image.get_array(), sources[row][int(t), int(sequence), 0])
        assert image.get_clim() == (0, 1)
        faded = row == "generated" and int(t) < num_given
        assert (image.get_alpha() < 1) == faded
    assert_reads_well(figure)


@pytest.mark.parametrize("layout", [(10, 5), (50, 5)])
def test_frame_strips_marks_lie_round_their_frames(layout: tuple[int, int]) -> None:
    predictable = recall_after(*layout)
    num_frames, num_given = len(predictable), layout[0] - 2
    figure = frame_strips(*strips(num_frames, batch=1), predictable, num_given)
    images = {image.get_gid(): image for image in figure.axes[0].images}

    def frames_inside(patterns: str, row: str) -> list[int]:
        found = []
        for mark in by_gid(figure, patterns):
            box = mark.get_bbox().padded(1e-6)
            for t in range(num_frames):
                x0, x1, y1, y0 = images[f"{row}/0/{t}"].get_extent()
                if box.x0 <= x0 and x1 <= box.x1 and box.y0 <= y0 and y1 <= box.y1:
                    found.append(t)
        return found

    for row in ("given", "reconstructed", "generated"):
        assert frames_inside("recall/0/.*", row) == list(range(layout[0], num_frames))
    assert frames_inside(r"generated/0/\d+-\d+", "generated") == list(range(num_given, num_frames))
    assert frames_inside(r"generated/0/\d+-\d+", "given") == []
    for ground in by_gid(figure, "recall/.*"):
        assert ground.zorder < min(image.zorder for image in images.values()), "it hides frames"

    def gap(t: int) -> float:
        return images[f"given/0/{t + 1}"].get_extent()[0] - images[f"given/0/{t}"].get_extent()[1]

    assert gap(layout[0] - 1) > 3 * gap(layout[0] - 2)


def test_frame_strips_in_colour_of_one_sequence() -> None:
    given, reconstructed, generated = strips(4, batch=1, channels=3, size=(3, 6))
    generated = 3 * generated - 1  # clipped, not refused
    figure = frame_strips(given, reconstructed, generated, recall_after(3, 1), 0)
    images = {image.get_gid(): image for image in figure.axes[0].images}
    assert np.array_equal(images["given/0/2"].get_array(), np.moveaxis(given[2, 0], 0, -1))
    clipped = np.moveaxis(generated[2, 0], 0, -1).clip(0, 1)
    assert np.array_equal(images["generated/0/2"].get_array(), clipped)
    x0, x1, y1, y0 = images["given/0/2"].get_extent()
    assert (x1 - x0) / (y1 - y0) == pytest.approx(2)
    assert_reads_well(figure)


def test_frame_strips_shows_no_more_sequences_than_asked_for() -> None:
    figure = frame_strips(*strips(3, batch=5), recall_after(2, 1), 3, num_sequences=2)
    assert {image.get_gid().split("/")[1] for image in figure.axes[0].images} == {"0", "1"}
    assert not by_gid(figure, r"generated/0/\d+-\d+")  # all were given


# ------------------------------------------------------------------------------------------------
# Attention
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout, heads, slots",
    [((0, 1), 1, 4), ((1, 0), 1, 1), ((10, 5), 3, 6), ((50, 5), 2, 70)],
)
def test_attention_holds_weights_and_gates(layout: tuple[int, int], heads: int, slots: int) -> None:
    predictable = recall_after(*layout)
    num_frames = len(predictable)
    weights = attention(num_frames, heads, slots)
    gates = np.random.default_rng(1).random((num_frames, heads, 5))
    figure = attention_over_time(weights, predictable, gates)

    panels = [axes for axes in figure.axes if axes.get_title("left")]
    below = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == len(below) == heads
    assert len(figure.axes) == 2 * heads + 1  # and one colour bar
    shown = min(slots, num_frames)
    for head, (panel, gate) in enumerate(zip(panels, below, strict=True)):
        assert panel.get_title("left").startswith(f"head {head + 1}: ")
        (image,) = panel.images
        assert np.array_equal(image.get_array(), weights[:, head, :shown].T)
        assert image.origin == "lower"
        assert tuple(image.get_extent()) == (-0.5, num_frames - 0.5, 0.5, shown + 0.5)
        assert image.get_clim() == (0, 1)
        assert panel.get_yticks()[0] == 1
        assert panel.get_yticks()[-1] <= shown
        assert np.allclose(gate.lines[0].get_ydata(), gates[:, head].mean(-1))
        for axes in (panel, gate):
            assert spans(axes) == ([(layout[0] - 0.5, num_frames - 0.5)] if layout[1] else [])
    assert_reads_well(figure)


def test_attention_title_says_how_far_back_a_head_looks() -> None:
    predictable = recall_after(10, 5)
    weights = np.full((15, 3, 12), 1 / 12)
    weights[predictable, 1] = np.eye(12)[9]  # the slot of 10 steps ago
    weights[predictable, 2] = np.eye(12)[0]
    gates = np.full((15, 3, 2), 0.5)
    figure = attention_over_time(weights, predictable, gates)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert [title for title in titles if title] == [
        "head 1: no fixed lag in recall\nmean weight at most 0.08, gate 0.50",
        "head 2: 10 steps back in recall\nmean weight 1.00, gate 0.50",
        "head 3: 1 step back in recall\nmean weight 1.00, gate 0.50",
    ]


@pytest.mark.parametrize("heads, share", [(1, np.zeros(9)), (4, np.linspace(0, 0.9, 9))])
def test_attention_without_gates_or_a_sharp_recall_phase(heads: int, share: np.ndarray) -> None:
    figure = attention_over_time(attention(9, heads, 8), share)
    assert len(figure.axes) == heads + 1
    assert_reads_well(figure)


# ------------------------------------------------------------------------------------------------
# What holds for all
# ------------------------------------------------------------------------------------------------


def test_tensors_are_as_good_as_arrays() -> None:
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


P3, P4 = recall_after(2, 1), recall_after(3, 1)
FRAMES = np.zeros((4, 2, 1, 3, 3))
WEIGHTS = np.ones((4, 2, 3)) / 3
ROW = {"step": 1.0, "negative_elbo_per_frame": 1.0}


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
        (lambda: frame_strips(FRAMES[0], FRAMES, FRAMES, P4, 1), "given"),
        (lambda: frame_strips(*[np.zeros((4, 1, 2, 3, 3))] * 3, P4, 1), "given"),
        (lambda: frame_strips(FRAMES.astype(np.uint8), FRAMES, FRAMES, P4, 1), "given"),
        (lambda: frame_strips(FRAMES, FRAMES[1:], FRAMES, P4, 1), "reconstructed"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES[:, 1:], P4, 1), "generated"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES, P3, 1), "predictable"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES, P4, 5), "num_given"),
        (lambda: frame_strips(FRAMES, FRAMES, FRAMES, P4, 1, 0), "num_sequences"),
        (lambda: attention_over_time(WEIGHTS[0], P4), "read_weights"),
        (lambda: attention_over_time(WEIGHTS, P3), "predictable"),
        (lambda: attention_over_time(WEIGHTS, P4, WEIGHTS[..., 0]), "gates"),
        (lambda: attention_over_time(WEIGHTS, P4, WEIGHTS[:, :1]), "gates"),
    ],
)
def test_a_wrong_argument_is_named(draw: Callable[[], Figure], argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^\w+: {argument}[^\n]*$"):
        draw()


def draw_all() -> Iterator[Figure]:
    yield training_curves(rows(2), evaluations(2))
    yield kl_per_frame({"dnc": np.ones(3)}, P3)
    yield frame_strips(FRAMES, FRAMES, FRAMES, P4, 1)
    yield attention_over_time(WEIGHTS, P4)


def test_nothing_global_is_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    # Asking for the backend would import pyplot.
    before = {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}
    for figure in draw_all():
        figure.draw_without_rendering()
    save(figure, tmp_path / "last.png", dpi=20)
    assert "matplotlib.pyplot" not in sys.modules
    assert {key: mpl.rcParams[key] for key in before} == before


def test_neither_models_nor_pyro_nor_pyplot_are_imported() -> None:
    tree = ast.parse(Path(plotting.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" for alias in node.names]
        )
    }
    assert not any(name.startswith("pyro.") or "pyplot" in name for name in imported)
    ours = {name for name in imported if name.startswith("pyro_gtm")}
    assert ours == {"pyro_gtm.files.write_atomically"}


def test_save_writes_a_whole_png_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kl.png"
    path.write_bytes(b"older")
    save(kl_per_frame({"dnc": np.ones(3)}, P3), path, dpi=40)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82")
    assert list(tmp_path.iterdir()) == [path]


def test_save_that_fails_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "kl.png"
    path.write_bytes(b"older")
    figure = kl_per_frame({"dnc": np.ones(3)}, P3)
    figure.axes[0].set_title(r"$\nonsense{$")
    with pytest.raises(ValueError):
        save(figure, path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_save_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save(kl_per_frame({"dnc": np.ones(3)}, P3), tmp_path / "missing" / "kl.png")
    assert list(tmp_path.iterdir()) == []
