"""Turns on the spot recorded from an environment, in place of the rooms that are drawn here.

``examples/record_rooms.py`` makes such recordings.  A split is one .npz file, ``train.npz`` or
``test.npz``, of four arrays::

    frames           uint8, (N, T, H, W, 3): N sequences of T frames, H = W
    degrees          float: the angle from a frame to the next
    field_of_view    float: the degrees that a frame shows, across
    environment      str: what was recorded
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_gtm.experiments.data.files import folder_of, is_there, opened
from pyro_gtm.experiments.data.images import MissingDataError
from pyro_gtm.experiments.data.rooms import Turn
from pyro_gtm.internals.array_files import ArrayArchive, ArrayFileError, open_archive
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.internals.files import write_atomically

MOST_BYTES = 2**34  # of the frames in a file: 2,000 turns of 30 frames of 256 x 256 take 11 GiB
MOST_NAME_BYTES = 2**10  # of the environment's name, and of each number


class Recordings:
    """Recorded turns on one device, in place of :class:`Rooms`.

    Args:
        frames: N sequences of T frames, ``(N, T, size, size, 3)`` of uint8.
        degrees: the angle from a frame to the next, above 0 and below 360.
        environment: the name of what was recorded.
        field_of_view: the degrees that a frame shows across, above 0 and at most 180.

    Raises:
        ValueError: the frames or an angle are not so.
    """

    def __init__(
        self, frames: Tensor, degrees: float, environment: str, field_of_view: float = 90.0
    ) -> None:
        _check_frames(str(frames.dtype), tuple(frames.shape))
        if not 0 < degrees < 360:
            raise ValueError(f"degrees: got {degrees}, must be above 0 and below 360")
        if not 0 < field_of_view <= 180:
            raise ValueError(f"field_of_view: got {field_of_view}, must be above 0 and at most 180")
        self.frames = frames
        self.degrees = float(degrees)
        self.environment = environment
        self.field_of_view = float(field_of_view)

    @property
    def device(self) -> torch.device:
        """The device of the recordings, on which sequences are drawn."""
        return self.frames.device

    def to(self, device: torch.device | str) -> Recordings:
        """The same recordings on ``device``."""
        return Recordings(
            self.frames.to(device), self.degrees, self.environment, self.field_of_view
        )

    def check(self, num_frames: int, *, degrees: float, size: int) -> None:
        """Refuse a turn that was not recorded.

        Raises:
            ValueError: it was not.
        """
        _, recorded_steps, recorded_size, _, _ = self.frames.shape
        if num_frames > recorded_steps:
            raise ValueError(
                f"num_frames: got {num_frames}, must be at most {recorded_steps}, the length of "
                f"the sequences recorded from {self.environment}"
            )
        if size != recorded_size:
            raise ValueError(
                f"size: got {size}, must be {recorded_size}, the size of the frames recorded from "
                f"{self.environment}"
            )
        if not math.isclose(degrees, self.degrees, rel_tol=0, abs_tol=1e-6):
            raise ValueError(
                f"degrees: got {degrees}, must be {self.degrees}, the angle between the frames "
                f"recorded from {self.environment}"
            )

    def turn(
        self,
        num_frames: int,
        batch_size: int,
        *,
        degrees: float,
        size: int,
        generator: torch.Generator | None = None,
    ) -> Turn:
        """The first frames of ``batch_size`` sequences, uniform with replacement.

        Args:
            num_frames: T, at most as many as were recorded.
            batch_size: B, at least 1.
            degrees: the angle from a frame to the next; must be the recorded one.
            size: pixels of a frame, across and from top to bottom; must be the recorded ones.
            generator: of random numbers, on the device of the recordings; the global one of that
                device if None.

        Returns:
            Frames, and headings that count from the first frame, as no others were recorded.

        Raises:
            ValueError: the turn was not recorded, or a number is below 1.
        """
        check_positive("Recordings.turn", num_frames=num_frames, batch_size=batch_size, size=size)
        self.check(num_frames, degrees=degrees, size=size)
        index = torch.randint(
            len(self.frames), (batch_size,), generator=generator, device=self.device
        )
        levels = self.frames[index, :num_frames]  # (B, T, size, size, 3)
        frames = levels.permute(1, 0, 4, 2, 3).float().div_(255)
        steps = torch.arange(num_frames, device=self.device, dtype=torch.float64)
        heading = (self.degrees * steps).unsqueeze(1).expand(-1, batch_size)
        return Turn(frames.contiguous(), heading)


class RecordingSplits(NamedTuple):
    """Recordings to learn from, and others to be judged on."""

    train: Recordings
    test: Recordings


def load_recordings(data_dir: str | os.PathLike[str]) -> RecordingSplits:
    """The recordings in the folder ``data_dir``, on the CPU.

    Raises:
        MissingDataError: ``train.npz`` or ``test.npz`` is missing, damaged, or holds something
            else.
    """
    folder = folder_of(data_dir)
    return RecordingSplits(_load(folder / "train.npz"), _load(folder / "test.npz"))


def save_recordings(
    path: str | os.PathLike[str],
    frames: npt.NDArray[np.uint8],
    degrees: float,
    environment: str,
    field_of_view: float = 90.0,
) -> None:
    """Write one split for :func:`load_recordings`.

    Args:
        path: the file.
        frames: as in :class:`Recordings`, as all that follow.

    Raises:
        ValueError: :class:`Recordings` would refuse them.
    """
    Recordings(torch.tensor(frames), degrees, environment, field_of_view)
    archive = io.BytesIO()
    np.savez_compressed(
        archive,
        frames=frames,
        degrees=np.float64(degrees),
        field_of_view=np.float64(field_of_view),
        environment=np.str_(environment),
    )
    write_atomically(Path(path), archive.getvalue())


def _check_frames(dtype: str, shape: tuple[int, ...]) -> None:
    square = len(shape) == 5 and shape[2] == shape[3] and shape[4] == 3
    levels = dtype in ("uint8", "torch.uint8")
    if levels and square and 0 not in shape:
        return
    hint = ""
    if not levels:
        hint = ", as levels from 0 to 255"
    elif len(shape) == 5 and shape[4] != 3 and shape[2] == 3:
        hint = ", with the colours last"
    elif len(shape) == 5 and shape[4] == 4:
        hint = ", without the transparency"
    raise ValueError(
        f"frames: got {dtype} of shape {shape}, must be uint8 of shape (N, T, size, size, 3) with "
        f"no dimension 0{hint}"
    )


def _load(path: Path) -> Recordings:
    how = "make it with `python examples/record_rooms.py`"
    if not is_there(path):
        raise MissingDataError(f"{path} is missing: {how}.")
    try:
        with opened(path) as file, open_archive(file) as archive:
            header = archive.header("frames")
            _check_frames(header.dtype.name, header.shape)
            degrees, field_of_view = _number(archive, "degrees"), _number(archive, "field_of_view")
            environment = _words(archive, "environment")
            frames = np.ascontiguousarray(archive.read("frames", MOST_BYTES))
            return Recordings(torch.from_numpy(frames), degrees, environment, field_of_view)
    except ValueError as error:
        reason = f"it {error}" if isinstance(error, ArrayFileError) else error
        raise MissingDataError(f"{path} holds no recording: {reason}; {how}.") from error


def _number(archive: ArrayArchive, name: str) -> float:
    header = archive.header(name)
    if header.dtype.kind not in "iuf" or math.prod(header.shape) != 1:
        raise ValueError(
            f"{name}: got {header.dtype} of shape {header.shape}, must be one real number"
        )
    return float(archive.read(name, MOST_NAME_BYTES).item())


def _words(archive: ArrayArchive, name: str) -> str:
    header = archive.header(name)
    if header.dtype.kind != "U" or math.prod(header.shape) != 1:
        raise ValueError(f"{name}: got {header.dtype} of shape {header.shape}, must be one string")
    words = str(archive.read(name, MOST_NAME_BYTES).item())
    if not words.isprintable():
        raise ValueError(f"{name}: got {words!r}, must be of printable characters")
    return words
