"""Figures as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting.picture import png_of
from pyro_gtm.internals.files import write_atomically


def save(figure: Figure, path: Path, dpi: float = 150) -> None:
    """Write a PNG file, whole or not at all; the folder must exist.

    Args:
        figure: what to write.
        path: the file, replaced if there is one.
        dpi: pixels an inch.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, png_of(figure, dpi))
