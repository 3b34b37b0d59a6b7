"""Memories side by side: means, bands from the least to the greatest, and one look a memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import memories_compared
from pyro_gtm.experiments.plotting.style import ORACLE_LABEL

SHARE = np.arange(5) >= 3
MEMORIES = ["dnc", "introspective", "lru", "ntm", "vrnn", "associative"]

Rows = list[dict[str, Any]]


def rows(steps: Sequence[int], level: float = 1.0, fall: float = 0.0) -> Rows:
    """KL at ``level`` in recall; a bound that falls by ``fall`` nats at first."""
    return [
        {
            "step": step,
            "kl_per_frame": [20.0, 21.0, 22.0, level, 2 * level],
            "last_frame_kl": 2 * level,
            "negative_elbo_per_frame": 90 + level + fall * 0.5 ** (step / 50),
            "recall_kl": None,
        }
        for step in steps
    ]


def lines_of(axes: Axes) -> dict[str, Any]:
    return {str(line.get_label()): line for line in axes.lines}


def note_of(figure: Figure) -> str:
    return figure.get_supxlabel()


@pytest.mark.parametrize("seeds, count", [(1, 1), (1, 6), (3, 1), (3, 10), (8, 60)])
def test_means_and_bands_of_every_seed_are_drawn(
    seeds: int,
    count: int,
    assert_reads_well: Callable[[Figure], None],
    spans: Callable[[Axes], list[tuple[float, float]]],
) -> None:
    steps = [50 * (1 + number) for number in range(count)]
    evaluations = {
        memory: [rows(steps, 1 + index + seed**2) for seed in range(seeds)]
        for index, memory in enumerate(MEMORIES)
    }
    figure = memories_compared(evaluations, SHARE)
    frames, last, bound = figure.axes
    assert spans(frames) == [(2.5, 4.5)]
    for axes, of_run, x in (
        (frames, lambda run: run[-1]["kl_per_frame"], [0, 1, 2, 3, 4]),
        (last, lambda run: [row["last_frame_kl"] for row in run], steps),
        (bound, lambda run: [row["negative_elbo_per_frame"] for row in run], steps),
    ):
        lines = lines_of(axes)
        assert list(lines) == MEMORIES
        for memory, runs in evaluations.items():
            assert lines[memory].get_xdata().tolist() == x
            values = np.array([of_run(run) for run in runs])
            np.testing.assert_allclose(lines[memory].get_ydata(), values.mean(0))
        assert len(axes.collections) == (len(MEMORIES) if seeds > 1 else 0)
        for band, runs in zip(axes.collections, evaluations.values(), strict=False):
            corners = np.concatenate([path.vertices for path in band.get_paths()])
            values = np.array([of_run(run) for run in runs])
            assert corners[:, 1].min() == pytest.approx(values.min())
            assert corners[:, 1].max() == pytest.approx(values.max())
        if count == 1:
            assert all(line.get_marker() != "None" for line in lines.values()), "a point unseen"
        low, high = axes.get_ylim()
        assert low < min(line.get_ydata().min() for line in lines.values())
        assert high > max(line.get_ydata().max() for line in lines.values())
    assert_reads_well(figure)


def test_what_lines_and_bands_are_is_said() -> None:
    one, three = [rows([1])], [rows([1])] * 3
    assert note_of(memories_compared({"dnc": one}, SHARE)).endswith("Line: one seed.")
    note = note_of(memories_compared({"dnc": three, "ntm": three}, SHARE))
    assert "mean of 3 seeds.  Band: from the least to the greatest" in note
    assert "mean of 1 to 3 seeds." in note_of(memories_compared({"dnc": one, "ntm": three}, SHARE))


def test_a_memory_looks_the_same_in_every_figure() -> None:
    def looks(memories: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        axes = memories_compared({name: [rows([1])] for name in memories}, SHARE).axes[0]
        return {
            name: (line.get_color(), line.get_marker(), line.get_linestyle())
            for name, line in lines_of(axes).items()
        }

    whole = looks(MEMORIES)
    assert len({color for color, *_ in whole.values()}) == 6
    for some in (["vrnn"], ["vrnn", "ntm"], MEMORIES[::-1]):
        assert looks(some) == {name: whole[name] for name in some}
    own = [f"my own {number}" for number in range(12)]
    everyone = looks([*own, *MEMORIES])
    assert {name: everyone[name] for name in MEMORIES} == whole
    assert len(set(everyone.values())) == 18, "no two look the same"


def test_a_bound_is_told_from_a_kl(assert_reads_well: Callable[[Figure], None]) -> None:
    both = {"dnc": [rows([1, 2])], "dnc+mixture": [rows([1, 2])]}
    figure = memories_compared(both, SHARE, bounds=["dnc+mixture"])
    assert_reads_well(figure)
    frames, last, elbo = figure.axes
    gaussian, mixture = lines_of(frames).values()
    assert list(lines_of(frames)) == ["dnc", "dnc+mixture\n(KL: a bound)"]
    assert gaussian.get_color() == mixture.get_color()
    assert gaussian.get_linestyle() != mixture.get_linestyle()
    assert [axes.get_ylabel() for axes in (frames, last)] == ["KL or bound on it (nats)"] * 2
    assert "bound" not in elbo.get_ylabel()
    assert "not to be compared" in note_of(figure)

    figure = memories_compared({"dnc+mixture": [rows([1, 2])]}, SHARE, bounds=["dnc+mixture"])
    frames, last, _ = figure.axes
    assert [axes.get_ylabel() for axes in (frames, last)] == ["KL bound (nats)"] * 2
    assert last.get_title("left") == "Last-frame KL bound"
    assert "bound" not in note_of(memories_compared({"dnc": [rows([1, 2])]}, SHARE))


def test_legend_stands_outside_and_the_last_step_in_the_title() -> None:
    figure = memories_compared({"dnc": [rows([500, 2500])], "ntm": [rows([2500])]}, SHARE)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["dnc", "ntm"]
    assert legend.get_window_extent().x0 > max(axes.bbox.x1 for axes in figure.axes)
    assert figure.axes[0].get_title("left") == "KL of each frame, after 2,500 steps"
    figure = memories_compared({"dnc": [rows([500])], "ntm": [rows([2500])]}, SHARE)
    assert figure.axes[0].get_title("left") == "KL of each frame, at the last step of each"


def test_only_steps_of_all_seeds_are_drawn() -> None:
    seeds = [rows([10, 20, 30]), rows([20, 30, 40], 3.0)]
    _, last, _ = memories_compared({"dnc": seeds}, SHARE).axes
    (line,) = last.lines
    assert line.get_xdata().tolist() == [20, 30]
    assert line.get_ydata().tolist() == [4.0, 4.0]


def test_a_first_fall_is_left_out_and_that_is_said(
    assert_reads_well: Callable[[Figure], None],
) -> None:
    steps = range(50, 2501, 50)
    evaluations = {"dnc": [rows(steps, 1, 500)], "vrnn": [rows(steps, 9, 500)]}
    figure = memories_compared(evaluations, SHARE)
    bound = figure.axes[2]
    assert bound.get_ylim()[1] < 150
    assert [text.get_text() for text in bound.texts] == ["↑ the first steps are off scale"]
    assert_reads_well(figure)


def test_what_is_not_finite_is_left_out(assert_reads_well: Callable[[Figure], None]) -> None:
    evaluated = rows([1, 2])
    evaluated[0] |= {"last_frame_kl": float("nan"), "negative_elbo_per_frame": float("inf")}
    assert_reads_well(memories_compared({"dnc": [evaluated], "ntm": [rows([1, 2])]}, SHARE))
    for row in evaluated:
        row |= {"last_frame_kl": float("nan"), "negative_elbo_per_frame": float("nan")}
    assert_reads_well(memories_compared({"dnc": [evaluated]}, SHARE))


def test_the_oracle_kl_is_drawn_in_both_panels_of_kl(
    assert_reads_well: Callable[[Figure], None],
) -> None:
    oracle_kl = np.array([20.0, 20.0, 20.0, 30.0, 3.0])
    figure = memories_compared({name: [rows([1, 2])] for name in MEMORIES}, SHARE, oracle_kl)
    frames, last, bound = figure.axes
    assert lines_of(frames)[ORACLE_LABEL].get_ydata().tolist() == oracle_kl.tolist()
    across = lines_of(last)[ORACLE_LABEL]
    assert set(across.get_ydata()) == {3.0}
    assert across.get_xdata() == [0, 1], "in shares of the panel"
    assert list(lines_of(bound)) == MEMORIES
    for axes, highest in ((frames, 30), (last, 3)):
        assert axes.get_ylim()[1] > highest
        assert lines_of(axes)[ORACLE_LABEL].get_linestyle() == "--"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*MEMORIES, ORACLE_LABEL]
    assert_reads_well(figure)


def published(kl: float | None, bound: float | None, updates: int = 10**6) -> dict[str, Any]:
    return {"last_frame_kl": kl, "negative_elbo_per_frame": bound, "updates": updates}


def strips_of(figure: Figure) -> list[Axes | None]:
    """The strips beside the panels of the last frame and of the bound."""
    return [next(iter(axes.child_axes), None) for axes in figure.axes[1:]]


@pytest.mark.parametrize("memories", [MEMORIES, ["ntm"]])
def test_published_values_stand_beside_ours(
    memories: list[str], assert_reads_well: Callable[[Figure], None]
) -> None:
    """All of them on the panel's axis, hollow, in the memory's look, none behind another."""
    paper = {name: published(1.5 * k, 88 + k) for k, name in enumerate(MEMORIES)}
    evaluations = {name: [rows(range(50, 501, 50), 2 + k)] for k, name in enumerate(memories)}
    figure = memories_compared(evaluations, SHARE, np.zeros(5), paper)
    assert_reads_well(figure)
    for strip, axes, panel in zip(
        strips_of(figure),
        figure.axes[1:],
        ("last_frame_kl", "negative_elbo_per_frame"),
        strict=True,
    ):
        assert strip is not None
        assert strip.get_window_extent().x0 > axes.get_window_extent().x1
        assert strip.get_ylim() == axes.get_ylim()
        marks = {str(mark.get_gid()): mark for mark in strip.lines}
        assert list(marks) == [f"paper/{name}" for name in memories]
        places = [mark.get_xdata()[0] for mark in marks.values()]
        assert len(set(places)) == len(places)
        low, high = axes.get_ylim()
        for name in memories:
            mark = marks[f"paper/{name}"]
            assert mark.get_ydata() == [paper[name][panel]]
            assert low < paper[name][panel] < high
            assert mark.get_markerfacecolor() == "none"
            ours = lines_of(axes)[name]
            assert (mark.get_color(), mark.get_marker()) == (ours.get_color(), ours.get_marker())
        assert [text.get_text() for text in strip.texts] == ["paper, after\n1M updates"]


@pytest.mark.parametrize("level, distant, written", [(-3000, 14740, "→"), (3000, -123.4, "←")])
def test_a_published_value_far_off_is_written_and_flattens_nothing(
    level: float, distant: float, written: str, assert_reads_well: Callable[[Figure], None]
) -> None:
    """Bounds may be negative, where the likelihood is a density."""
    evaluations = {name: [rows(range(50, 501, 50))] for name in MEMORIES}
    for k, runs in enumerate(evaluations.values()):
        for row in runs[0]:
            row["negative_elbo_per_frame"] = level + k - row["step"] / 100
    paper = {name: published(None, distant) for name in MEMORIES} | {
        "dnc": published(None, level + 3)
    }
    figure = memories_compared(evaluations, SHARE, None, paper)
    assert_reads_well(figure)
    bound, (_, strip) = figure.axes[2], strips_of(figure)
    assert strip is not None
    assert [mark.get_gid() for mark in strip.lines] == ["paper/dnc"], "this one is near"
    texts = {text.get_gid(): text for text in strip.texts if text.get_gid()}
    assert list(texts) == [f"paper/{name}" for name in MEMORIES[1:]]
    for text in texts.values():
        assert text.get_text() == {"→": "14,740 →", "←": "← −123.4"}[written]
        box, around = text.get_window_extent(), strip.get_window_extent()
        assert around.y0 <= box.y0 and box.y1 <= around.y1
        middle = (around.y0 + around.y1) / 2
        assert box.y0 > middle if written == "→" else box.y1 < middle
    ours = np.concatenate([line.get_ydata() for line in bound.lines])
    low, high = bound.get_ylim()
    assert np.ptp(ours) > 0.25 * (high - low)
    bound_labels = [label.get_text() for label in bound.get_yticklabels()]
    assert not bound.yaxis.get_offset_text().get_text(), "ticks are whole values"
    assert any(label.startswith("−") for label in bound_labels) == (level < 0)


def test_what_is_not_published_is_not_drawn() -> None:
    evaluations = {"dnc": [rows([1, 2])], "mine": [rows([1, 2])]}
    paper = {
        "dnc": published(None, 91.0, 350_000),
        "ntm": published(2.0, 92.0),
        "mine": published(None, 92.0, 500_000),
    }
    last, bound = strips_of(memories_compared(evaluations, SHARE, None, paper))
    assert last is None
    assert bound is not None
    assert [mark.get_gid() for mark in bound.lines] == ["paper/dnc", "paper/mine"]
    assert bound.texts[0].get_text() == "paper, after\n350k to 500k updates"
    assert strips_of(memories_compared(evaluations, SHARE, None, {})) == [None, None]
    others = {"ntm": paper["ntm"], "dnc": published(None, None)}
    assert strips_of(memories_compared(evaluations, SHARE, None, others)) == [None, None]


def test_a_fall_that_published_values_make_room_for_is_not_called_off_scale() -> None:
    evaluated = rows(range(50, 2501, 50))
    for index, row in enumerate(evaluated):
        row["negative_elbo_per_frame"] = 97.0 if index == 0 else 91.0 + index % 3
    for paper, texts in ((93.0, ["↑ the first steps are off scale"]), (97.5, [])):
        figure = memories_compared({"dnc": [evaluated]}, SHARE, None, {"dnc": published(1, paper)})
        assert [text.get_text() for text in figure.axes[2].texts] == texts


@pytest.mark.parametrize("level", [80.0, 3000.0, -3000.0])
def test_a_fall_is_left_out_at_any_level(level: float) -> None:
    evaluated = rows(range(50, 2501, 50))
    for index, row in enumerate(evaluated):
        row["negative_elbo_per_frame"] = level + (50.0 if index == 0 else index % 3)
    bound = memories_compared({"dnc": [evaluated]}, SHARE).axes[2]
    low, high = bound.get_ylim()
    assert level - 1 < low < level and level + 2 < high < level + 3


def without(key: str) -> Rows:
    return [{name: value for name, value in row.items() if name != key} for row in rows([1])]


@pytest.mark.parametrize(
    "evaluations, words",
    [
        ({}, "evaluations: got none"),
        ({"dnc": []}, r"evaluations\['dnc'\]: got no seeds or one without rows"),
        ({"dnc": [rows([1]), []]}, r"evaluations\['dnc'\]: got no seeds or one without rows"),
        ({"dnc": [rows([1]), rows([2])]}, r"evaluations\['dnc'\]: got seeds without a common step"),
        ({"dnc": [without("step")]}, r"\['dnc'\]\[0\]: got a row without 'step'"),
        ({"dnc": [rows([1]), without("kl_per_frame")]}, r"\['dnc'\]\[1\]: .* 'kl_per_frame'"),
        ({"dnc": [without("last_frame_kl")]}, "without 'last_frame_kl'"),
        ({"dnc": [[rows([1])[0] | {"kl_per_frame": [1.0]}]]}, r"got shape \(1,\), must be \(5,\)"),
        ({"dnc": [[rows([1])[0] | {"kl_per_frame": 1.0}]]}, r"got shape \(\), must be \(5,\)"),
        (
            {"dnc": [[rows([1])[0] | {"kl_per_frame": [[1], [1, 2]]}]]},
            r"got \[\[1\], \[1, 2\]\], must be numbers",
        ),
        (
            {"dnc": [[rows([1])[0] | {"last_frame_kl": [1.0, 2.0]}]]},
            r"_kl'\]: got .*\(2,\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(evaluations: dict[str, list[Rows]], words: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{words}[^\n]*$"):
        memories_compared(evaluations, SHARE)


@pytest.mark.parametrize(
    "oracle_kl, paper, words",
    [
        (np.zeros(4), None, r"oracle_kl: got shape \(4,\), must be \(5,\)"),
        (np.zeros((5, 1)), None, r"oracle_kl: got shape \(5, 1\), must be \(5,\)"),
        (None, {"dnc": {"updates": 1}}, r"published\['dnc'\]: got no 'last_frame_kl'"),
        (
            None,
            {"ntm": {**published(1, 1), "updates": 0}},
            r"\['ntm'\]\['updates'\]: got 0",
        ),
        (
            None,
            {"dnc": {**published(1, 1), "updates": 2.5}},
            r"'updates'\]: got 2\.5",
        ),
        (
            None,
            {"dnc": published(float("nan"), 1)},
            r"\['last_frame_kl'\]: got nan",
        ),
        (None, {"dnc": {**published(1, 1), "last_frame_kl": "1"}}, r"\['last_frame_kl'\]: got '1'"),
        (None, {"dnc": published(1, float("inf"))}, "got inf, must be a finite"),
    ],
)
def test_what_does_not_fit_beside_ours_is_named(oracle_kl: Any, paper: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{words}[^\n]*$"):
        memories_compared({"dnc": [rows([1])]}, SHARE, oracle_kl, paper)
