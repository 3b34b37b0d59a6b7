"""Rotation in a room: turn on the spot, and know what comes round again.

Source: Gemici et al. 2017 (arXiv 1702.04649), Figures 16, 17 and 28. The paper takes 30 frames from
an environment that was not published, about 15 of them a turn.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.data.recordings import Recordings
from pyro_gtm.experiments.data.rooms import Rooms
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.tasks.base import NewFrameKL, Sequences, Task, register_task

DEGREES = 24.5
"""Of a step: about 15 of them are a turn, as in the paper."""

ROUNDING = 1e-6  # degrees; far below what any frame could show


@register_task("rotation_3d")
class Rotation3D(Task):
    """A camera that turns left on the spot, by the same angle at each step, in a random room.

    With the defaults, of which 15 steps are a little more than a turn::

        time          0     1     2   ...  12    13    14   | 15    16    ...  29
        heading       0     24.5  49       294   318.5 343  | 367.5 392        710.5
        new in view   90    24.5  24.5     0.5   0     0    | 0     0          0
        predictable   .     .     .        .     *     *    | *     *          *
        repeats                                             | 0     1          14

    Headings, in degrees, count from that of the first frame, which is random. A frame is
    predictable if nothing is in view that was not in view before. In the second turn ``repeats`` is
    the step of the first whose heading is nearest. The two are 7.5 degrees apart here: the room is
    seen again, but not just as it was. (To be nearest to the right frame shows that a model knows
    where it is in the turn, and no more: one that shows the frames of 15 steps ago always is, and
    the true frames are in 98 of 100.)

    Room and first heading are new in every sequence. The angle of a step is the same in all, and
    the model is not told it: there are no controls. (Neither rate nor controls, neither size of the
    frames nor their likelihood are known of the paper.) All frames are of class 0.

    Oracle KL: that of a new frame times the share of the field of view that is new.  It is an
    estimate: what rooms have in common, such as that a wall goes on as it began, is counted with
    what is new, and so are the colours that the past has shown already; a good model can be below
    it in the first turn.  Where nothing is new it is 0, as for a perfect memory of the room.

    Args:
        rooms: random rooms, or turns recorded elsewhere.
        num_frames: T, at least 1.
        size: pixels of a frame, across and from top to bottom, at least 1.
        degrees: the angle of a step, above 0 and below 360.

    Raises:
        ValueError: a number is impossible, or was not recorded.
    """

    sources: ClassVar[tuple[str, ...]] = ("rooms", "recorded")
    settings: ClassVar[dict[str, Any]] = {
        "likelihood": "gaussian",
        "binarise": "none",
        "network": "small_conv",
        "latent_dim": 64,
    }
    debug_options: ClassVar[dict[str, Any]] = {"num_frames": 6, "size": 8, "degrees": 120.0}

    def __init__(
        self,
        rooms: Rooms | Recordings,
        num_frames: int = 30,
        size: int = 32,
        degrees: float = DEGREES,
    ) -> None:
        check_positive("Rotation3D", num_frames=num_frames, size=size)
        is_number = isinstance(degrees, (int, float)) and not isinstance(degrees, bool)
        if not is_number or not 0 < degrees < 360:
            raise ValueError(f"degrees: got {degrees!r}, must be a number above 0 and below 360")
        rooms.check(num_frames, degrees=degrees, size=size)
        self.rooms = rooms
        self.size = size
        self.degrees = float(degrees)
        self._num_steps = num_frames
        # (T,) each, on the device of the rooms.
        self._new = newly_in_view(num_frames, self.degrees, rooms.field_of_view).to(self.device)
        self._repeats = nearest_of_first_turn(num_frames, self.degrees).to(self.device)

    @property
    def num_steps(self) -> int:
        return self._num_steps

    @property
    def num_given(self) -> int:
        """The length of the first turn; of sequences that end within it, of the first half."""
        turn = steps_of_a_turn(self.degrees)
        return turn if turn < self.num_steps else max(1, self.num_steps // 2)

    @property
    def event_shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    @property
    def device(self) -> torch.device:
        return self.rooms.device

    @property
    def published_as(self) -> dict[str, int] | None:
        return {"frames": self.num_steps} if self.degrees == DEGREES else None

    @property
    def figure_names(self) -> tuple[str, ...]:
        """``turn``, if there is a second one."""
        return () if (self._repeats < 0).all() else ("turn",)

    def figures(self, batch: Sequences, generated: Tensor, num_given: int) -> dict[str, Figure]:
        """``turn``, if there is a second one: it stands below the first, by headings."""
        if not self.figure_names:
            return {}
        shown = generated.shape[1]
        return {"turn": plotting.turn(batch.frames, generated, self._repeats, num_given, shown)}

    def oracle_kl(self, new_frame: NewFrameKL) -> Tensor:
        return new_frame.mean * (self._new / self.rooms.field_of_view).float().cpu()

    def new_frames(self, batch: Sequences) -> Tensor:
        """The first alone: of the others some part at least has been in view."""
        first = torch.zeros_like(batch.predictable)
        first[0] = True
        return first

    def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences:
        frames, _ = self.rooms.turn(
            self.num_steps, batch_size, degrees=self.degrees, size=self.size, generator=generator
        )
        repeats = self._repeats.unsqueeze(1).expand(-1, batch_size)
        predictable = (self._new == 0).unsqueeze(1).expand(-1, batch_size)
        return Sequences(frames, None, torch.zeros_like(repeats), predictable, repeats)


def steps_of_a_turn(degrees: float) -> int:
    """The number of frames before the heading has come round to the first, or past it."""
    return math.ceil((360 - ROUNDING) / degrees)


def newly_in_view(num_steps: int, degrees: float, field_of_view: float) -> Tensor:
    """The angle in view at each step that was not in view at any before, in degrees: ``(T,)``."""
    heading = degrees * torch.arange(num_steps, dtype=torch.float64)
    # How far one must turn left, or right, from each heading (rows) to an earlier one (columns).
    left = (heading - heading.unsqueeze(1)).remainder(360)
    right = (-left).remainder(360)
    later = torch.ones(num_steps, num_steps, dtype=torch.bool).triu()
    # All fields of view are equally wide: of those to one side, the nearest overlaps the most.
    apart = [
        side.masked_fill(later, torch.inf).amin(1).clamp(max=field_of_view)
        for side in (left, right)
    ]
    new = apart[0] + apart[1] - field_of_view
    return torch.where(new < ROUNDING, 0.0, new)


def nearest_of_first_turn(num_steps: int, degrees: float) -> Tensor:
    """The step of the first turn with the nearest heading, the earliest of equals; -1 within it.

    Returns:
        ``(T,)`` of int64.
    """
    turn = steps_of_a_turn(degrees)
    step = torch.arange(num_steps)
    ahead = (degrees * (step.unsqueeze(1) - step[:turn]).double()).remainder(360)
    apart = torch.minimum(ahead, 360 - ahead)  # (T, turn)
    nearest = (apart / ROUNDING).round().argmin(1)  # the first of equal minima
    return torch.where(step < turn, -1, nearest)
