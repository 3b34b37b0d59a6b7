"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

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
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    write_atomically(path, content.getvalue())
