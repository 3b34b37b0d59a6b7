"""Writes, contents and reads of a memory with slots."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from pyro_gtm.experiments.plotting.arrays import (
    Array,
    ArrayLike,
    as_array,
    as_share,
    importance_of_frames,
    when_recalled,
)
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import (
    GREEN,
    GREY,
    SKY,
    STYLE,
    TICKS,
    VERMILION,
    frame_axis,
    mark_recall,
)

HEADS_A_LINE = 4
SMALL = 0.36
"""Height of a panel of lines, that of a map being 1."""
WIDTH_OF_TITLE = 6.6
EMPTY = 0.01
"""A read with less weight than this on what was written reads nothing."""
BAR_TICKS = (0, 0.05, 0.2, 0.4, 0.6, 0.8, 1)
WRITING = ("allocation gate", "write gate")
MIXTURES = {  # details that are distributions over three things, and the names of these
    "read_modes": ("backward", "content", "forward"),
    "shifts": ("shift -1", "0", "+1"),
}

Lines = list[tuple[str, Array]]
"""Curves ``(T,)`` with their names."""


def memory_over_time(details: Mapping[str, ArrayLike], predictable: ArrayLike) -> Figure:
    """Writes, contents and reads of a memory with slots in one sequence.

    On the left are the writes, and what else is known of the slots; then a column for each head
    that reads.  Each has a map of the slots and below it the same reads by *what the slots hold*:
    the frame whose latent was written there.  A recall at lag l is a line of slope one that starts
    from frame 0 at x = l, whatever slots it takes.  Above the dotted stair nothing was written yet.

    Which frame a slot holds is a bookkeeping and no exact attribution: each step takes over the
    share w of a slot that its write weights name and leaves 1 - w of what was there, whatever the
    memory has erased or added.  In step t it is the latent of frame t - 1 that is written.  What is
    read in a step is divided among the frames in proportion, slots that were never written counting
    as empty; nothing is shown where less than a hundredth of the weight lies on what was written.

    Args:
        details: as recorded by ``record_memory``, for one sequence.  There must be

            - ``read_weights``, ``(T, R, N)``;
            - ``write_weights``, ``(T, H, N)``; where several heads write, what is shown of each
              slot is the share that all of them take over.

            and there may be

            - ``usage``, ``(T, N)``;
            - ``link_sharpness``, ``(T, N)``, of which is shown, as "new link", that of the slots
              written in a step: one where it is known after which other slot they were written;
            - anything called ``..._gates``, ``(T, K)`` or ``(T, K, W)``, of which the mean over W
              is shown: for K = R in the columns of the heads, for K = R + H of the first R there;
              but those of writing stay on the left where a single head reads;
            - ``read_modes`` and ``shifts``, ``(T, K, 3)``, as stacked shares.

            What has another name or shape is left out.
        predictable: the recall phase, ``(T,)`` of bool or share.

    Raises:
        ValueError: weights are missing or a shape of theirs does not fit.
    """
    arrays = {key: as_array(value) for key, value in details.items()}
    reads, writes = (_weights(key, arrays) for key in ("read_weights", "write_weights"))
    num_frames, heads, slots = reads.shape
    if writes.shape[::2] != reads.shape[::2]:
        raise ValueError(
            f"details['write_weights']: got shape {writes.shape}, must be (T, H, N) = "
            f"({num_frames}, any, {slots}) like read_weights"
        )
    share = as_share(predictable, num_frames)
    taken_over = 1 - (1 - writes.clip(0, 1)).prod(1)  # (T, N)
    origins = _frames_read(reads, taken_over)  # (T, R, T)

    lines = _by_column(_gates(arrays, num_frames), heads, writes.shape[1])
    mixtures = _by_column(_mixtures(arrays, num_frames), heads, writes.shape[1])
    links = arrays.get("link_sharpness")
    if links is not None and links.shape == taken_over.shape:
        lines[0].append(("new link", (taken_over * links).sum(1)))
    usage = arrays.get("usage")
    if usage is not None and usage.shape != taken_over.shape:
        usage = None

    columns = min(heads, HEADS_A_LINE)
    blocks = -(-heads // columns)
    height = 2 + SMALL * (any(lines) + any(mixtures))
    width = min(max(0.16 * num_frames, 2.3), 2.8)
    with mpl.rc_context(STYLE):
        figure = Picture(
            figsize=(max(width * (columns + 1) + 0.9, WIDTH_OF_TITLE), 0.6 + 2.0 * height * blocks),
            layout="constrained",
        )
        figure.suptitle(_finding(origins, share), x=0.01, ha="left", fontsize=11)
        grid = figure.add_gridspec(blocks, columns + 2, width_ratios=[1.0] * (columns + 1) + [0.05])
        shown = [(taken_over, "slot written")]
        if usage is not None:
            shown.append((usage, "slot in use"))
        panels = _column(figure, grid[0, 0], shown, lines[0], mixtures[0], share, height)
        panels[0].set_title(
            f"writing: the top slot\ngets {taken_over.max(1).mean():.2f} on average", pad=22
        )

        for head in range(heads):
            block, column = divmod(head, columns)
            shown = [(reads[:, head], "slot read"), (origins[:, head], "frame read")]
            panels = _column(
                figure,
                grid[block, column + 1],
                [(values, label if column == 0 else "") for values, label in shown],
                lines[head + 1],
                mixtures[head + 1],
                share,
                height,
            )
            finding = _finding_of_head(origins[:, head], share)
            panels[0].set_title(f"head {head + 1}: {finding}", pad=22)
            panels[1].stairs(  # nothing can be read before it is written
                np.arange(num_frames) - 0.5,
                np.arange(num_frames + 1) - 0.5,
                baseline=None,
                color=GREY,
                linestyle=":",
            )
        beside = figure.add_subplot(grid[0, -1])
        bar = figure.colorbar(
            panels[0].images[0], cax=beside, label="weight", ticks=BAR_TICKS, format="%g"
        )
        bar.ax.spines["outline"].set_visible(False)
        bar.ax.tick_params(**TICKS)
    return figure


def _weights(key: str, arrays: Mapping[str, Array]) -> Array:
    letters = "(T, R, N)" if key == "read_weights" else "(T, H, N)"
    if key not in arrays:
        raise ValueError(f"details: got no {key!r}, must have those, {letters}")
    if arrays[key].ndim != 3 or 0 in arrays[key].shape:
        raise ValueError(f"details[{key!r}]: got shape {arrays[key].shape}, must be {letters}")
    return arrays[key].astype(float)


def _frames_read(reads: Array, taken_over: Array) -> Array:
    """Shares of the frames' latents in each read.

    Args:
        reads: ``(T, R, N)``.
        taken_over: the share of each slot that a step's write replaces, ``(T, N)``.

    Returns:
        Shares ``(T, R, T)``, the last dimension over frames; zeros where nothing written is read.
    """
    num_frames, heads, slots = reads.shape
    held = np.zeros((num_frames, slots))  # how much of a slot is from which step's write
    origins = np.zeros((num_frames, heads, num_frames))
    for t in range(num_frames):
        held *= 1 - taken_over[t]
        held[t] = taken_over[t]
        found = reads[t] @ held.T  # (R, T)
        total = found.sum(1, keepdims=True)
        shares = np.divide(found, total, out=np.zeros_like(found), where=total > EMPTY)
        origins[t, :, :-1] = shares[:, 1:]  # the first step's write comes before any frame
    return origins


def _gates(arrays: Mapping[str, Array], num_frames: int) -> dict[str, Array]:
    """The gates there are, ``(T, K)`` each, by the names they are shown under."""
    gates = {}
    for key, values in arrays.items():
        if key.endswith("_gates") and values.ndim in (2, 3) and len(values) == num_frames:
            label = key.removesuffix("s").replace("_", " ")
            gates[label] = values if values.ndim == 2 else values.mean(-1)
    return gates


def _mixtures(arrays: Mapping[str, Array], num_frames: int) -> dict[str, Array]:
    """The stacked shares there are, ``(T, K)`` each, by the names they are shown under."""
    return {
        label: arrays[key][..., index]
        for key, labels in MIXTURES.items()
        if key in arrays and arrays[key].ndim == 3
        if arrays[key].shape[::2] == (num_frames, len(labels))
        for index, label in enumerate(labels)
    }


def _by_column(values: Mapping[str, Array], heads: int, write_heads: int) -> list[Lines]:
    """Curves of the left column, and of each head that reads; from ``(T, K)`` each."""
    columns: list[Lines] = [[] for _ in range(heads + 1)]
    for label, curves in values.items():
        count = curves.shape[1]
        alone = heads == 1 and label in WRITING  # there are as many of them as of heads either way
        reading = heads if count in (heads, heads + write_heads) and not alone else 0
        for index in range(count):
            if index < reading:
                columns[1 + index].append((label, curves[:, index]))
            else:
                number = f" {index - reading + 1}" if count - reading > 1 else ""
                columns[0].append((label + number, curves[:, index]))
    return columns


def _column(
    figure: Figure,
    place: SubplotSpec,
    maps: list[tuple[Array, str]],
    lines: Lines,
    mixture: Lines,
    share: Array,
    height: float,
) -> list[Axes]:
    """Panels below each other: maps ``(T, rows)`` with their labels, gates, shares.

    ``height`` is what all of them have together, where a panel of gates or shares has SMALL.
    """
    small = bool(lines) + bool(mixture)
    heights = [(height - SMALL * small) / len(maps)] * len(maps) + [SMALL] * small
    cells = place.subgridspec(len(heights), 1, height_ratios=heights)
    panels = [figure.add_subplot(cells[row]) for row in range(len(heights))]
    for row, (values, label) in enumerate(maps):
        _map(panels[row], values, share, label, named=row == 0)
    if lines:
        _lines(panels[len(maps)], lines, share)
    if mixture:
        _areas(panels[-1], mixture, share)
    for axes in panels:
        frame_axis(axes, len(share))
        if axes is not panels[-1]:
            axes.tick_params(labelbottom=False)
            axes.set_xlabel("")
    return panels


def _map(axes: Axes, values: Array, share: Array, label: str, named: bool) -> None:
    """Values ``(T, rows)``, the rows upwards; such as exceed 1 are shown relative to the greatest.

    ``named``: put a name to the recall phase.
    """
    rows = values.shape[1]
    greatest = float(values.max())
    if greatest > 1.005:  # more than rounding
        label += f"\n(darkest: {greatest:.1f})"
    axes.imshow(
        values.T,
        cmap="Blues",
        norm=PowerNorm(0.5, 0, max(greatest, 1.0)),  # small weights are seen too
        origin="lower",
        aspect="auto",
        extent=(-0.5, len(values) - 0.5, -0.5, rows - 0.5),
        interpolation="nearest",
    )
    mark_recall(axes, share, filled=False, labelled=named)
    axes.set_ylim(-0.5, rows - 0.5)
    axes.set_yticks(range(0, rows, 1 if rows <= 4 else 5 if rows <= 25 else 20))
    axes.set_ylabel(label)


def _lines(axes: Axes, lines: Lines, share: Array) -> None:
    for label, curve in lines:
        axes.plot(np.arange(len(share)), curve, label=label, markersize=2.5, linewidth=1.2)
    mark_recall(axes, share, labelled=False)
    _from_0_to_1(axes)


def _areas(axes: Axes, mixture: Lines, share: Array) -> None:
    edges = np.arange(len(share) + 1) - 0.5
    below: Array = np.zeros(len(share))
    for (label, part), colour in zip(mixture, (VERMILION, SKY, GREEN), strict=True):
        axes.stairs(below + part, edges, baseline=below, fill=True, color=colour, label=label)
        below = below + part
    mark_recall(axes, share, filled=False, labelled=False)
    _from_0_to_1(axes)


def _from_0_to_1(axes: Axes) -> None:
    """The y axis of a small panel, and its key above it."""
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 1])
    longest = max(len(label) for label in axes.get_legend_handles_labels()[1])
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.03),
        ncols=3 if longest <= 8 else 2,  # a key wider than its column would squeeze the others
        fontsize=7.5,
        borderpad=0,
        borderaxespad=0,
        handlelength=0.9,
        handletextpad=0.4,
        columnspacing=0.8,
    )


def _most_read_lag(origins: Array, share: Array) -> tuple[int, float]:
    """The lag at which most is read in the recall phase (throughout, if there is none).

    Args:
        origins: the share of each frame in the reads of one head, ``(T, T)``.
        share: the recall phase, ``(T,)``.

    Returns:
        The lag, and its mean share of the reads.
    """
    num_frames = len(origins)
    importance = importance_of_frames(share)
    means = [0.0] + [
        float(importance[lag:] @ np.diagonal(origins, -lag)) for lag in range(1, num_frames)
    ]
    lag = int(np.argmax(means))
    return lag, means[lag]


def _finding_of_head(origins: Array, share: Array) -> str:
    """The reads of a head in words; shapes ``(T, T)`` and ``(T,)``."""
    lag, mean = _most_read_lag(origins, share)
    when = when_recalled(share)
    if not origins[share > 0 if share.any() else slice(None)].any():
        return f"reads nothing\nwritten, {when}"
    if mean < 0.5:
        return f"no fixed lag\n{when}, at most {mean:.2f}"
    return f"lag {lag}\n{when}, share {mean:.2f}"


def _finding(origins: Array, share: Array) -> str:
    """The reads of the head that finds most, in words; shapes ``(T, R, T)`` and ``(T,)``."""
    heads = [_most_read_lag(origins[:, head], share) for head in range(origins.shape[1])]
    lag, mean = max(heads, key=lambda found: found[1])
    when = when_recalled(share).capitalize()
    if mean < 0.5:
        return f"{when}, no head reads at a fixed lag"
    return f"{when}, {mean:.2f} of what the best head reads is the frame at lag {lag}"
