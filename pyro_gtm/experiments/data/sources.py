"""The data by name, for ``--data`` on the command line."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from pyro_gtm.experiments.data.digits import load_digits
from pyro_gtm.experiments.data.images import ImageSplits
from pyro_gtm.experiments.data.mnist import load_mnist
from pyro_gtm.experiments.data.omniglot import load_omniglot
from pyro_gtm.experiments.data.recordings import RecordingSplits, load_recordings
from pyro_gtm.experiments.data.rooms import Rooms
from pyro_gtm.experiments.data.strokes import load_strokes
from pyro_gtm.internals.registry import Registry

Folder = str | os.PathLike[str]


class RoomSplits(NamedTuple):
    """Endless random rooms for training and testing; none comes twice."""

    train: Rooms
    test: Rooms


Splits: TypeAlias = ImageSplits | RecordingSplits | RoomSplits


def load_data(
    name: str,
    data_dir: Folder | None = None,
    download: bool = False,
    binarise: str = "threshold",
    seed: int = 0,
) -> Splits:
    """The train and test part of the source called ``name``, on the CPU.

    Args:
        name: one of ``SOURCES``.
        data_dir: the folder of a source that is read from one.
        download: fetch what that folder lacks, for a source that can be fetched.
        binarise: see :func:`prepare`; ``"none"`` for ``"rooms"`` and ``"recorded"``, which are in
            colour.
        seed: fixes the draws of ``binarise="sampled"``.

    Raises:
        ValueError: ``name`` is unknown; a folder is missing where one is needed, or given where
            none is read; the source cannot be fetched; coloured frames were to be made binary.
        MissingDataError: the data cannot be had; the message says how to get it.
    """
    return SOURCES.make(name).load(data_dir, download, binarise, seed)


class DataSource(ABC):
    """A source of frames; registered, it is one of ``--data``.

    Attributes:
        from_folder: whether it is read from a folder, which must then be named.
        instead_of: a source whose tasks can be made of this one too.
    """

    from_folder: ClassVar[bool] = False
    instead_of: ClassVar[str | None] = None

    @abstractmethod
    def load(self, data_dir: Folder | None, download: bool, binarise: str, seed: int) -> Splits:
        """The train and test part, on the CPU; arguments and errors are :func:`load_data`'s."""


SOURCES: Registry[DataSource] = Registry("data")
register_data = SOURCES.register


def usable_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """The sources that a task can be made of which lists ``sources``: these and their likes."""
    alike = (name for name in SOURCES if SOURCES.find(name).instead_of in sources)
    return (*sources, *alike)


@register_data("digits")
class DigitSource(DataSource):
    def load(
        self, data_dir: Folder | None, download: bool, binarise: str, seed: int
    ) -> ImageSplits:
        _takes_no_folder("digits", "installed with a package", data_dir, download)
        return load_digits(binarise, seed)


@register_data("mnist")
class MNISTSource(DataSource):
    from_folder = True

    def load(
        self, data_dir: Folder | None, download: bool, binarise: str, seed: int
    ) -> ImageSplits:
        return load_mnist(_folder("mnist", data_dir), download, binarise, seed)


@register_data("strokes")
class StrokeSource(DataSource):
    def load(
        self, data_dir: Folder | None, download: bool, binarise: str, seed: int
    ) -> ImageSplits:
        _takes_no_folder("strokes", "drawn on the spot", data_dir, download)
        return load_strokes(binarise, seed)


@register_data("omniglot")
class OmniglotSource(DataSource):
    from_folder = True

    def load(
        self, data_dir: Folder | None, download: bool, binarise: str, seed: int
    ) -> ImageSplits:
        return load_omniglot(_folder("omniglot", data_dir), download, binarise, seed)


@register_data("rooms")
class RoomSource(DataSource):
    def load(self, data_dir: Folder | None, download: bool, binarise: str, seed: int) -> RoomSplits:
        _takes_no_folder("rooms", "drawn on the spot", data_dir, download)
        _in_colour("rooms", binarise)
        return RoomSplits(train=Rooms(), test=Rooms())


@register_data("recorded")
class RecordingSource(DataSource):
    from_folder = True

    def load(
        self, data_dir: Folder | None, download: bool, binarise: str, seed: int
    ) -> RecordingSplits:
        folder = _folder("recorded", data_dir)
        if download:
            raise ValueError(
                "download: got True, must be False for the source 'recorded', which cannot be "
                "fetched but is made with examples/record_rooms.py"
            )
        _in_colour("recorded", binarise)
        return load_recordings(folder)


def _folder(name: str, data_dir: Folder | None) -> Folder:
    if data_dir is None:
        raise ValueError(
            f"data_dir: got None, must be the folder (`--data-dir DIR`) of the source {name!r}"
        )
    return data_dir


def _takes_no_folder(name: str, because: str, data_dir: Folder | None, download: bool) -> None:
    for option, value in (("data_dir", data_dir), ("download", download or None)):
        if value is not None:
            raise ValueError(
                f"{option}: got {value!r}, must be left out for the source {name!r}, which is "
                f"{because}"
            )


def _in_colour(name: str, binarise: str) -> None:
    if binarise != "none":
        raise ValueError(
            f"binarise: got {binarise!r}, must be 'none' for the source {name!r}, which has colours"
        )
