"""Standardising: fitted on the training part, kept with the model, undone in every output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_gtm.series.data import Series, abridged

__all__ = ["Scaling"]


@dataclass(frozen=True)
class Scaling:
    """x to (x - location) / scale, for each channel; a channel that never changes keeps scale 1.

    A channel is an entry of a frame's first dimension; images have one location and scale a colour.
    """

    location: tuple[float, ...]
    """In the units of the data."""

    scale: tuple[float, ...]
    """A standard deviation, in the units of the data."""

    @classmethod
    def fit(cls, series: Series) -> Scaling:
        """Mean and standard deviation of the values that there are.

        Raises:
            ValueError: a channel has none.
        """
        _refuse_empty_channels(series)
        values = series.values.movedim(2, 0).flatten(1).double()  # (C, numbers)
        there = ~values.isnan()
        counts = there.sum(1)
        values = values.nan_to_num()
        location = values.sum(1) / counts
        apart = torch.where(there, values - location.unsqueeze(1), 0.0)
        scale = (apart.square().sum(1) / counts).sqrt()
        if not bool((scale.isfinite() & (scale < 1e30)).all()):
            which = int((~(scale < 1e30)).nonzero()[0])
            raise ValueError(
                f"Scaling: channel {series.channels[which]!r} has a standard deviation of "
                f"{scale[which].item():g}, less than 1e30 is allowed: give it in another unit"
            )
        # What is constant but for rounding.
        constant = scale <= 1e-12 * location.abs().clamp(min=1e-300)
        scale = torch.where(constant, 1.0, scale)
        return cls(tuple(location.tolist()), tuple(scale.tolist()))

    @classmethod
    def none(cls, series: Series) -> Scaling:
        """Values as they are, for binary, counted and numbered ones.

        Raises:
            ValueError: a channel has none.
        """
        _refuse_empty_channels(series)
        channels = series.event_shape[0]
        return cls((0.0,) * channels, (1.0,) * channels)

    def apply(self, values: Tensor) -> Tensor:
        """``(*batch, C, ...)`` of frames whose first dimension is that of the channels."""
        location, scale = self._like(values)
        return (values - location) / scale

    def undo(self, values: Tensor) -> Tensor:
        """The same, back to the units of the data."""
        location, scale = self._like(values)
        return values * scale + location

    def log_scale(self, values: Tensor) -> Tensor:
        """log of the scale of every element, broadcast to ``values``: a density in the units of the
        data is that of scaled values less this, summed over the values that there are."""
        return self._like(values)[1].log().expand_as(values)

    def _like(self, values: Tensor) -> tuple[Tensor, Tensor]:
        event = values.shape[2:]
        shape = (len(self.location), *[1] * (len(event) - 1))
        location, scale = (
            torch.tensor(part, dtype=torch.float64).to(values).reshape(shape)
            for part in (self.location, self.scale)
        )
        return location, scale

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return {"location": list(self.location), "scale": list(self.scale)}


def _refuse_empty_channels(series: Series) -> None:
    if empty := series.empty_channels:
        raise ValueError(
            f"data: no value of {abridged(empty)} is there in the training part: leave such "
            "channels out, or hold out less"
        )
