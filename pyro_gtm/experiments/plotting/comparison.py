"""Memories side by side: the paper's three panels."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pyro_gtm.experiments.plotting.arrays import Array, ArrayLike, as_array, as_shaped, as_share
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORACLE_LABEL,
    ORACLE_LOOK,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    TICKS,
    VERMILION,
    draw_oracle_kl,
    frame_axis,
    integer_ticks,
    limits_without_fall,
    mark_recall,
    number,
    say_off_scale,
    y_from_zero,
)

PANELS = ("kl_per_frame", "last_frame_kl", "negative_elbo_per_frame")

STRIP = 0.8
"""Inches that a strip of published values adds to the figure."""
FAR = 2
"""Heights of its panel from which on a published value is not drawn but written."""

Look = dict[str, Any]
LOOKS: dict[str, Look] = {
    "vrnn": {"color": BLACK, "marker": "P"},
    "introspective": {"color": BLUE, "marker": "o"},
    "ntm": {"color": GREEN, "marker": "^"},
    "lru": {"color": PURPLE, "marker": "D"},
    "dnc": {"color": VERMILION, "marker": "s"},
    "associative": {"color": SKY, "marker": "v"},
}
"""The same in every figure, whichever memories are in it."""

OTHER_LOOKS: list[Look] = [
    {"color": color, "marker": marker, "linestyle": line}
    for line in ("--", ":", "-.")
    for color, marker in ((ORANGE, "X"), (GREY, "*"), (BLUE, "<"), (GREEN, ">"), (PURPLE, "p"))
]
"""For other memories, in the order in which they come."""

BOUND_LOOK: Look = {"linestyle": (0, (4, 1, 1, 1, 1, 1)), "markerfacecolor": "white"}
"""Of one whose KL is a bound, beside that of its memory."""


def memories_compared(
    evaluations: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]],
    predictable: ArrayLike,
    oracle_kl: ArrayLike | None = None,
    published: Mapping[str, Mapping[str, float | None]] | None = None,
    bounds: Collection[str] = (),
) -> Figure:
    """KL of each frame; last-frame KL, and negative ELBO per frame, against the training step.

    Lines are means over the seeds, bands reach from the least to the greatest of them.  The panel
    of the ELBO ends above where the curves are after the first tenth of the steps, and says so if
    that leaves something out.

    Published values stand beside their panel in a strip of their own, hollow, each memory in the
    same place.  The panel makes room for one that is at most two of its heights away; one that is
    further off is given as a number with an arrow.

    Source: Gemici et al. 2017, the three panels of Figures 4 to 17.

    Args:
        evaluations: for each memory a list of seeds, each the rows of held-out evaluations of one
            run, with ``step``, ``kl_per_frame`` (T values), ``last_frame_kl`` and
            ``negative_elbo_per_frame``.  Of several seeds, only the steps that all have are drawn.
        predictable: the recall phase, ``(T,)`` of bool or share.
        oracle_kl: the KL of each frame for a perfect memory, in nats, ``(T,)``; of runs that have
            each their own, the mean, as the figure says.
        published: for each memory the paper's ``last_frame_kl`` and ``negative_elbo_per_frame``, in
            nats, None where it is not to be shown, and ``updates``, the number of steps before.
            Memories that ``evaluations`` lacks are left out.
        bounds: those whose KL is a bound on it, as with a mixture prior, called ``NAME+mixture``:
            they look like ``NAME``, but for the line, and the figure says that the two kinds are
            not to be compared.

    Raises:
        ValueError: a memory has no rows, a row lacks one of these, or a shape does not fit.
    """
    if not evaluations:
        raise ValueError("evaluations: got none, must have at least one memory")
    share = as_share(predictable)
    lines = {memory: _by_step(memory, s, len(share)) for memory, s in evaluations.items()}
    oracles = [] if oracle_kl is None else [as_shaped("oracle_kl", oracle_kl, share.shape)]
    paper = _of_paper(published or {}, evaluations)
    looks = _looks(lines, bounds)
    all_bounds, some_bounds = (test(name in bounds for name in lines) for test in (all, any))
    kl = "KL bound" if all_bounds else "KL"
    unit = "KL or bound on it (nats)" if some_bounds and not all_bounds else f"{kl} (nats)"
    with mpl.rc_context(STYLE):
        strips = sum(len(values) > 0 for values in paper.values())
        width = 12.5 + 0.6 * len(oracles) + STRIP * strips
        figure = Picture(figsize=(width, 3.9), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1)  # type: ignore[union-attr,call-arg]
        frames, last, bound = figure.subplots(1, 3)
        for memory, (steps, values) in lines.items():
            label = f"{memory}\n(KL: a bound)" if memory in bounds else memory
            look = {"label": label, **looks[memory]}
            _band(frames, np.arange(len(share)), values["kl_per_frame"][:, -1], look)
            _band(last, steps, values["last_frame_kl"], look)
            _band(bound, steps, values["negative_elbo_per_frame"], look)
        for curve in oracles:
            draw_oracle_kl(frames, curve)
            last.axhline(curve[-1], label=ORACLE_LABEL, gid="oracle_kl", **ORACLE_LOOK)
        mark_recall(frames, share)
        frames.set_title(f"{kl} of each frame, {_when(steps[-1] for steps, _ in lines.values())}")
        frames.set_ylabel(unit)
        kls = (values["kl_per_frame"][:, -1].max(0) for _, values in lines.values())
        y_from_zero(frames, *kls, *oracles)
        frame_axis(frames, len(share))

        last.set_title(f"Last-frame {kl}")
        last.set_ylabel(unit)
        kls = (values["last_frame_kl"].max(0) for _, values in lines.values())
        y_from_zero(last, *kls, *(curve[-1:] for curve in oracles))
        bound.set_title("Negative ELBO")
        bound.set_ylabel("negative ELBO (nats per frame)")
        elbos = [(steps, values["negative_elbo_per_frame"]) for steps, values in lines.values()]
        _leave_out_the_fall(bound, elbos)
        for axes in (last, bound):
            axes.set_xlabel("training step")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(integer_ticks(6))
            axes.ticklabel_format(axis="y", useOffset=False)
            axes.tick_params(**TICKS)
        for axes, panel in ((last, PANELS[1]), (bound, PANELS[2])):
            if paper[panel]:
                _paper_strip(axes, paper[panel], looks)
        _say_what_is_off_scale(bound, elbos)
        for axes in (frames, last, bound):
            axes.set_title(axes.get_title("left"), pad=18)  # above the name of the recall phase
        handles, labels = frames.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", title="memory")
        note = _note([len(seeds) for seeds in evaluations.values()])
        if oracle_kl is not None:
            note += "  Oracle KL: mean over these runs, each of which has its own."
        if some_bounds:
            note += "\nThe bound of a mixture prior is not to be compared with a Gaussian's KL."
        figure.supxlabel(note, fontsize=8, color=GREY, x=0.01, ha="left")
    return figure


def _by_step(
    memory: str, seeds: Sequence[Sequence[Mapping[str, Any]]], num_frames: int
) -> tuple[Array, dict[str, Array]]:
    """The steps all seeds have, ``(S,)``, and each metric at them, ``(seeds, S, ...)``."""
    where = f"evaluations[{memory!r}]"
    if not seeds or not all(len(rows) for rows in seeds):
        raise ValueError(f"{where}: got no seeds or one without rows, must have some")
    shapes = {"step": (), "kl_per_frame": (num_frames,), **dict.fromkeys(PANELS[1:], ())}
    tables = []
    for seed, rows in enumerate(seeds):
        arrays = [_checked(f"{where}[{seed}]", row, shapes) for row in rows]
        tables.append({int(row["step"]): row for row in arrays})
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    if not steps:
        raise ValueError(f"{where}: got seeds without a common step, must have at least one")
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
            raise ValueError(f"{where}: got a row without {panel!r}, must have {', '.join(shapes)}")
        try:
            arrays[panel] = as_array(row[panel]).astype(float)
        except (TypeError, ValueError) as error:  # text, say, or rows of unequal length
            raise ValueError(f"{where}[{panel!r}]: got {row[panel]!r}, must be numbers") from error
        if (got := arrays[panel].shape) != shape:
            raise ValueError(f"{where}[{panel!r}]: got shape {got}, must be {shape}")
    return arrays


def _of_paper(
    published: Mapping[str, Mapping[str, float | None]], memories: Iterable[str]
) -> dict[str, dict[str, tuple[float, int]]]:
    """Each memory's value for each panel, where there is one, with the number of updates before."""
    panels: dict[str, dict[str, tuple[float, int]]] = {panel: {} for panel in PANELS[1:]}
    for memory, row in published.items():
        where = f"published[{memory!r}]"
        for key in (*panels, "updates"):
            if key not in row:
                raise ValueError(f"{where}: got no {key!r}, must have {', '.join(panels)}, updates")
        updates = row["updates"]
        if not isinstance(updates, Integral) or updates < 1:
            raise ValueError(f"{where}['updates']: got {updates!r}, must be a positive integer")
        for panel in panels:
            value = row[panel]
            if value is None:
                continue
            if not isinstance(value, Real) or not np.isfinite(value):
                raise ValueError(
                    f"{where}[{panel!r}]: got {value!r}, must be a finite number or None"
                )
            panels[panel][memory] = float(value), int(updates)
    return {
        panel: {memory: values[memory] for memory in memories if memory in values}
        for panel, values in panels.items()
    }


