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
from pyro_gtm.series.data import Series, one_each
from pyro_gtm.series.figures import draw_scores, save_figure
from pyro_gtm.series.forecasting import Forecast, forecast
from pyro_gtm.series.passes import check_room
from pyro_gtm.series.surprising import surprise
from pyro_gtm.series.tables import Row, save_table

if TYPE_CHECKING:
    from pyro_gtm.series.model import SeriesModel

__all__ = [
    "INTERVALS",
    "Scores",
    "backtest",
    "evaluate",
    "fair_crps",
    "naive_forecast",
    "score",
]

INTERVALS = (0.5, 0.8, 0.95)
"""Central intervals whose coverage is reported."""

MOST_ORIGINS = 10_000
"""Forecasts of each series."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What forecasts were worth, over origins, series and the elements of frames.

    Categories have no order: their score is the same with a distance of 1 between any two, which is
    half the Brier score, and they have neither intervals nor quantiles.
    """

    crps: Tensor
    """Continuous ranked probability score, in the units of the data: ``(H, C)``.  It is the fair
    one, the same on average for few samples as for many."""

    naive_crps: Tensor
    """That of the naive forecast, the last value or that of a season ago: ``(H, C)``."""

    absolute_error: Tensor
    """Of the median, ``(H, C)``; of the likeliest category, the share of errors."""

    coverage: dict[float, float]
    """The share of values inside each central interval, by its level; NaN where there are less than
    2 / (1 - level) - 1 samples, too few for such an interval."""

    pit: Tensor
    """Where each value lies among the samples, in [0, 1]; even, if the forecast is calibrated."""

    negative_elbo: float | None
    """Nats a frame, of densities in the units of the data; None where it was not asked for."""

    channels: tuple[str, ...]

    values: int
    """How many were compared."""

    num_categories: int | None = None
    """Of values that are categories."""

    @property
    def score_name(self) -> str:
        """Of :attr:`crps`, for a table or a figure."""
        return "CRPS" if self.num_categories is None else "half the Brier score"

    def summary(self) -> dict[str, Any]:
        """The figures that are reported, each a mean over horizons and channels."""
        return {
            "crps": _mean(self.crps),
            "naive_crps": _mean(self.naive_crps),
            "absolute_error_of_median": _mean(self.absolute_error),
            **{f"coverage_{level:g}": share for level, share in self.coverage.items()},
            "negative_elbo_per_frame": self.negative_elbo,
            "values": self.values,
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
            horizon before the end; a series that has fewer is forecast from each of them once.
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
        num_categories=model.likelihood.num_categories,
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
    """Forecasts from several origins of each series; arguments are those of :func:`evaluate`.

    Each forecast has its own :attr:`~pyro_gtm.series.Forecast.series`: those that are long enough
    and were not forecast from that origin before.
    """
    check_positive("evaluate", horizon=horizon, origins=origins)
    if origins > MOST_ORIGINS:
        raise ValueError(f"evaluate: origins must be at most {MOST_ORIGINS:,}, got {origins:,}")
    earliest = _earliest(series, first)
    latest = series.lengths - horizon
    long_enough = (latest >= earliest).nonzero().flatten().tolist()
    if not long_enough:
        raise ValueError(
            f"evaluate: horizon={horizon} and first={first} given, and no series is long enough; "
            f"the longest has {series.num_steps} steps"
        )
    low, high = earliest[long_enough], latest[long_enough]
    shares = torch.linspace(0, 1, origins) if origins > 1 else torch.ones(1)
    at = (low + shares.unsqueeze(1).double() * (high - low)).round().long()  # (K, N)
    new = torch.ones_like(at, dtype=torch.bool)
    new[1:] = at[1:] != at[:-1]
    elements = math.prod(series.event_shape)
    check_room(
        "evaluate",
        (num_samples, horizon, int(new.sum()), elements),
        f"num_samples={num_samples}, horizon={horizon} and origins={origins}",
    )
    forecasts: list[Forecast] = []
    for k in range(origins):
        which = new[k].nonzero().flatten().tolist()
        if not which:
            continue
        made = forecast(
            model,
            series.select([long_enough[i] for i in which]),
            horizon,
            num_samples=num_samples,
            origin=at[k, which].tolist(),
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
    num_categories: int | None = None,
    seed: int = 0,
) -> Scores:
    """Scores of forecasts, of any model.

    Args:
        samples: of each origin, ``(S, H, N, *event)``.
        actual: what came, ``(H, N, *event)`` each, NaN where it is not known.
        naive: the naive forecasts, ``(H, N, *event)`` each.
        channels: names along the first dimension of a frame.
        negative_elbo: is passed on.
        num_categories: of values that are categories.
        seed: of ties in the PIT, for values that are discrete.

    Raises:
        ValueError: there is no forecast.
    """
    if not len(samples):
        raise ValueError("score: samples of no forecast given, at least one is needed")
    drawn = torch.cat([_by_place(one, 3) for one in samples], dim=2)  # (S, H, N, C, places)
    came = torch.cat([_by_place(one, 2) for one in actual], dim=1)  # (H, N, C, places)
    simple = torch.cat([_by_place(one, 2) for one in naive], dim=1)
    there = ~came.isnan()
    filled = came.nan_to_num()
    if num_categories is None:
        crps = fair_crps(drawn, filled)
        error = (torch.quantile(drawn, 0.5, dim=0) - filled).abs()
        naive_error = (simple.nan_to_num() - filled).abs()
        coverage = {level: _coverage(drawn, filled, there, level) for level in INTERVALS}
        pit = _pit(drawn, filled, seed)[there]
    else:
        crps = _half_brier(drawn, filled, num_categories)
        error = (drawn.mode(0).values != filled).to(drawn)
        naive_error = (simple.nan_to_num() != filled).to(drawn)
        coverage, pit = {}, drawn.new_empty(0)
    return Scores(
        _over_series(crps, there),
        _over_series(naive_error, there & ~simple.isnan()),
        _over_series(error, there),
        coverage,
        pit,
        negative_elbo,
        channels,
        int(there.sum()),
        num_categories,
    )


def fair_crps(samples: Tensor, actual: Tensor) -> Tensor:
    """E|X - x| - E|X - X'| / 2 over different samples X, X'.

    Pyro's, over all pairs, a sample with itself among them, gives a forecast of few samples more
    than its distribution deserves.

    Source: Ferro 2014, Quarterly Journal of the Royal Meteorological Society 140, equation 5.

    Args:
        samples: ``(S, *shape)``; of one sample the absolute error is left.
        actual: ``(*shape)``.
    """
    count = len(samples)
    error = (samples - actual).abs().mean(0)
    spread = error - crps_empirical(samples, actual)  # of all S² pairs
    return error - spread * count / max(1, count - 1)


def _half_brier(samples: Tensor, actual: Tensor, num_categories: int) -> Tensor:
    """The fair score with a distance of 1 between different categories."""
    count = len(samples)
    counts = torch.stack([(samples == k).sum(0) for k in range(num_categories)]).to(samples)
    alike = (counts * (counts - 1)).sum(0) / max(1, count * (count - 1))  # of different samples
    if count == 1:
        alike = torch.ones_like(alike)
    return (samples != actual).to(samples).mean(0) - (1 - alike) / 2


def _coverage(samples: Tensor, actual: Tensor, there: Tensor, level: float) -> float:
    """The share of values inside the central interval.

    Its ends are at the ranks p (S + 1), between which a value like the samples falls with just this
    probability, however few they are.
    """
    count = len(samples)
    tail = (1 - level) / 2
    rank = tail * (count + 1)  # from 1
    if rank < 1 - 1e-9:
        return math.nan
    lower = (rank - 1) / max(1, count - 1)
    tails = torch.tensor([lower, 1 - lower], dtype=samples.dtype).clamp(0, 1)
    low, high = torch.quantile(samples, tails, dim=0)
    inside = (actual >= low) & (actual <= high)
    return inside[there].double().mean().item()


def _pit(samples: Tensor, actual: Tensor, seed: int) -> Tensor:
    """Where values lie among samples, ties broken at random."""
    generator = torch.Generator().manual_seed(seed)
    ties = torch.rand(actual.shape, generator=generator, dtype=samples.dtype)
    below, equal = (samples < actual).sum(0), (samples == actual).sum(0)
    return (below + ties * (equal + 1)) / (len(samples) + 1)


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
    earliest = one_each("evaluate", "first", first, series.num_series)
    if bool((earliest < 1).any()):
        raise ValueError(f"evaluate: first must be at least 1, got {int(earliest.min())}")
    return earliest
