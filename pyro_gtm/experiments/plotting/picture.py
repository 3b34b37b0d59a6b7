"""A figure that a notebook shows by itself."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["Picture", "png_of"]


class Picture(Figure):
    """A figure that no global state knows of, and that a notebook shows all the same.

    IPython asks it for a PNG; other figures are shown only where pyplot's backend has said how.
    """

    def _repr_png_(self) -> bytes:
        return png_of(self, dpi=100)


def png_of(figure: Figure, dpi: float) -> bytes:
    """The content of a PNG file, of so many pixels an inch."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()
