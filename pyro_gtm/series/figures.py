"""Figures of series: forecasts, gaps, surprise, calibration.

They are drawn for reading, not for completeness: at most three series and four channels, and images
as strips.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from pyro_gtm.experiments.plotting import save
from pyro_gtm.experiments.plotting.picture import Picture
from pyro_gtm.experiments.plotting.style import BLACK, BLUE, GREY, STYLE, TICKS, VERMILION
from pyro_gtm.series.data import Series
from pyro_gtm.series.tables import category_shares

if TYPE_CHECKING:
    from pyro_gtm.series.forecasting import Forecast
    from pyro_gtm.series.imputing import Imputation
    from pyro_gtm.series.scoring import Scores
    from pyro_gtm.series.surprising import Surprise

__all__ = [
    "draw_forecast",
    "draw_imputation",
    "draw_scores",
    "draw_series",
    "draw_surprise",
    "save_figure",
]

MOST_SERIES, MOST_CHANNELS, MOST_STRIP = 3, 4, 12
MOST_GAP_STEPS = 60
"""From the first gap that is drawn to the last."""

BANDS = ((0.05, 0.95, 0.18), (0.25, 0.75, 0.35))
"""Quantiles of the fan, and how deep its colour is."""


def save_figure(figure: Figure, path: str | Path | None) -> Figure:
    """Write the figure as a PNG, if a path is given."""
    if path is not None:
        save(figure, Path(path))
    return figure


def draw_forecast(forecast: Forecast) -> Figure:
    """What was given, the fan of what may come, and what came where it is known."""
    series, horizon = forecast.series, forecast.horizon
    if len(series.event_shape) > 1:
        return _image_rows(
            {
                "given": _last_frames(forecast),
                "mean forecast": forecast.mean[:MOST_STRIP, 0],
                "one sample": forecast.samples[0, :MOST_STRIP, 0],
            }
        )
    if _is_roll(series):
        return _roll_forecast(forecast)
    if forecast.num_categories is not None:
        return _forecast_of_categories(forecast, forecast.num_categories)
    actual = forecast.actual.numpy()
    came = "; what came (dashed)" if np.isfinite(actual).any() else ""
    figure, grid = _grid(
        series, f"given (black); forecast (blue): median, 50 % and 90 % intervals{came}"
    )
    fan = forecast.quantiles((0.05, 0.25, 0.5, 0.75, 0.95)).numpy()  # (5, H, N, C)
    for n, row in enumerate(grid):
        origin = int(forecast.origins[n])
        start = max(0, origin - 3 * horizon)
        before = series.times_of(n, start, origin - start)
        after = series.times_of(n, origin, horizon)
        for c, axes in enumerate(row):
            axes.plot(before, series.values[start:origin, n, c], color=BLACK, marker="None")
            _fan(axes, after, fan[:, :, n, c], BLUE)
            axes.plot(
                after, actual[:, n, c], color=VERMILION, marker="None", linestyle="--", label="came"
            )
            axes.axvline(before[-1], color=GREY, linewidth=0.8, linestyle=":")
    _finish(figure, grid, series)
    return figure


def draw_imputation(imputation: Imputation) -> Figure:
    """What there is, and the fan of each gap, of the series that have some."""
    imputation = _with_gaps(imputation)
    series = imputation.series
    if len(series.event_shape) > 1:
        return _image_rows(
            {
                "given": series.values[:MOST_STRIP, 0],
                "mean of the gaps": imputation.filled.values[:MOST_STRIP, 0],
                "one sample": imputation.samples[0, :MOST_STRIP, 0],
            }
        )
    if imputation.num_categories is not None:
        return _gaps_of_categories(imputation, imputation.num_categories)
    figure, grid = _grid(series, "given (black); gaps (blue): median, 50 % and 90 % intervals")
    samples = imputation.samples.numpy()
    gaps = series.gaps.numpy()
    for n, row in enumerate(grid):
        start, stop = _around_gaps(gaps[: int(series.lengths[n]), n])
        times = series.times[n][start:stop]
        for c, axes in enumerate(row):
            axes.plot(times, series.values[start:stop, n, c], color=BLACK, marker="None")
            fan = np.quantile(samples[:, start:stop, n, c], (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
            fan[:, ~gaps[start:stop, n, c]] = np.nan
            _fan(axes, times, fan, BLUE)
    _finish(figure, grid, series)
    return figure


def _with_gaps(imputation: Imputation) -> Imputation:
    """The series that have gaps, if some have."""
    with_some = imputation.series.gaps.flatten(2).any(-1).any(0).nonzero().flatten().tolist()
    if not with_some:
        return imputation
    chosen = imputation.series.select(with_some)
    samples = imputation.samples[:, : chosen.num_steps, with_some]
    return replace(imputation, samples=samples, series=chosen)


def _forecast_of_categories(forecast: Forecast, num_categories: int) -> Figure:
    """What was given, how likely each category is, and what came where it is known."""
    series, horizon = forecast.series, forecast.horizon
    actual = forecast.actual.numpy()
    came = "; came (cross)" if np.isfinite(actual).any() else ""
    figure, grid = _grid(series, f"given (black); how likely each category is (blue){came}")
    shares = category_shares(forecast.samples, num_categories)  # (K, H, N, C)
    for n, row in enumerate(grid):
        origin = int(forecast.origins[n])
        start = max(0, origin - 3 * horizon)
        given = category_shares(series.values[start:origin, n].unsqueeze(0), num_categories)
        before = series.times_of(n, start, origin - start)
        after = series.times_of(n, origin, horizon)
        for c, axes in enumerate(row):
            _categories(axes, before, given[..., c], "Greys")
            _categories(axes, after, shares[:, :, n, c], "Blues")
            axes.plot(after, actual[:, n, c], color=VERMILION, marker="x", linestyle="None")
    _finish(figure, grid, series)
    return figure


def _gaps_of_categories(imputation: Imputation, num_categories: int) -> Figure:
    """What there is, and how likely each category is in each gap."""
    series = imputation.series
    figure, grid = _grid(series, "given (black); how likely each category is in a gap (blue)")
    shares = category_shares(imputation.samples, num_categories)  # (K, T, N, C)
    gaps = series.gaps
    for n, row in enumerate(grid):
        start, stop = _around_gaps(gaps[: int(series.lengths[n]), n].numpy())
        times = series.times[n][start:stop]
        for c, axes in enumerate(row):
            missing = gaps[start:stop, n, c]
            of_both = shares[:, start:stop, n, c]
            _categories(axes, times, of_both.where(~missing, torch.nan), "Greys")
            _categories(axes, times, of_both.where(missing, torch.nan), "Blues")
    _finish(figure, grid, series)
    return figure


def _categories(axes: Axes, times: NDArray[Any], shares: Tensor, colours: str) -> None:
    """A column of shades for each time: ``shares`` ``(K, len(times))``."""
    numbers = np.arange(len(shares))
    if len(times) > 1:
        axes.pcolormesh(
            times, numbers, shares.numpy(), cmap=colours, vmin=0, vmax=1, shading="nearest"
        )
    axes.set_yticks(numbers[:: max(1, len(numbers) // 8)])


def _around_gaps(gaps: NDArray[Any]) -> tuple[int, int]:
    """Steps that show the first gaps of a series, and as much before and after them."""
    where = np.flatnonzero(gaps.any(-1))
    if not len(where):
        return 0, len(gaps)
    first = where[0]
    last = where[where <= first + MOST_GAP_STEPS][-1]
    margin = max(20, last - first)
    return max(0, first - margin), min(len(gaps), last + margin + 1)


def draw_series(series: Series) -> Figure:
    """The values themselves."""
    if len(series.event_shape) > 1:
        rows = min(MOST_SERIES, series.num_series)
        return _image_rows({series.ids[n]: series.values[:MOST_STRIP, n] for n in range(rows)})
    if _is_roll(series):
        return _rolls(series)
    figure, grid = _grid(series, "")
    for n, row in enumerate(grid):
        for c, axes in enumerate(row):
            values = series.values[: int(series.lengths[n]), n, c]
            axes.plot(series.times[n], values, color=BLUE, marker="None")
    _finish(figure, grid, series)
    return figure


def draw_surprise(surprise: Surprise) -> Figure:
    """The first channels of the first series, and the surprise of its frames below them."""
    series = surprise.series
    length = int(series.lengths[0])
    times = series.times[0]
    single = len(series.event_shape) > 1 or _is_roll(series)
    panels = 1 if single else min(MOST_CHANNELS, len(series.channels))
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(8, 2.4 + 1.4 * panels), layout="constrained")
        *tops, below = figure.subplots(
            panels + 1, 1, sharex=not _is_roll(series), height_ratios=(*[1] * panels, 1.5)
        )
        if len(series.event_shape) > 1:
            tops[0].plot(
                times, series.values[:length, 0].flatten(1).mean(1), color=BLACK, marker="None"
            )
            tops[0].set_ylabel("mean of the frame")
        elif single:
            _roll(tops[0], series, 0)
        else:
            for c, axes in enumerate(tops):
                axes.plot(times, series.values[:length, 0, c], color=BLACK, marker="None")
                axes.set_ylabel(series.channels[c])
        tops[0].set_title(series.ids[0])
        counts = surprise.values[:length, 0]
        partial = bool((counts[counts > 0] != counts.max()).any())  # such frames weigh less
        kl, total = (
            (of_frame[:length, 0] / (counts if partial else 1)).numpy()
            for of_frame in (surprise.kl, surprise.negative_elbo)
        )
        below.plot(times, total, color=BLUE, marker="None", label="negative ELBO")
        below.plot(times, kl, color=VERMILION, marker="None", label="KL")
        below.set_ylabel("nats a value" if partial else "nats a frame")
        below.set_ylim(top=np.nanmax(total) + 0.25 * (np.nanmax(total) - min(0, np.nanmin(kl))))
        below.legend(loc="upper right", ncols=2)
        for axes in (*tops, below):
            axes.tick_params(**TICKS)
        _time_axis(below, times)
    return figure


def draw_scores(scores: Scores) -> Figure:
    """How often values lay below each quantile, and CRPS by horizon."""
    ordered = scores.num_categories is None  # categories have no quantiles
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(8 if ordered else 5, 3.6), layout="constrained")
        *left, right = figure.subplots(1, 2 if ordered else 1, squeeze=False)[0]
        for axes in left:
            _calibration(axes, scores.pit.numpy())
        horizon = np.arange(1, len(scores.crps) + 1)
        right.plot(horizon, scores.crps.nanmean(1), color=BLUE, label="this model", marker=".")
        right.plot(
            horizon,
            scores.naive_crps.nanmean(1),
            color=GREY,
            linestyle="--",
            marker="None",
            label="naive forecast",
        )
        right.set_ylim(bottom=0)
        right.set_title(f"{scores.score_name}, mean over channels")
        right.set_xlabel("horizon in steps")
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.legend()
        for axes in (*left, right):
            axes.tick_params(**TICKS)
    return figure


def _calibration(axes: Axes, pit: NDArray[Any]) -> None:
    """The share of values below each quantile of their forecasts."""
    levels = np.linspace(0, 1, 101)
    share = np.searchsorted(np.sort(pit), levels, side="right") / max(1, len(pit))
    axes.plot(levels, levels, color=GREY, linestyle="--", marker="None", label="calibrated")
    axes.plot(levels, share, color=BLUE, marker="None", label="this model")
    axes.set_title("calibration")
    axes.set_xlabel("quantile of the forecast")
    axes.set_ylabel("share of values below it")
    axes.set_aspect("equal")
    axes.legend(loc="upper left")


def _fan(axes: Axes, times: NDArray[Any], fan: NDArray[Any], colour: str) -> None:
    """Quantiles 0.05, 0.25, 0.5, 0.75, 0.95: ``(5, n)``."""
    for low, high, depth in ((0, 4, BANDS[0][2]), (1, 3, BANDS[1][2])):
        axes.fill_between(times, fan[low], fan[high], color=colour, alpha=depth, linewidth=0)
    axes.plot(times, fan[2], color=colour, marker="None", label="median")


def _grid(series: Series, title: str) -> tuple[Figure, list[list[Axes]]]:
    rows, columns = min(MOST_SERIES, series.num_series), min(MOST_CHANNELS, len(series.channels))
    with mpl.rc_context(STYLE):
        width = 7.5 if columns == 1 else min(4.2 * columns, 12.6)
        figure = Picture(figsize=(width, 0.6 + 2.2 * rows), layout="constrained")
        if title:
            figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
        grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]


def _finish(figure: Figure, grid: list[list[Axes]], series: Series) -> None:
    for n, row in enumerate(grid):
        for c, axes in enumerate(row):
            axes.spines[["top", "right"]].set_visible(False)
            name = series.channels[c]
            axes.set_title(name if len(grid) == 1 else f"{series.ids[n]}: {name}", fontsize=9)
            axes.tick_params(**TICKS)
            _time_axis(axes, series.times[n])
    left = len(series.channels) - len(grid[0]), series.num_series - len(grid)
    unseen = [f"{n} more {what}" for n, what in zip(left, ("channels", "series"), strict=True) if n]
    if unseen:
        figure.supxlabel(" and ".join(unseen) + " not drawn", fontsize=8, color=GREY)


def _time_axis(axes: Axes, times: NDArray[Any]) -> None:
    if times.dtype.kind == "M":
        # Two days of hours are too many for hours, and are days enough.
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _image_rows(rows: dict[str, Tensor]) -> Figure:
    """Strips of frames ``(n, colours, height, width)``, one below the other."""
    columns = max(map(len, rows.values()))
    with mpl.rc_context(STYLE):
        figure = Picture(
            figsize=(0.9 * columns + 0.6, 1.05 * len(rows) + 0.2), layout="constrained"
        )
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for line, (name, frames) in zip(grid, rows.items(), strict=True):
            line[0].set_title(name, fontsize=9)
            for i, axes in enumerate(line):
                axes.set_axis_off()
                if i < len(frames):
                    image = frames[i].movedim(0, -1).clamp(0, 1).numpy()
                    grey = image.shape[-1] == 1
                    axes.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=1)
    return figure


def _last_frames(forecast: Forecast) -> Tensor:
    origin = int(forecast.origins[0])
    return forecast.series.values[max(0, origin - MOST_STRIP) : origin, 0]


def _is_roll(series: Series) -> bool:
    """Whether the channels are keys of an instrument, as a list of notes has them."""
    return series.channels[:1] in (("A0",), ("C-1",)) and len(series.channels) in (88, 128)


def _roll(axes: Axes, series: Series, n: int) -> None:
    length = int(series.lengths[n])
    axes.imshow(
        series.values[:length, n].T.numpy(), aspect="auto", origin="lower", cmap="Greys", vmax=1
    )
    played = np.flatnonzero(series.values[:length, n].nansum(0).numpy())
    if len(played):
        axes.set_ylim(played[0] - 2, played[-1] + 2)
    octaves = [i for i, name in enumerate(series.channels) if name[:-1] == "C"]
    axes.set_yticks(octaves, [series.channels[i] for i in octaves])
    axes.set_ylabel("key")


def _rolls(series: Series) -> Figure:
    rows = min(MOST_SERIES, series.num_series)
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(8, 2.2 * rows), layout="constrained")
        for n, axes in enumerate(figure.subplots(rows, 1, squeeze=False)[:, 0]):
            _roll(axes, series, n)
            axes.set_title(series.ids[n])
            axes.tick_params(**TICKS)
    return figure


def _roll_forecast(forecast: Forecast) -> Figure:
    series = forecast.series
    origin = int(forecast.origins[0])
    start = max(0, origin - 3 * forecast.horizon)
    given = series.values[start:origin, 0].numpy()
    shown = np.concatenate([given, forecast.mean[:, 0].numpy()])
    with mpl.rc_context(STYLE):
        figure = Picture(figsize=(8, 3.2), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(
            shown.T,
            aspect="auto",
            origin="lower",
            cmap="Greys",
            vmin=0,
            vmax=1,
            extent=(start - 0.5, start + len(shown) - 0.5, -0.5, shown.shape[1] - 0.5),
        )
        axes.axvline(origin - 0.5, color=VERMILION, linewidth=1)
        played = np.flatnonzero(np.nan_to_num(shown).max(0) > 0.05)
        if len(played):
            axes.set_ylim(played[0] - 2, played[-1] + 2)
        octaves = [i for i, name in enumerate(series.channels) if name[:-1] == "C"]
        axes.set_yticks(octaves, [series.channels[i] for i in octaves])
        axes.set_title(f"{series.ids[0]}: given, then how likely each key is")
        axes.set_xlabel("step")
        axes.tick_params(**TICKS)
        figure.colorbar(image, ax=axes, label="probability")
    return figure
