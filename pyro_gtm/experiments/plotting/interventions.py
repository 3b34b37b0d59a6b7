"""Recall under interventions on the memory."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pyro_gtm.experiments.plotting.arrays import (
    Array,
    ArrayLike,
    as_array,
    as_shaped,
    as_share,
    is_graded,
)
from pyro_gtm.experiments.plotting.frames import GENERATED_LOOK, show_frame
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import (
    STYLE,
    frame_axis,
    mark_recall,
    nats,
    y_of_kl,
)


def recall_under_interventions(
    curves: Mapping[str, ArrayLike],
    rows: Mapping[str, ArrayLike],
    predictable: ArrayLike,
    num_given: Mapping[str, int] | None = None,
    kl: str = "KL",
) -> Figure:
    """The KL of each frame under each intervention, and below it, frame under frame, the sequences.

    Args:
        curves: for each intervention the KL of each frame in nats, ``(T,)``; the first is what the
            others are compared with.
        rows: for each label the frames of one sequence, floats in [0, 1] (values outside are
            clipped) or bools, ``(T, C, H, W)``, C 1 (grey) or 3 (RGB).
        predictable: the recall phase, ``(T,)`` of bool or share.
        num_given: for rows that were generated, by their labels, the number of frames given
            before; those are faded and the others outlined.
        kl: what the curves are called, ``"KL bound"`` where they are bounds on it, as for a mixture
            prior.

    Raises:
        ValueError: a shape does not fit, there is no curve or no row, or ``num_given`` has a label
            that ``rows`` lacks or a number that is not from 0 to T.
    """
    share = as_share(predictable)
    num_frames = len(share)
    if not curves or not rows:
        raise ValueError(f"{'rows' if curves else 'curves'}: got none, must have at least one")
    lines = {label: as_shaped(f"curves[{label!r}]", c, share.shape) for label, c in curves.items()}
    strips = {label: _frames(label, frames, num_frames) for label, frames in rows.items()}
    starts = dict(num_given or {})
    for label, start in starts.items():
        if label not in strips:
            raise ValueError(f"num_given: got {label!r}, must have labels of rows only")
        if not 0 <= start <= num_frames:
            raise ValueError(
                f"num_given[{label!r}]: got {start}, must be from 0 to T = {num_frames}"
            )

    width = min(max(0.42 * num_frames, 5.0), 13.0)
    shape = next(iter(strips.values())).shape
    row_height = width / num_frames * shape[2] / shape[3]
    with mpl.rc_context(STYLE):
        figure = Picture(
            figsize=(width + 4.6, 3.4 + row_height * len(strips)), layout="constrained"
        )
        above, below = figure.subplots(
            2, 1, sharex=True, height_ratios=[2.6, row_height * len(strips)]
        )
        means = _recall_means(lines, share)
        for label, curve in lines.items():
            mean = f": {nats(means[label])} in recall" if means else ""
            above.plot(np.arange(num_frames), curve, label=label + mean)
        mark_recall(above, share)
        above.set_ylabel(f"{kl} (nats)")
        y_of_kl(above, *lines.values())
        above.set_title(_finding(means, kl), pad=18)
        above.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        _strips(below, strips, starts)
        mark_recall(below, share, labelled=False)
        for axes in (above, below):
            frame_axis(axes, num_frames)
        if any(start < num_frames for start in starts.values()):
            below.set_xlabel("frame (faded: given, outlined: generated)")
        below.tick_params(axis="y", length=0)
        above.tick_params(labelbottom=False)
        above.set_xlabel("")
    return figure


def _frames(label: str, value: ArrayLike, num_frames: int) -> Array:
    """``(T, C, H, W)`` as floats."""
    frames = as_array(value)
    if (
        frames.ndim != 4
        or 0 in frames.shape
        or len(frames) != num_frames
        or frames.shape[1] not in (1, 3)
        or frames.dtype.kind not in "fb"
    ):
        raise ValueError(
            f"rows[{label!r}]: got {frames.dtype} of shape {frames.shape}, must be floats or bools "
            f"of ({num_frames}, C, H, W) with C = 1 or 3"
        )
    return frames.astype(np.float32)


def _strips(axes: Axes, strips: Mapping[str, Array], starts: Mapping[str, int]) -> None:
    """Rows of frames, the first on top, each frame in the middle of its place on the x axis."""
    edge = 0.46
    for row, (label, frames) in enumerate(strips.items()):
        start = starts.get(label, len(frames))
        for t, frame in enumerate(frames):
            show_frame(
                axes,
                frame,
                (t - edge, row - edge, 2 * edge, 2 * edge),
                alpha=0.3 if label in starts and t < start else 1.0,
                zorder=1,  # the ground of the recall phase has 0
                gid=f"{label}/{t}",
            )
        if start < len(frames):
            axes.add_patch(
                Rectangle(
                    (start - edge, row - edge),
                    len(frames) - 1 - start + 2 * edge,
                    2 * edge,
                    zorder=2,
                    **GENERATED_LOOK,
                )
            )
    axes.set_yticks(range(len(strips)), list(strips))
    axes.set_ylim(len(strips) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _recall_means(lines: Mapping[str, Array], share: Array) -> dict[str, float]:
    """The means of the recall phase; none where it is not the same for all sequences."""
    recall = share > 0
    if not recall.any() or is_graded(share):
        return {}
    return {label: float(curve[recall].mean()) for label, curve in lines.items()}


def _finding(means: Mapping[str, float], kl: str) -> str:
    """The means in words, the first against the others."""
    if not means:
        return f"{kl} of each frame"
    (first, mean), *others = means.items()
    title = f"Recall {kl}: {first} {nats(mean)} a frame"
    return title + (f", else at least {nats(min(dict(others).values()))}" if others else "")
