"""The KL of each frame."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting.arrays import Array, ArrayLike, as_shaped, as_share, is_graded
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import (
    STYLE,
    draw_oracle_kl,
    frame_axis,
    mark_recall,
    nats,
    y_from_zero,
)


def kl_per_frame(
    curves: Mapping[str, ArrayLike],
    predictable: ArrayLike,
    spread: Mapping[str, ArrayLike] | None = None,
    oracle_kl: ArrayLike | None = None,
    kl: str = "KL",
) -> Figure:
    """KL[q(z_t) ‖ p(z_t)] of each frame, in nats: the error of a model's prediction.

    Args:
        curves: for each name (a memory, say) the KL of each frame, ``(T,)``.
        predictable: the recall phase, ``(T,)`` of bool or share.
        spread: for some of the names half the height of a band round the curve, in nats, ``(T,)``,
            such as the standard deviation over sequences.
        oracle_kl: the KL of each frame for a perfect memory, in nats, ``(T,)``.
        kl: what all of these are called, ``"KL bound"`` where they are bounds on it, as for a
            mixture prior.

    Raises:
        ValueError: a shape does not fit, or ``spread`` has a name that ``curves`` lacks.
    """
    if not curves:
        raise ValueError("curves: got none, must have at least one")
    share = as_share(predictable)
    lines = {label: as_shaped(f"curves[{label!r}]", c, share.shape) for label, c in curves.items()}
    bands = {}
    for label, band in (spread or {}).items():
        if label not in lines:
            raise ValueError(f"spread: got {label!r}, must have names of curves only")
        bands[label] = as_shaped(f"spread[{label!r}]", band, share.shape)
    oracles = [] if oracle_kl is None else [as_shaped("oracle_kl", oracle_kl, share.shape)]

    num_frames = len(share)
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(min(5.5 + 0.06 * num_frames, 8.5), 3.6), layout="constrained")
        axes = figure.add_subplot()
        for label, curve in lines.items():
            (line,) = axes.plot(np.arange(num_frames), curve, label=label)
            if label in bands:
                axes.fill_between(
                    np.arange(num_frames),
                    curve - bands[label],
                    curve + bands[label],
                    color=line.get_color(),
                    alpha=0.18,
                    linewidth=0,
                )
        for curve in oracles:
            draw_oracle_kl(axes, curve)
        mark_recall(axes, share)
        axes.set_title(_kl_title(lines, share, kl), pad=18)
        axes.set_ylabel(f"{kl} (nats)")
        tops = (lines[label] + bands[label] for label in bands)
        y_from_zero(axes, *lines.values(), *oracles, *tops)
        frame_axis(axes, num_frames)
        if len(lines) + len(oracles) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _kl_title(lines: Mapping[str, Array], share: Array, kl: str) -> str:
    """The means of the recall phase, where it is the same for all sequences."""
    recall = share > 0
    if not recall.any() or is_graded(share):
        return f"{kl} of each frame" + (f", {next(iter(lines))}" if len(lines) == 1 else "")
    means = {label: curve[recall].mean() for label, curve in lines.items()}
    best, worst = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    title = f"Recall {kl}: {best} {nats(means[best])} a frame"
    return title if best == worst else f"{title}, {worst} {nats(means[worst])}"
