"""Scores of forecasts over many origins, and of the density of held-out series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from pyro.ops.stats import crps_empirical
from torch import Tensor

from pyro_gtm.internals.checks import check_positive
from pyro_gtm.series.data import Series
from pyro_gtm.series.figures import draw_scores, save_figure
from pyro_gtm.series.forecasting import Forecast, forecast
from pyro_gtm.series.surprising import surprise
from pyro_gtm.series.tables import Row, save_table

if TYPE_CHECKING:
    from pyro_gtm.series.model import SeriesModel

__all__ = ["INTERVALS", "Scores", "backtest", "evaluate", "naive_forecast", "score"]

INTERVALS = (0.5, 0.8, 0.95)
"""Central intervals whose coverage is reported."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What forecasts were worth, over origins, series and the elements of frames."""

    crps: Tensor
    """Continuous ranked probability score, in the units of the data: ``(H, C)``."""

    naive_crps: Tensor
    """That of the naive forecast, the last value or that of a season ago: ``(H, C)``."""

    absolute_error: Tensor
    """Of the median: ``(H, C)``."""

    coverage: dict[float, float]
    """The share of values inside each central interval, by its level."""

    pit: Tensor
    """Where each value lies among the samples, in [0, 1]; even, if the forecast is calibrated."""

    negative_elbo: float | None
    """Nats a frame, of densities in the units of the data; None where it was not asked for."""

    channels: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The figures that are reported, each a mean over horizons and channels."""
        return {
            "crps": _mean(self.crps),
            "naive_crps": _mean(self.naive_crps),
            "absolute_error_of_median": _mean(self.absolute_error),
            **{f"coverage_{level:g}": share for level, share in self.coverage.items()},
            "negative_elbo_per_frame": self.negative_elbo,
            "values": len(self.pit),
        }

    def rows(self) -> list[Row]:
        """A row for each horizon and channel."""
        return [
            {
                "horizon": h + 1,
                "channel": name,
                "crps": self.crps[h, c].item(),
                "naive_crps": self.naive_crps[h, c].item(),
                "absolute_error_of_median": self.absolute_error[h, c].item(),
            }
            for h in range(len(self.crps))
            for c, name in enumerate(self.channels)
        ]

    def save(self, path: str | Path) -> None:
        """Write :meth:`rows` as a ``.csv`` or ``.parquet`` file."""
        save_table(self.rows(), path)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Calibration, and CRPS by horizon beside that of the naive forecast."""
        return save_figure(draw_scores(self), path)


def evaluate(
    model: SeriesModel,
    series: Series,
    horizon: int,
    *,
    origins: int = 5,
    first: int | Sequence[int] | None = None,
    season: int = 1,
    num_samples: int = 200,
    density: bool = True,
    seed: int = 0,
) -> Scores:
    """Forecast from many origins and compare with what came.

    Args:
        model: fitted, to other series or to the steps before ``first``.
        series: with what came.
        horizon: H.
        origins: how many for each series, spread evenly from ``first`` to the last that has a whole
            horizon before the end.
        first: the earliest, one for all series or one for each; None for the middle of each.
        season: of the naive forecast, which gives the value of so many steps before; 1 for the last
            value.
        num_samples: of each forecast.
        density: also compute the negative ELBO, of the frames from ``first`` on.
        seed: of the samples.

    Raises:
        ValueError: impossible arguments, or no series long enough.
    """
    forecasts = backtest(
        model,
        series,
        horizon,
        origins=origins,
        first=first,
        num_samples=num_samples,
        seed=seed,
    )
    negative_elbo = None
    if density:
        terms = surprise(model, series, num_samples=10, seed=seed).negative_elbo
        earliest = _earliest(series, first)  # (N,)
        late = torch.arange(len(terms)).unsqueeze(1) >= earliest
        negative_elbo = terms[late & ~terms.isnan()].mean().item()
    naive = [naive_forecast(made.series, made.origins, horizon, season) for made in forecasts]
    return score(
        [made.samples for made in forecasts],
        [made.actual for made in forecasts],
        naive,
        channels=series.channels,
        negative_elbo=negative_elbo,
        seed=seed,
    )


