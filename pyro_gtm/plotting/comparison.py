"""Memories side by side: the paper's three panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pyro_gtm.plotting.arrays import Array, ArrayLike, as_share
from pyro_gtm.plotting.style import (
    STYLE,
    TICKS,
    frame_axis,
    mark_recall,
    whole_numbers,
    y_from_zero,
)

PANELS = ("kl_per_frame", "last_frame_kl", "negative_elbo_per_frame")


def memories_compared(
    evaluations: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], predictable: ArrayLike
) -> Figure:
    """KL of each frame; last-frame KL, and negative bound a frame, against the training step.

    Lines are means over the seeds, bands reach from the least to the greatest of them.

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
    lines = {memory: _by_step(name, memory, seeds) for memory, seeds in evaluations.items()}
    for memory, (_, values) in lines.items():
        if values["kl_per_frame"].shape[-1] != len(share):
            raise ValueError(
                f"{name}: kl_per_frame of {memory!r} must have T = {len(share)} values, "
                f"got {values['kl_per_frame'].shape[-1]}"
            )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 3.7), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1)  # type: ignore[union-attr,call-arg]
        frames, last, bound = figure.subplots(1, 3)
        for memory, (steps, values) in lines.items():
            _band(frames, np.arange(len(share)), values["kl_per_frame"][:, -1], memory)
            _band(last, steps, values["last_frame_kl"], memory)
            _band(bound, steps, values["negative_elbo_per_frame"], memory)
        mark_recall(frames, share)
        frames.set_title("KL of each frame, after training", pad=18)
        frames.set_ylabel("KL (nats)")
        y_from_zero(frames, *(values["kl_per_frame"][:, -1].max(0) for _, values in lines.values()))
        frame_axis(frames, len(share))

        last.set_title("Last-frame KL", pad=18)
        last.set_ylabel("KL (nats)")
        y_from_zero(last, *(values["last_frame_kl"].max(0) for _, values in lines.values()))
        bound.set_title("Negative bound", pad=18)
        bound.set_ylabel("negative bound (nats a frame)")
        for axes in (last, bound):
            axes.set_xlabel("training step")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(whole_numbers(6))
            axes.tick_params(**TICKS)
        handles, labels = frames.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center")
    return figure


def _by_step(
    function: str, memory: str, seeds: Sequence[Sequence[Mapping[str, Any]]]
) -> tuple[Array, dict[str, Array]]:
    """The steps all seeds have, ``(S,)``, and each figure at them, ``(seeds, S, ...)``."""
    tables = [{row["step"]: row for row in rows} for rows in seeds]
    if not tables or not all(tables):
        raise ValueError(f"{function}: {memory!r} has a seed without evaluations, or no seeds")
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    if not steps:
        raise ValueError(f"{function}: the seeds of {memory!r} were evaluated at different steps")
    for table in tables:
        for panel in PANELS:
            if any(panel not in table[step] for step in steps):
                raise ValueError(f"{function}: a row of {memory!r} lacks {panel!r}")
    return np.array(steps), {
        panel: np.array([[table[step][panel] for step in steps] for table in tables], dtype=float)
        for panel in PANELS
    }


def _band(axes: Axes, x: Array, values: Array, label: str) -> None:
    """The mean of ``(seeds, n)`` as a line, from least to greatest as a band."""
    (line,) = axes.plot(x, values.mean(0), label=label)
    if len(x) > 40:
        line.set_marker("None")
    if len(values) > 1:
        axes.fill_between(
            x, values.min(0), values.max(0), color=line.get_color(), alpha=0.18, linewidth=0
        )
