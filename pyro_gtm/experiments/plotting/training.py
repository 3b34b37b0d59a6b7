"""Learning curves: the negative ELBO, and the KL of frames that can be recalled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pyro_gtm.experiments.plotting.arrays import Array
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    STYLE,
    TICKS,
    VERMILION,
    integer_ticks,
    limits_without_fall,
    nats,
    say_off_scale,
    y_of_kl,
)


def training_curves(
    metrics: Sequence[Mapping[str, float]],
    evaluations: Sequence[Mapping[str, float]],
    kl: str = "KL",
) -> Figure:
    """The negative ELBO and the recall KL, in nats, against the training step.

    The left panel ends above where the curves are after the first tenth of the steps, and says so
    if that leaves something out.  The right panel has a logarithmic axis where its values span a
    factor of ten or more.  Values that are not finite are left out.

    Args:
        metrics: rows of training, with ``step`` and ``negative_elbo_per_frame``.
        evaluations: rows of held-out sequences, with ``step``, ``negative_elbo_per_frame``,
            ``recall_kl`` and ``last_frame_kl``; may be empty.
        kl: what the last two are called, ``"KL bound"`` where they are bounds on it, as for a
            mixture prior.

    Raises:
        ValueError: a row lacks one of these, or there are no rows at all.
    """
    if not metrics and not evaluations:
        raise ValueError("metrics, evaluations: got no rows, must have at least one")
    bound = "negative_elbo_per_frame"
    trained = _columns("metrics", metrics, ("step", bound))
    held_out = _columns("evaluations", evaluations, ("step", bound, "recall_kl", "last_frame_kl"))
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(9.6, 3.5), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12)  # type: ignore[union-attr,call-arg]
        left, right = figure.subplots(1, 2)
        _bound_panel(left, trained["step"], trained[bound], held_out["step"], held_out[bound])
        _recall_panel(right, held_out["step"], held_out["recall_kl"], held_out["last_frame_kl"], kl)
        for axes in (left, right):
            axes.set_xlabel("training step")
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(integer_ticks(6))
            axes.tick_params(**TICKS)
            axes.set_title(axes.get_title("left"), pad=18)  # above what is off scale
        right.set_xlim(left.get_xlim())
    return figure


def _columns(
    argument: str, rows: Sequence[Mapping[str, float]], keys: Sequence[str]
) -> dict[str, Array]:
    """Each key's values over the rows, ``(rows,)``."""
    for index, row in enumerate(rows):
        for key in keys:
            if key not in row:
                raise ValueError(
                    f"{argument}[{index}]: got no {key!r}, must have {', '.join(keys)}"
                )
    return {key: np.array([row[key] for row in rows], dtype=float) for key in keys}


def _bound_panel(
    axes: Axes, trained_at: Array, trained: Array, held_out_at: Array, held_out: Array
) -> None:
    """Two lines, training and held-out; all arguments ``(rows,)``."""
    if len(trained):
        (line,) = axes.plot(trained_at, trained, color=SKY, label="training", linewidth=1.0)
        line.set_marker("o" if len(trained) == 1 else "None")
    if len(held_out):
        axes.plot(held_out_at, held_out, color=BLUE, label="held-out", **_markers(len(held_out)))
    axes.set_title(
        "Negative ELBO" + (_latest("held-out", held_out) or _latest("training", trained))
    )
    axes.set_ylabel("negative ELBO (nats per frame)")
    _leave_out_the_fall(
        axes, np.concatenate([trained_at, held_out_at]), np.concatenate([trained, held_out])
    )
    axes.legend(loc="lower left")  # a bound falls: that corner is free


def _recall_panel(axes: Axes, steps: Array, recall: Array, last: Array, kl: str) -> None:
    """Two lines, the whole recall phase and its last frame; all arguments ``(rows,)``."""
    axes.set_title(f"Recall {kl}" + _latest("held-out", recall))
    axes.set_ylabel(f"{kl} (nats per frame)")
    if not len(steps):
        axes.text(
            0.5,
            0.5,
            "no held-out evaluation yet",
            transform=axes.transAxes,
            ha="center",
            color=GREY,
        )
        axes.set_yticks([])
        return
    axes.plot(steps, recall, color=ORANGE, label=f"recall {kl}", **_markers(len(steps)))
    axes.plot(
        steps, last, color=VERMILION, label="last frame", linestyle="--", **_markers(len(steps))
    )
    y_of_kl(axes, recall, last)
    axes.legend(loc="best")


def _latest(whose: str, values: Array) -> str:
    """The last of some values ``(rows,)`` for a title, or nothing."""
    return f", {whose}: {nats(values[-1])}" if len(values) and np.isfinite(values[-1]) else ""


def _markers(count: int) -> dict[str, Any]:
    """Points on a line that has few, none on one that has many."""
    return {"marker": "o" if count <= 40 else "None"}


def _leave_out_the_fall(axes: Axes, steps: Array, values: Array) -> None:
    """Keep a first fall of hundreds of nats from flattening the rest of the curves."""
    steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
    if len(values) < 20:
        return
    limits = limits_without_fall(values, values[steps > steps.min() + 0.1 * np.ptp(steps)])
    if limits is not None:
        axes.set_ylim(*limits)
        below = steps[values > limits[1]].max()
        say_off_scale(axes, f"off scale until step {EngFormatter(sep='')(below)}")