def backtest(
    model: SeriesModel,
    series: Series,
    horizon: int,
    *,
    origins: int = 5,
    first: int | Sequence[int] | None = None,
    num_samples: int = 200,
    seed: int = 0,
) -> list[Forecast]:
    """Forecasts from several origins of each series; arguments are those of :func:`evaluate`."""
    check_positive("evaluate", horizon=horizon, origins=origins)
    earliest = _earliest(series, first)
    latest = series.lengths - horizon
    long_enough = (latest >= earliest).nonzero().flatten().tolist()
    if not long_enough:
        raise ValueError(
            f"evaluate: horizon={horizon} and first={first} given, and no series is long enough; "
            f"the longest has {series.num_steps} steps"
        )
    chosen = series.select(long_enough)
    low, high = earliest[long_enough], latest[long_enough]
    forecasts: list[Forecast] = []
    for k in range(origins):
        share = k / (origins - 1) if origins > 1 else 1.0
        at = (low + share * (high - low)).round().long()
        if forecasts and bool((at == forecasts[-1].origins).all()):
            continue
        made = forecast(
            model,
            chosen,
            horizon,
            num_samples=num_samples,
            origin=at.tolist(),
            seed=seed + k,
        )
        forecasts.append(made)
    return forecasts


def naive_forecast(series: Series, origins: Tensor, horizon: int, season: int = 1) -> Tensor:
    """The last value that there was, or that of the same place a season ago: ``(H, N, *event)``.

    Raises:
        ValueError: a season that is no positive number.
    """
    check_positive("evaluate", season=season)
    made = torch.full((horizon, *series.values.shape[1:]), torch.nan, dtype=series.values.dtype)
    for n, origin in enumerate(origins.tolist()):
        values = series.values[:origin, n].clone()
        for t in range(1, origin):  # a gap takes the value before it
            values[t] = torch.where(values[t].isnan(), values[t - 1], values[t])
        back = min(season, origin)
        for h in range(horizon):
            made[h, n] = values[origin - back + h % back]
    return made


def score(
    samples: Sequence[Tensor],
    actual: Sequence[Tensor],
    naive: Sequence[Tensor],
    *,
    channels: tuple[str, ...],
    negative_elbo: float | None = None,
    seed: int = 0,
) -> Scores:
    """Scores of forecasts, of any model.

    Args:
        samples: of each origin, ``(S, H, N, *event)``.
        actual: what came, ``(H, N, *event)`` each, NaN where it is not known.
        naive: the naive forecasts, ``(H, N, *event)`` each.
        channels: names along the first dimension of a frame.
        negative_elbo: is passed on.
        seed: of ties in the PIT, for values that are discrete.
    """
    drawn = torch.cat([_by_place(one, 3) for one in samples], dim=2)  # (S, H, N, C, places)
    came = torch.cat([_by_place(one, 2) for one in actual], dim=1)  # (H, N, C, places)
    simple = torch.cat([_by_place(one, 2) for one in naive], dim=1)
    there = ~came.isnan()
    filled = came.nan_to_num()
    crps = crps_empirical(drawn, filled)
    median = torch.quantile(drawn, 0.5, dim=0)
    coverage = {}
    for level in INTERVALS:
        tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=drawn.dtype)
        low, high = torch.quantile(drawn, tails, dim=0)
        inside = (filled >= low) & (filled <= high)
        coverage[level] = inside[there].double().mean().item()
    generator = torch.Generator().manual_seed(seed)
    ties = torch.rand(filled.shape, generator=generator, dtype=drawn.dtype)
    below, equal = (drawn < filled).sum(0), (drawn == filled).sum(0)
    pit = (below + ties * (equal + 1)) / (len(drawn) + 1)
    known = there & ~simple.isnan()
    return Scores(
        _over_series(crps, there),
        _over_series((simple.nan_to_num() - filled).abs(), known),
        _over_series((median - filled).abs(), there),
        coverage,
        pit[there],
        negative_elbo,
        channels,
    )


def _by_place(values: Tensor, leading: int) -> Tensor:
    """``(*leading, C, ...)`` with whatever follows the channels in one dimension."""
    return values.flatten(leading + 1) if values.dim() > leading + 1 else values.unsqueeze(-1)


def _over_series(values: Tensor, there: Tensor) -> Tensor:
    """Means over series and places: ``(H, N, C, places) -> (H, C)``, NaN where there is none."""
    counted = torch.where(there, values, 0.0).sum((1, 3))
    return counted / there.sum((1, 3))


def _mean(values: Tensor) -> float:
    return math.nan if values.numel() == 0 else values.nanmean().item()


def _earliest(series: Series, first: int | Sequence[int] | None) -> Tensor:
    if first is None:
        return (series.lengths // 2).clamp(min=1)
    earliest = torch.as_tensor(first).long().expand_as(series.lengths)
    if bool((earliest < 1).any()):
        raise ValueError(f"evaluate: first must be at least 1, got {int(earliest.min())}")
    return earliest