def _looks(memories: Iterable[str], bounds: Collection[str]) -> dict[str, Look]:
    others = itertools.cycle(OTHER_LOOKS)
    looks = {}
    for memory in memories:
        look = LOOKS.get(memory.removesuffix("+mixture")) or next(others)
        looks[memory] = look | (BOUND_LOOK if memory in bounds else {})
    return looks


def _when(last_steps: Iterable[int]) -> str:
    steps = set(last_steps)
    return f"after {steps.pop():,} steps" if len(steps) == 1 else "at the last step of each"


def _note(seeds: Sequence[int]) -> str:
    """The meaning of lines and bands, by the number of seeds of each memory."""
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
    """Keep the first tenth of the steps from flattening the rest; steps, ``(seeds, steps)``."""
    end = max(steps[-1] for steps, _ in curves)
    values = np.concatenate([v.ravel() for _, v in curves])
    later = np.concatenate([v[:, steps > 0.1 * end].ravel() for steps, v in curves])
    if (limits := limits_without_fall(values, later)) is not None:
        axes.set_ylim(*limits)


def _say_what_is_off_scale(axes: Axes, curves: Sequence[tuple[Array, Array]]) -> None:
    values = np.concatenate([v.ravel() for _, v in curves])
    if np.any(values[np.isfinite(values)] > axes.get_ylim()[1]):
        say_off_scale(axes, "the first steps are off scale")


