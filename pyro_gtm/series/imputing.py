"""Imputation: samples of the values that are missing."""

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
from pyro_gtm.series.data import Series
from pyro_gtm.series.figures import draw_imputation, save_figure
from pyro_gtm.series.passes import check_room, passes
from pyro_gtm.series.tables import QUANTILES, Row, center, gap_rows, save_table

if TYPE_CHECKING:
    from pyro_gtm.series.model import SeriesModel

__all__ = ["Imputation", "impute"]


@dataclass(frozen=True, eq=False)
class Imputation:
    """Samples of the gaps of each series, in the units of the data."""

    samples: Tensor
    """``(S, T, N, *event)``: values that there are as they were given, NaN behind a series' end."""

    series: Series
    """What was given."""

    num_categories: int | None = None
    """Of values that are categories: tables and figures have their shares among the samples."""

    @property
    def filled(self) -> Series:
        """The series, each gap filled with the mean of its samples, or their likeliest category."""
        return replace(self.series, values=center(self.samples, self.num_categories))

    def rows(self, levels: Sequence[float] = QUANTILES) -> list[Row]:
        """A row for each value that was missing: id, time, step, channel, mean, quantiles; of
        categories, the likeliest and the share of each."""
        return gap_rows(self.series, self.samples, levels, self.num_categories)

    def save(self, path: str | Path, levels: Sequence[float] = QUANTILES) -> None:
        """Write :meth:`rows` as a ``.csv`` or ``.parquet`` file."""
        save_table(self.rows(levels), path)

    def plot(self, path: str | Path | None = None) -> Figure:
        """The first series and channels, their gaps filled with a fan of quantiles."""
        return save_figure(draw_imputation(self), path)


@torch.no_grad()
def impute(
    model: SeriesModel, series: Series, *, num_samples: int = 100, seed: int = 0
) -> Imputation:
    """Samples of the values that are missing.

    Latents of frames that there are, in part or whole, come from the posterior, which sees what is
    there up to that frame; those of missing frames from the prior.  What is drawn is written to the
    memory as if it had come, so that each sample goes through a gap as a forecast would.  What
    comes *after* a gap is not looked at: the posterior filters.

    Args:
        model: fitted.
        series: with gaps.
        num_samples: S.
        seed: of the samples.

    Raises:
        ValueError: impossible arguments; gaps inside frames where the model cannot have them.
    """
    check_positive("impute", num_samples=num_samples)
    batch = model.frames(series)
    shape = (num_samples, *series.values.shape)
    check_room("impute", shape, f"num_samples={num_samples}")
    samples = series.values.expand(shape).clone()
    gaps = series.gaps
    with model.asked(seed):
        for part in passes(batch, model.window):
            missing = gaps[part.kept]
            if not bool(missing.any()):
                continue
            for chunk in part.repeated(num_samples, model.size_of_one):
                frames, mask = chunk.frames, chunk.mask
                if part.new:  # each sample goes on with what it has drawn so far
                    done = slice(part.kept.start - part.new, part.kept.start)
                    so_far = samples[chunk.numbers, done].movedim(1, 0).flatten(1, 2)
                    before = model.framed(so_far)
                    frames = torch.cat([before[0], frames[part.new :]])
                    mask = torch.cat([before[1], mask[part.new :]])
                drawn = continue_frames(
                    model.program,
                    model.memory,
                    frames,
                    num_steps=len(frames),
                    controls=chunk.controls,
                    mask=mask,
                    fill_gaps=True,
                )[part.new :]
                values = model.values(drawn).to(samples)  # (W, count * N, *event)
                values = values.unflatten(1, (-1, series.num_series)).movedim(1, 0)
                filled = torch.where(missing, values, series.values[part.kept])
                samples[chunk.numbers, part.kept] = filled
    return Imputation(samples, series, model.likelihood.num_categories)
