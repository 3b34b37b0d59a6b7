"""Memories side by side: the paper's three panels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pyro_gtm.plotting.arrays import Array, ArrayLike, as_array, as_share
from pyro_gtm.plotting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    TICKS,
    VERMILION,
    frame_axis,
    mark_recall,
    whole_numbers,
    y_from_zero,
)

PANELS = ("kl_per_frame", "last_frame_kl", "negative_elbo_per_frame")

Look = dict[str, Any]
LOOKS: dict[str, Look] = {
    "vrnn": {"color": BLACK, "marker": "P"},
    "introspective": {"color": BLUE, "marker": "o"},
    "ntm": {"color": GREEN, "marker": "^"},
    "lru": {"color": PURPLE, "marker": "D"},
    "dnc": {"color": VERMILION, "marker": "s"},
}
"""The same in every figure, whichever memories are in it."""

OTHER_LOOKS: list[Look] = [
    {"color": color, "marker": marker, "linestyle": line}
    for line in ("--", ":", "-.")
    for color, marker in ((SKY, "v"), (ORANGE, "X"), (GREY, "*"), (BLUE, "<"), (GREEN, ">"))
]
"""For other memories, in the order in which they come."""


def memories_compared(
    evaluations: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], predictable: ArrayLike
) -> Figure:
    """KL of each frame; last-frame KL, and negative bound a frame, against the training step.

    Lines are means over the seeds, bands reach from the least to the greatest of them.  The panel
    of the bound ends above where the curves are after the first tenth of the steps, and says so if
    that leaves something out.

    Source: Gemici et al. 2017, the three panels of Figures 4 to 17.

    Args:
        evaluations: for each memory a list of seeds, each the rows of held-out evaluations of one
            run, with ``step``, ``kl_per_frame`` (T values), ``last_frame_kl`` and
            ``negative_elbo_per_frame``.  Of several seeds, only the steps that all have are drawn.
        predictable: the recall phase, ``(T,)`` of bool or share.

    Raises:
        ValueError: a memory has no rows, a row lacks one of these, or a shape does not fit.
    """
    name = "memories_compared"
    if not evaluations:
        raise ValueError(f"{name}: evaluations is empty, so nothing can be drawn")
    share = as_share(name, predictable)
    lines = {memory: _by_step(name, memory, s, len(share)) for memory, s in evaluations.items()}
    looks = _looks(lines)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 3.9), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1)  # type: ignore[union-attr,call-arg]
        frames, last, bound = figure.subplots(1, 3)
        for memory, (steps, values) in lines.items():
            look = {"label": memory, **looks[memory]}
            _band(frames, np.arange(len(share)), values["kl_per_frame"][:, -1], look)
            _band(last, steps, values["last_frame_kl"], look)
            _band(bound, steps, values["negative_elbo_per_frame"], look)
        mark_recall(frames, share)
        frames.set_title(f"KL of each frame, {_when(steps[-1] for steps, _ in lines.values())}")
        frames.set_ylabel("KL (nats)")
        y_from_zero(frames, *(values["kl_per_frame"][:, -1].max(0) for _, values in lines.values()))
        frame_axis(frames, len(share))

        last.set_title("Last-frame KL")
        last.set_ylabel("KL (nats)")
        y_from_zero(last, *(values["last_frame_kl"].max(0) for _, values in lines.values()))
        bound.set_title("Negative bound")
        bound.set_ylabel("negative bound (nats a frame)")
        _leave_out_the_fall(
            bound, [(steps, values["negative_elbo_per_frame"]) for steps, values in lines.values()]
        )
        for axes in (frames, last, bound):
            axes.set_title(axes.get_title("left"), pad=18)  # above the name of the recall phase
        for axes in (last, bound):
            axes.set_xlabel("training step")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(whole_numbers(6))
            axes.tick_params(**TICKS)
        handles, labels = frames.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", title="memory")
        note = _note([len(seeds) for seeds in evaluations.values()])
        figure.supxlabel(note, fontsize=8, color=GREY, x=0.01, ha="left")
    return figure


def _by_step(
    function: str, memory: str, seeds: Sequence[Sequence[Mapping[str, Any]]], num_frames: int
) -> tuple[Array, dict[str, Array]]:
    """The steps all seeds have, ``(S,)``, and each figure at them, ``(seeds, S, ...)``."""
    where = f"evaluations[{memory!r}]"
    if not seeds or not all(len(rows) for rows in seeds):
        raise ValueError(f"{function}: {where} has a seed without evaluations, or no seeds")
    shapes = {"step": (), "kl_per_frame": (num_frames,), **dict.fromkeys(PANELS[1:], ())}
    tables = []
    for number, rows in enumerate(seeds):
        arrays = [_checked(f"{function}: {where}[{number}]", row, shapes) for row in rows]
        tables.append({int(row["step"]): row for row in arrays})
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    if not steps:
        raise ValueError(f"{function}: the seeds of {where} were evaluated at different steps")
    return np.array(steps), {
        panel: np.array([[table[step][panel] for step in steps] for table in tables])
        for panel in PANELS
    }


def _checked(
    where: str, row: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    arrays = {}
    for panel, shape in shapes.items():
        if panel not in row:
            raise ValueError(f"{where} has a row without {panel!r}")
        try:
            arrays[panel] = as_array(row[panel]).astype(float)
        except (TypeError, ValueError) as error:  # text, say, or rows of unequal length
            raise ValueError(f"{where}: {panel} must be numbers, got {row[panel]!r}") from error
        if (got := arrays[panel].shape) != shape:
            raise ValueError(f"{where}: {panel} must have the shape {shape}, got {got}")
    return arrays


def _looks(memories: Iterable[str]) -> dict[str, Look]:
    others = itertools.cycle(OTHER_LOOKS)
    return {memory: LOOKS.get(memory) or next(others) for memory in memories}


def _when(last_steps: Iterable[int]) -> str:
    steps = set(last_steps)
    return f"after {steps.pop():,} steps" if len(steps) == 1 else "at the last step of each"


def _note(seeds: Sequence[int]) -> str:
    """What lines and bands are, by how many seeds each memory has."""
    least, most = min(seeds), max(seeds)
    if most == 1:
        return "Held-out sequences.  Line: one seed."
    count = f"{most}" if least == most else f"{least} to {most}"
    return (
        f"Held-out sequences.  Line: mean of {count} seeds.  Band: from the least to the greatest "
        "of the seeds."
    )


def _band(axes: Axes, x: Array, values: Array, look: Look) -> None:
    """The mean of ``(seeds, n)`` as a line, from least to greatest as a band."""
    least, greatest = values.min(0), values.max(0)
    axes.plot(x, values.mean(0), **look | ({"marker": "None"} if len(x) > 40 else {}))
    if len(values) == 1:
        return
    if len(x) > 1:
        axes.fill_between(x, least, greatest, color=look["color"], alpha=0.18, linewidth=0)
    else:  # which would have no width
        axes.vlines(x, least, greatest, color=look["color"], alpha=0.4, linewidth=3)


def _leave_out_the_fall(axes: Axes, curves: Sequence[tuple[Array, Array]]) -> None:
    """Keep a first fall of hundreds of nats from flattening the rest; steps, ``(seeds, steps)``."""
    end = max(steps[-1] for steps, _ in curves)
    values = np.concatenate([v.ravel() for _, v in curves])
    later = np.concatenate([v[:, steps > 0.1 * end].ravel() for steps, v in curves])
    values, later = values[np.isfinite(values)], later[np.isfinite(later)]
    if not len(later):
        return
    low, high = min(values.min(), later.min()), later.max()
    room = max(0.08 * (high - low), 0.02 * abs(high), 1e-6)
    if values.max() > high + max(high - low, room):
        axes.set_ylim(low - room, high + room)
        axes.annotate(
            "↑ the first steps are off scale",
            (1.0, 1.0),
            xycoords="axes fraction",
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=GREY,
        )
