"""Runs in TensorBoard: scalars, what is made of held-out sequences, and histograms of weights."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pyro_gtm.experiments.metrics_log import Row
from pyro_gtm.experiments.plotting.picture import png_of
from pyro_gtm.experiments.report import SHOWN_SEQUENCES, draw_sequences
from pyro_gtm.experiments.run import Run
from pyro_gtm.tasks import Sequences

__all__ = ["FOLDER", "TensorBoardLog", "summary_writer"]

FOLDER = "tensorboard"
"""Of the event files, in the run's."""


def summary_writer() -> Any:
    """PyTorch's class that writes event files.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "--tensorboard: needs the package tensorboard; install it with the extra "
            "pyro_gtm[tensorboard], or leave the option out"
        ) from error
    return SummaryWriter


class TensorBoardLog:
    """Writes rows of metrics as they come, to be shown by ``tensorboard --logdir runs``.

    With every evaluation it adds the first held-out sequences beside what the model makes of them,
    and histograms of all weights.  Nothing of it touches the run: its random numbers stay.

    Args:
        run: that is to be trained; rows beyond its present step, of a run that was killed, are
            hidden.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.writer = summary_writer()(str(run.folder / FOLDER), purge_step=run.step + 1)

    @cached_property
    def shown(self) -> Sequences:
        """The first held-out sequences, which are the same in every evaluation."""
        return self.run.experiment.held_out().first(SHOWN_SEQUENCES)

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # as of a full disk, for which no run ends
            self.writer.close()

    def __call__(self, row: Row) -> None:
        """Take a row of metrics; what a step says of itself is not one.

        Raises:
            OSError: it cannot be written, of which a warning has said so.
        """
        if "split" not in row:
            return
        try:
            self._add(row)
        except OSError as error:
            warnings.warn(
                f"TensorBoard gets no more of this run, whose events cannot be written: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            raise

    def _add(self, row: Row) -> None:
        split, step = row["split"], row["step"]
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "step":
                self.writer.add_scalar(f"{name}/{split}", value, step)
        if split == "test":
            self._add_pictures(step)
            self._add_histograms(step)

    def _add_pictures(self, step: int) -> None:
        experiment = self.run.experiment
        figures = draw_sequences(experiment, self.shown, experiment.test_task.num_given)
        for name, figure in figures.items():
            self.writer.add_image(name, _pixels(figure), step, dataformats="HWC")

    def _add_histograms(self, step: int) -> None:
        for owner in ("program", "memory"):
            module = getattr(self.run.experiment, owner)
            for name, parameter in module.named_parameters():
                self.writer.add_histogram(f"{owner}/{name}", parameter.detach().cpu(), step)


def _pixels(figure: Figure) -> Any:
    """A figure as ``(height, width, 3)`` of bytes."""
    return np.asarray(Image.open(io.BytesIO(png_of(figure, dpi=80))).convert("RGB"))
