"""Series that a model makes up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure

from pyro_gtm.handlers import use_memory
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.series.data import Series
from pyro_gtm.series.figures import draw_series, save_figure
from pyro_gtm.series.passes import check_room
from pyro_gtm.series.tables import Row, save_table, value_rows

if TYPE_CHECKING:
    from pyro_gtm.series.model import SeriesModel

__all__ = ["Generated", "generate"]


@dataclass(frozen=True, eq=False)
class Generated:
    """Series that were made up, in the units of the data."""

    series: Series

    def rows(self) -> list[Row]:
        """A row for each value: id, time, step, channel, value."""
        return value_rows(self.series)

    def save(self, path: str | Path) -> None:
        """Write :meth:`rows` as a ``.csv`` or ``.parquet`` file."""
        save_table(self.rows(), path)

    def plot(self, path: str | Path | None = None) -> Figure:
        """The first series and channels."""
        return save_figure(draw_series(self.series), path)


@torch.no_grad()
def generate(
    model: SeriesModel, num_series: int, num_steps: int, *, controls: Any = None, seed: int = 0
) -> Generated:
    """Draw series from the prior.

    Args:
        model: fitted.
        num_series: N.
        num_steps: T; the model was trained on windows of ``model.window``.
        controls: c_t, ``(N, T, K)``, where it was fitted with some.
        seed: of the draws.

    Raises:
        ValueError: impossible arguments.
    """
    check_positive("generate", num_series=num_series, num_steps=num_steps)
    check_room(
        "generate",
        (num_series, num_steps, *model.event_shape),
        f"num_series={num_series} and num_steps={num_steps}",
    )
    count = len(model.control_names)
    wanted = (num_series, num_steps, count)
    given = None if controls is None else torch.as_tensor(controls)
    if (count > 0) != (given is not None) or (given is not None and given.shape != wanted):
        raise ValueError(
            f"generate: controls of shape {None if given is None else tuple(given.shape)} given, "
            f"{wanted if count else None} needed"
        )
    moved = None if given is None else given.movedim(0, 1).to(model.program.like)
    program = model.program.with_layout("per_step")
    with model.asked(seed):
        frames = use_memory(model.memory)(program.model)(
            controls=moved, num_steps=num_steps, batch_size=num_series
        )
    values = model.values(frames).cpu()
    series = Series.of(
        values,
        channels=model.channels,
        ids=[f"generated {n}" for n in range(num_series)],
        layout="time_first",
    )
    return Generated(series)
