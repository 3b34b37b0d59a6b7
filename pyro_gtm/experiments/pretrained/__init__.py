"""Models that come with the package, trained: a folder each, with a card that says what they are.

A folder is a run's, without the state of training: :class:`~pyro_gtm.experiments.run.Run` loads it,
``--init-from`` takes its weights.  ``pyro-gtm export`` makes such a folder of a run.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pyro_gtm.experiments.run import Run

__all__ = ["DEFAULT", "load_pretrained", "pretrained_folder", "pretrained_names"]

DEFAULT = "perfect_recall"
"""The one to begin with."""


def pretrained_names() -> list[str]:
    """The names, each that of its task."""
    return sorted(path.name for path in _home().iterdir() if (path / "config.json").is_file())


def pretrained_folder(name: str) -> Path:
    """Where a model is.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in pretrained_names():
        raise ValueError(
            f"pretrained: got {name!r}, must be one of {', '.join(pretrained_names())}"
        )
    return _home() / name


def load_pretrained(name: str = DEFAULT, device: str = "auto") -> Run:
    """A trained model with its held-out sequences, for generation or evaluation.

    Args:
        name: one of :func:`pretrained_names`.
        device: where to load it.

    Raises:
        ValueError: there is none of that name, or no such device.
        MissingDataError: the package that its images come with is not installed.
    """
    return Run.load(pretrained_folder(name), device)


def _home() -> Path:
    return Path(str(files(__name__)))
