"""The part of the training series that says when a fit is at its best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_gtm.series.data import Series, side_by_side
from pyro_gtm.series.surprising import surprise

if TYPE_CHECKING:
    from pyro_gtm.series.model import SeriesModel

__all__ = ["Validation", "validation_split"]

MANY_SERIES = 20
"""From so many on, whole series are set apart; of fewer, the last part of each."""

LEAST_STEPS = 20
"""Series that are shorter are not parted."""

MOST_SERIES = 64
"""That are looked at."""


@dataclass(frozen=True, eq=False)
class Validation:
    """Series of at most a window, and the step of each from which on it counts."""

    series: Series
    first: Tensor
    """``(N,)``."""

    def bound(self, model: SeriesModel) -> float:
        """The negative ELBO, in nats a frame that counts."""
        terms = surprise(model, self.series, num_samples=4).negative_elbo  # (T, N)
        counts = torch.arange(len(terms)).unsqueeze(1) >= self.first
        return terms[counts & ~terms.isnan()].mean().item()


def longest_window(series: Series, share: float) -> int:
    """Of a model of these series, of which ``share`` is set apart.

    Few series are seen in windows of two thirds of what is left to learn from: a window as long as
    that would be the same one each time.
    """
    if not _is_parted_in_time(series):
        return series.num_steps
    return max(2, int(2 / 3 * (1 - share) * series.num_steps))


def validation_split(
    series: Series, share: float, window: int, seed: int
) -> tuple[Series, Validation | None]:
    """What is learned from, and what is set apart; None where the series are too few and short.

    Args:
        series: to learn from.
        share: set apart; 0 for nothing.
        window: of the model.
        seed: of the choice of series.
    """
    if share == 0 or not bool(series.there.any()):
        return series, None
    if series.num_series >= MANY_SERIES:
        train, apart = series.split_series(share, seed)
        looked_at = apart.select(range(min(MOST_SERIES, apart.num_series)))
        ends = [looked_at.select([n]).steps(0, window) for n in range(looked_at.num_series)]
        first = torch.zeros(len(ends), dtype=torch.int64)
    elif _is_parted_in_time(series):
        train, _ = series.split_time(share)
        ends, starts = [], []
        for n, length in enumerate(series.lengths.tolist()):
            start = max(0, length - window)
            ends.append(series.select([n]).steps(start, length))
            starts.append(max(0, int(train.lengths[n]) - start))
        first = torch.tensor(starts)
    else:
        return series, None
    validation = Validation(side_by_side(ends), first)
    there = validation.series.there.flatten(2).any(-1)
    counts = torch.arange(len(there)).unsqueeze(1) >= first
    return (train, validation) if bool((there & counts).any()) else (series, None)


def _is_parted_in_time(series: Series) -> bool:
    """Whether it is the last part of each that is set apart."""
    return series.num_series < MANY_SERIES and int(series.lengths.min()) >= LEAST_STEPS