def _paper_strip(
    axes: Axes, values: Mapping[str, tuple[float, int]], looks: Mapping[str, Look]
) -> None:
    """The paper's values beside a panel, which makes room for those that are near it."""
    low, high = axes.get_ylim()
    reach = FAR * (high - low)
    near = [value for value, _ in values.values() if low - reach <= value <= high + reach]
    room = 0.05 * (max([high, *near]) - min([low, *near]))
    axes.set_ylim(
        min([low, *(value - room for value in near)]),
        max([high, *(value + room for value in near)]),
    )
    strip = axes.inset_axes((1.04, 0, 0.03 + 0.045 * len(values), 1), sharey=axes)
    for column, (memory, (value, _)) in enumerate(values.items()):
        colour, gid = looks[memory]["color"], f"paper/{memory}"
        if value in near:
            strip.plot(
                [column],
                [value],
                color=colour,
                marker=looks[memory]["marker"],
                markersize=6,
                markeredgewidth=1.2,
                markerfacecolor="none",
                linestyle="None",
                gid=gid,
            )
            continue
        strip.text(  # on its side, so that the arrow points up or down
            column,
            0.98 if value > high else 0.02,
            f"{number(value)} →" if value > high else f"← {number(value)}",
            transform=strip.get_xaxis_transform(),
            rotation=90,
            ha="center",
            va="top" if value > high else "bottom",
            fontsize=8,
            color=colour,
            gid=gid,
        )
    strip.set_xlim(-0.8, len(values) - 0.2)
    strip.set_xticks([])
    strip.tick_params(left=False, labelleft=False)
    strip.spines["bottom"].set_visible(False)
    strip.annotate(
        f"paper, after\n{_updates(updates for _, updates in values.values())}",
        (0, 0),
        xycoords="axes fraction",
        xytext=(2, -4),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=GREY,
    )


def _updates(counts: Iterable[int]) -> str:
    """One number, or from which to which."""
    names = [EngFormatter(sep="")(count) for count in sorted(set(counts))]
    return " to ".join(dict.fromkeys((names[0], names[-1]))) + " updates"
