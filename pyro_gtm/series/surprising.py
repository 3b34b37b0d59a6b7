"""Surprise: how unexpected each frame is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gtm.infer import evaluate, importance_weighted_bound
from pyro_gtm.internals.checks import check_not_negative, check_positive
from pyro_gtm.series.data import Series
from pyro_gtm.series.figures import draw_surprise, save_figure
from pyro_gtm.series.passes import passes
from pyro_gtm.series.tables import Row, frame_rows, save_table

if TYPE_CHECKING:
    from pyro_gtm.series.model import SeriesModel

__all__ = ["Surprise", "surprise"]


@dataclass(frozen=True, eq=False)
class Surprise:
    """The two terms of the negative ELBO for each frame, in nats, of densities in the units of the
    data; NaN for a missing frame."""

    kl: Tensor
    """KL[q(z_t | x_<=t) ‖ p(z_t | x_<t)], how far the frame changes what was expected:
    ``(T, N)``."""

    reconstruction: Tensor
    """-log p(x_t | z_t, Ψ_t), what is left when it was seen: ``(T, N)``."""

    series: Series

    evidence: Tensor | None = None
    """The importance-weighted bound on log p of each whole series, ``(N,)``; None unless asked."""

    @property
    def values(self) -> Tensor:
        """How many values there are in each frame: ``(T, N)``."""
        return self.series.there.flatten(2).sum(-1)

    @property
    def per_value(self) -> Tensor:
        """The negative ELBO over the number of values, ``(T, N)``: to hold frames with gaps inside
        against whole ones, which have more to be surprised by."""
        return self.negative_elbo / self.values

    @property
    def negative_elbo(self) -> Tensor:
        """The sum of the two, a bound on -log p(x_t | x_<t) summed over a series: ``(T, N)``."""
        return self.kl + self.reconstruction

    def rows(self) -> list[Row]:
        """A row for each frame: id, time, step, kl, reconstruction, negative_elbo, the number of
        its values, and negative_elbo_per_value."""
        terms = {
            "kl": self.kl,
            "reconstruction": self.reconstruction,
            "negative_elbo": self.negative_elbo,
            "values": self.values,
            "negative_elbo_per_value": self.per_value,
        }
        return frame_rows(self.series, terms)

    def save(self, path: str | Path) -> None:
        """Write :meth:`rows` as a ``.csv`` or ``.parquet`` file."""
        save_table(self.rows(), path)

    def plot(self, path: str | Path | None = None) -> Figure:
        """The first series with their surprise below them."""
        return save_figure(draw_surprise(self), path)


@torch.no_grad()
def surprise(
    model: SeriesModel,
    series: Series,
    *,
    num_samples: int = 10,
    num_particles: int = 0,
    seed: int = 0,
) -> Surprise:
    """How unexpected each frame is to a fitted model.

    Args:
        model: fitted.
        series: perhaps with gaps; only the values that there are count.
        num_samples: of the posterior, over which the terms are averaged.
        num_particles: of the importance-weighted bound (:func:`pyro_gtm.infer.
            importance_weighted_bound`); 0 for none.  Series longer than the window are
            refused for it.
        seed: of the samples.

    Raises:
        ValueError: impossible arguments.
    """
    check_positive("surprise", num_samples=num_samples)
    check_not_negative("surprise", num_particles=num_particles)
    if num_particles and series.num_steps > model.window:
        raise ValueError(
            f"surprise: num_particles={num_particles} given for a series of {series.num_steps} "
            f"steps, and the bound is of series within the model's window of {model.window}"
        )
    batch = model.frames(series)
    logs = model.scaling.log_scale(series.values)
    log_scale = torch.where(series.there, logs, 0.0).flatten(2).sum(-1)  # (T, N)
    terms = torch.zeros(2, *series.values.shape[:2], dtype=series.values.dtype)
    evidence = None
    guide = model.guide()
    with model.asked(seed):
        for part in passes(batch, model.window):
            for chunk in part.repeated(num_samples, model.size_of_one):
                result = evaluate(guide, chunk.frames, chunk.controls, mask=chunk.mask)
                for i, term in enumerate((result.kl, result.reconstruction)):
                    of_samples = term[part.new :].unflatten(1, (-1, series.num_series))
                    terms[i, part.kept] += of_samples.sum(1).to(terms) / num_samples
        if num_particles:
            controls = None if batch.controls is None else batch.controls[: len(batch.frames)]
            bound = importance_weighted_bound(
                guide, batch.frames, controls, mask=batch.mask, num_particles=num_particles
            )
            evidence = bound.cpu() - log_scale.sum(0)
    there = series.there.flatten(2).any(-1)
    kl = torch.where(there, terms[0], torch.nan)
    reconstruction = torch.where(there, terms[1] + log_scale, torch.nan)
    return Surprise(kl, reconstruction, series, evidence)
