"""Forecasts: samples of what comes after a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gtm.infer import continue_frames
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.series.data import Series, one_each
from pyro_gtm.series.figures import draw_forecast, save_figure
from pyro_gtm.series.passes import check_room, repeated
from pyro_gtm.series.tables import (
    QUANTILES,
    Row,
    center,
    check_quantiles,
    quantile_rows,
    save_table,
)

if TYPE_CHECKING:
    from pyro_gtm.series.model import SeriesModel

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Samples of the next steps of each series, in the units of the data."""

    samples: Tensor
    """``(S, H, N, *event)``."""

    origins: Tensor
    """The step that is forecast first, for each series: ``(N,)``; what came before was given."""

    series: Series
    """What was given, and perhaps what really came."""

    num_categories: int | None = None
    """Of values that are categories: tables and figures have their shares among the samples."""

    @property
    def horizon(self) -> int:
        """H."""
        return self.samples.shape[1]

    @property
    def mean(self) -> Tensor:
        """Of the samples, or their likeliest category: ``(H, N, *event)``."""
        return center(self.samples, self.num_categories)

    def quantiles(self, levels: Sequence[float] = QUANTILES) -> Tensor:
        """``(len(levels), H, N, *event)``.

        Raises:
            ValueError: a level outside (0, 1).
        """
        return torch.quantile(self.samples, check_quantiles(levels).to(self.samples), dim=0)

    @property
    def actual(self) -> Tensor:
        """What came, as far as it is known: ``(H, N, *event)``, else NaN."""
        values = self.series.values
        actual = torch.full_like(self.samples[0], torch.nan)
        for n, origin in enumerate(self.origins.tolist()):
            known = values[origin : origin + self.horizon, n]
            actual[: len(known), n] = known
        return actual

    def rows(self, levels: Sequence[float] = QUANTILES) -> list[Row]:
        """A row for each series, step and channel: id, time, step, horizon, channel, mean,
        quantiles (of categories, the likeliest and the share of each), and the value that came,
        where it is known."""
        return quantile_rows(
            self.series,
            self.samples,
            levels,
            [(n, int(origin)) for n, origin in enumerate(self.origins)],
            self.actual,
            self.num_categories,
        )

    def save(self, path: str | Path, levels: Sequence[float] = QUANTILES) -> None:
        """Write :meth:`rows` as a ``.csv`` or ``.parquet`` file."""
        save_table(self.rows(levels), path)

    def plot(self, path: str | Path | None = None) -> Figure:
        """A fan of quantiles after the last steps of each of the first series and channels."""
        return save_figure(draw_forecast(self), path)


@torch.no_grad()
def forecast(
    model: SeriesModel,
    series: Series,
    horizon: int,
    *,
    num_samples: int = 200,
    origin: int | Sequence[int] | None = None,
    seed: int = 0,
) -> Forecast:
    """Samples of the next ``horizon`` steps of each series.

    The model is shown the steps before the origin: the last of them that, with the horizon, fill
    its window, and half a window at least.  Beyond its window it goes on, but was not trained to.

    Args:
        model: fitted.
        series: what there is; controls must reach as far as the horizon.
        horizon: H.
        num_samples: S.
        origin: the first step that is forecast, one for all series or one for each; None for the
            end of each.
        seed: of the samples.

    Raises:
        ValueError: impossible arguments, or controls that end before the horizon.
    """
    check_positive("forecast", horizon=horizon, num_samples=num_samples)
    origins = series.lengths.clone()
    if origin is not None:
        origins = one_each("forecast", "origin", origin, series.num_series)
    if bool(((origins < 1) | (origins > series.lengths)).any()):
        raise ValueError(
            f"forecast: origin must lie from 1 to the length of every series, the shortest of "
            f"{int(series.lengths.min())} steps, got {origin}"
        )
    context = max(model.window - horizon, (model.window + 1) // 2)
    batch = model.frames(series)
    shape = (num_samples, horizon, series.num_series, *series.event_shape)
    check_room("forecast", shape, f"num_samples={num_samples} and horizon={horizon}")
    samples = torch.empty(shape, dtype=series.values.dtype)
    with model.asked(seed):
        for at in origins.unique().tolist():
            start = max(0, at - context)
            which = (origins == at).nonzero().flatten()
            frames, mask = batch.frames[start:at, which], batch.mask[start:at, which]
            controls = None
            if batch.controls is not None and series.controls is not None:
                if len(batch.controls) < at + horizon:
                    raise ValueError(
                        f"forecast: controls for {len(batch.controls)} steps given, "
                        f"{at + horizon} needed for horizon={horizon}"
                    )
                controls = batch.controls[start : at + horizon, which]
                known = series.controls[start : at + horizon, which].isfinite().flatten(2).all(-1)
                if not bool(known.all()):
                    ends = int((~known.all(0)).nonzero()[0])
                    raise ValueError(
                        f"forecast: the controls of {series.ids[int(which[ends])]!r} end before "
                        f"horizon={horizon}"
                    )
            for chunk in repeated(frames, mask, controls, num_samples, model.size_of_one):
                drawn = continue_frames(
                    model.program,
                    model.memory,
                    chunk.frames,
                    num_steps=at - start + horizon,
                    controls=chunk.controls,
                    mask=chunk.mask,
                    sample=True,
                    fill_gaps=True,
                )[at - start :]  # (H, count * n, *event)
                values = model.values(drawn).to(samples).unflatten(1, (-1, len(which)))
                samples[chunk.numbers, :, which] = values.movedim(1, 0)
    series = replace(series, known_spacing=model.spacing)
    return Forecast(samples, origins, series, model.likelihood.num_categories)
