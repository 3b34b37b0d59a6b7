"""Reads of the associative memory, and the terms of the logits that chose them."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting.arrays import (
    Array,
    ArrayLike,
    as_array,
    as_repeats,
    as_shaped,
    as_share,
    earlier_same,
    importance_of_frames,
    when_recalled,
)
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import (
    STYLE,
    TICKS,
    frame_axis,
    integer_ticks,
    mark_recall,
    ring_same,
    stair,
)

HEADS_A_LINE = 4
WIDTH_OF_TITLE = 6.6
PREFIX = "logits_"
STANDS_OUT = 0.5
"""Nats by which a term must favour the slot that is read to be called its reason."""
DECISIVE = 10.0
"""Nats at which colours end: with so many more, a slot is read whatever the other terms say."""


def association_over_time(
    details: Mapping[str, ArrayLike], predictable: ArrayLike, repeats: ArrayLike
) -> Figure:
    """What each head of an associative memory reads in one sequence, and why.

    Above are the read weights by the frame that was written, with rings where just the same frame
    was shown.  Above the dotted stair nothing was written yet.  Below is, for the slot that is
    read most in each step, how much each term of the logits favours it: the term's logit for this
    slot less its mean over all slots that are filled, in nats.  The terms' sum decides; colours end
    at 10 nats.

    Args:
        details: as recorded by ``record_memory``, for one sequence: ``read_weights``,
            ``(T, R, L)``, slot 0 being the newest, and the terms, ``logits_NAME``, of the same
            shape.
        predictable: the recall phase, ``(T,)`` of bool or share.
        repeats: the earlier step whose frame is shown again, -1 for a new one: ``(T,)`` of
            integers.

    Raises:
        ValueError: weights or terms are missing, or a shape does not fit.
    """
    terms = [key for key in details if key.startswith(PREFIX)]
    if "read_weights" not in details or not terms:
        raise ValueError(
            f"details: got {', '.join(details) or 'none'}, must have read_weights and some "
            f"{PREFIX}NAME"
        )
    reads = as_array(details["read_weights"]).astype(float)
    if reads.ndim != 3 or 0 in reads.shape:
        raise ValueError(f"details['read_weights']: got shape {reads.shape}, must be (T, R, L)")
    logits = np.stack(
        [as_shaped(f"details[{key!r}]", details[key], reads.shape) for key in terms], axis=2
    )  # (T, R, terms, L)
    num_frames, heads, _ = reads.shape
    share, again = as_share(predictable, num_frames), as_repeats(repeats, (num_frames,))
    by_frame, favours = _by_frame(reads), _favours(reads, logits)
    names = [key.removeprefix(PREFIX) for key in terms]
    same = earlier_same(again)
    most = float(np.abs(favours).max().clip(1, DECISIVE))

    columns = min(heads, HEADS_A_LINE)
    blocks = -(-heads // columns)
    width = min(max(0.13 * num_frames, 2.5), 3.0)
    with mpl.rc_context(STYLE):
        figure = Picture(
            figsize=(max(width * columns + 1.9, WIDTH_OF_TITLE), (width + 2.3) * blocks + 0.4),
            layout="constrained",
        )
        figure.suptitle(_finding(by_frame, share, same), x=0.01, ha="left", fontsize=11)
        strip = 0.11 * len(names) + 0.06
        grid = figure.add_gridspec(2 * blocks, columns, height_ratios=[1.0, strip] * blocks)
        above, below = [], []
        for head in range(heads):
            block, column = divmod(head, columns)
            axes = figure.add_subplot(grid[2 * block, column])
            _map(axes, by_frame[:, head], share, same)
            title = _finding_of_head(favours[:, head], names, share)
            axes.set_title(f"head {head + 1}: {title}", pad=22)
            row = figure.add_subplot(grid[2 * block + 1, column], sharex=axes)
            _strip(row, favours[:, head], names if column == 0 else [""] * len(names), most)
            mark_recall(row, share, filled=False, labelled=False)
            frame_axis(row, num_frames)
            axes.tick_params(labelbottom=False)
            if column == 0:
                axes.set_ylabel("frame read (○: the same)")
            else:
                axes.tick_params(labelleft=False)
            above.append(axes)
            below.append(row)
        read = figure.colorbar(
            above[0].images[0],
            ax=above,
            label="read weight",
            ticks=(0, 0.05, 0.2, 0.4, 0.6, 0.8, 1),
            format="%g",
            aspect=18,
        )
        favour = figure.colorbar(
            below[0].images[0], ax=below, label="favours\n(nats)", aspect=5, extend="both"
        )
        for bar in (read, favour):
            bar.ax.spines["outline"].set_visible(False)
            bar.ax.tick_params(**TICKS)
    return figure


def _by_frame(reads: Array) -> Array:
    """Read weights by age ``(T, R, L)``, by the frame that was written: ``(T, R, T)``."""
    num_frames, heads, slots = reads.shape
    by_frame = np.zeros((num_frames, heads, num_frames))
    for t in range(num_frames):
        kept = min(t, slots)
        by_frame[t, :, t - kept : t] = reads[t, :, :kept][:, ::-1]
    return by_frame


def _favours(reads: Array, logits: Array) -> Array:
    """How much each term favours the slot read most, over the mean of the filled: ``(T, R, K)``;
    0 where none is filled."""
    num_frames, heads, slots = reads.shape
    favours = np.zeros((*logits.shape[:2], logits.shape[2]))
    for t in range(1, num_frames):
        kept = min(t, slots)
        filled = logits[t, ..., :kept]  # (R, K, filled)
        chosen = reads[t, :, :kept].argmax(-1)  # (R,)
        favours[t] = filled[np.arange(heads), :, chosen] - filled.mean(-1)
    return favours


def _map(axes: Axes, by_frame: Array, share: Array, same: Array) -> None:
    """Read weights ``(T, T)`` of one head, the frames that were written upwards."""
    num_frames = len(by_frame)
    axes.imshow(
        by_frame.T,
        cmap="Blues",
        norm=PowerNorm(0.5, 0, 1),  # small weights are seen too
        origin="lower",
        aspect="auto",
        extent=(-0.5, num_frames - 0.5, -0.5, num_frames - 0.5),
        interpolation="nearest",
    )
    stair(axes, num_frames)
    ring_same(axes, same)
    mark_recall(axes, share, filled=False)
    axes.set_ylim(-0.5, num_frames - 0.5)
    axes.yaxis.set_major_locator(integer_ticks(6))
    axes.tick_params(**TICKS)


def _strip(axes: Axes, favours: Array, names: list[str], most: float) -> None:
    """How much each term favours what is read, ``(T, K)``, the first term on top."""
    num_frames, count = favours.shape
    axes.imshow(
        favours.T,
        cmap="RdBu",
        vmin=-most,
        vmax=most,
        aspect="auto",
        extent=(-0.5, num_frames - 0.5, count - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.set_yticks(range(count), names)
    axes.tick_params(**TICKS)
    axes.tick_params(axis="y", length=0)


def _finding_of_head(favours: Array, names: list[str], share: Array) -> str:
    """The term that decides, in words; shapes ``(T, K)`` and ``(T,)``."""
    mean = importance_of_frames(share) @ favours  # (K,)
    term, when = int(mean.argmax()), when_recalled(share)
    if mean[term] < STANDS_OUT:
        return f"no term stands out\n{when}, at most {mean[term]:.1f} nats"
    return f"by {names[term]}\n{when}, {mean[term]:.1f} nats"


def _finding(by_frame: Array, share: Array, same: Array) -> str:
    """How much of what is read is right, in words; ``(T, R, T)``, ``(T,)``, ``(T, T)``."""
    looked_up = (share > 0) & same.any(1)
    if not looked_up.any():
        return "Reads of each head, and the terms that chose them; no frame is shown again"
    shares = (by_frame * same[:, None]).sum(2)[looked_up].mean(0)  # (R,)
    best = int(shares.argmax())
    head = "the head" if len(shares) == 1 else f"the best head, head {best + 1},"
    return f"Where a frame is shown again, it is {shares[best]:.2f} of what {head} reads"
