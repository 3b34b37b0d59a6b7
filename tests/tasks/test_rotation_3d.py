"""Rotation in a room, against a circle cut into narrow sectors."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch

from pyro_gtm.experiments.data import Recordings, Rooms
from pyro_gtm.tasks import NewFrameKL, Rotation3D, make_task

NEW_FRAME = NewFrameKL(40.0)

# Angles in quarters of a degree, so that sectors of a quarter of a degree are seen in whole.
TURNS = [(98, 30), (98, 14), (98, 1), (96, 31), (480, 6), (400, 9), (1400, 5), (180, 17), (1, 3)]
TURNS += [(360, 9), (576, 8), (1438, 40), (720, 4)]


def new_sectors(quarters: int, num_steps: int, field_of_view: int = 90) -> list[int]:
    """How many quarters of a degree come into view at each step for the first time."""
    seen: set[int] = set()
    new = []
    for t in range(num_steps):
        first = t * quarters - 2 * field_of_view
        in_view = {sector % 1440 for sector in range(first, first + 4 * field_of_view)}
        new.append(len(in_view - seen))
        seen |= in_view
    return new


def nearest_steps(quarters: int, num_steps: int) -> list[int]:
    """The step of the first turn with the nearest heading; -1 for the first turn itself."""
    first_turn = [t for t in range(1441) if t * quarters < 1440]
    nearest = []
    for t in range(num_steps):
        apart = [abs((t - s) * quarters) % 1440 for s in first_turn]
        apart = [min(a, 1440 - a) for a in apart]
        nearest.append(-1 if t in first_turn else apart.index(min(apart)))
    return nearest


@pytest.mark.parametrize("quarters, num_steps", TURNS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_what_is_new_and_what_comes_again(quarters: int, num_steps: int, batch_size: int) -> None:
    task = Rotation3D(Rooms(), num_frames=num_steps, size=4, degrees=quarters / 4)
    batch = task.sample(batch_size)
    new, nearest = new_sectors(quarters, num_steps), nearest_steps(quarters, num_steps)

    shape = (num_steps, batch_size)
    assert batch.frames.shape == (*shape, 3, 4, 4) and batch.frames.dtype == torch.float32
    assert batch.controls is None and task.control_dim == 0
    assert batch.labels.equal(torch.zeros(shape, dtype=torch.int64))
    assert batch.predictable.dtype == torch.bool and batch.repeats.dtype == torch.int64
    assert batch.predictable.shape == batch.repeats.shape == shape
    for b in range(batch_size):
        assert batch.predictable[:, b].tolist() == [sectors == 0 for sectors in new]
        assert batch.repeats[:, b].tolist() == nearest

    kl = task.oracle_kl(NEW_FRAME)
    assert kl.shape == (num_steps,) and kl.dtype == torch.float32
    assert kl.tolist() == pytest.approx([40.0 * sectors / 360 for sectors in new], abs=1e-4)

    turn = nearest.count(-1)
    assert task.num_given == (turn if turn < num_steps else max(1, num_steps // 2))


def test_the_defaults_are_those_of_the_docstring() -> None:
    task = Rotation3D(Rooms())
    assert (task.num_steps, task.event_shape, task.degrees) == (30, (3, 32, 32), 24.5)
    assert task.num_given == 15, "Figure 28 gives as many"
    assert (task.oracle_kl(NewFrameKL(90.0)) * 10).round().tolist() == [
        *[900, *[245] * 11, 5],
        *[0] * 17,
    ]
    batch = task.sample(2)
    assert batch.predictable[:, 0].tolist() == [False] * 13 + [True] * 17
    assert batch.repeats[:, 0].tolist() == [-1] * 15 + list(range(15))


@pytest.mark.parametrize("parts", [3, 7, 11, 15, 49])
def test_a_turn_of_equal_parts_repeats_frames_exactly(oracles: ModuleType, parts: int) -> None:
    """Though 360 / n is no binary number."""
    task = Rotation3D(Rooms(), num_frames=2 * parts + 2, size=8, degrees=360 / parts)
    batch = task.sample(2, torch.Generator().manual_seed(0))
    assert batch.repeats[:, 0].tolist() == [-1] * parts + [*range(parts), 0, 1]
    assert task.num_given == parts
    oracles.assert_well_formed(task, batch, 2)  # among others, a repeat is bit-identical


def test_the_second_turn_shows_the_room_of_the_first() -> None:
    """Headings 7.5 degrees apart: frames are nearest to those they repeat, and few equal them."""
    task = Rotation3D(Rooms(), size=16)
    batch = task.sample(20, torch.Generator().manual_seed(0))
    first, second = batch.frames[:15].flatten(2), batch.frames[15:].flatten(2)
    assert (first == second).all(-1).float().mean() < 0.02  # of a plain wall up close
    apart = torch.cdist(second.transpose(0, 1), first.transpose(0, 1))  # (B, 15, 15)
    nearest = batch.repeats[15:] == apart.argmin(2).T
    assert nearest.float().mean() > 0.9


def test_another_field_of_view_sees_the_circle_close_at_another_step() -> None:
    frames = torch.zeros(3, 30, 8, 8, 3, dtype=torch.uint8)
    task = Rotation3D(Recordings(frames, 24.5, "here", 60.0), size=8)
    new = new_sectors(98, 30, field_of_view=60)
    assert task.sample(2).predictable[:, 1].tolist() == [sectors == 0 for sectors in new]
    assert task.oracle_kl(NEW_FRAME).tolist() == pytest.approx(
        [40 * n / 240 for n in new], abs=1e-4
    )


def test_it_is_made_by_name_of_rooms_or_recordings() -> None:
    assert Rotation3D.sources == ("rooms", "recorded")
    task = make_task("rotation_3d", Rooms(), **Rotation3D.debug_options)
    assert isinstance(task, Rotation3D) and 1 <= task.num_given < task.num_steps
    batch = task.sample(3)
    assert batch.predictable.any() and not batch.predictable.all()

    levels = torch.arange(2 * 6 * 8 * 8 * 3).view(2, 6, 8, 8, 3).remainder(251).to(torch.uint8)
    recorded = make_task("rotation_3d", Recordings(levels, 120.0, "here"), **task.debug_options)
    frames = recorded.sample(9).frames
    assert frames.shape == (6, 9, 3, 8, 8)
    assert frames.mul(255).round()[2, :, 1, 4, 5].unique().tolist() == sorted(
        levels[:, 2, 4, 5, 1].tolist()
    )


def test_sequences_are_drawn_where_the_rooms_are(oracles: ModuleType) -> None:
    task = Rotation3D(Rooms("meta"), num_frames=3, size=8)
    assert task.device.type == "meta"
    batch = task.sample(2)
    assert {part.device.type for part in batch if part is not None} == {"meta"}
    with pytest.raises(ValueError, match="generator: got one on meta, must be on cpu"):
        Rotation3D(Rooms()).sample(2, oracles.elsewhere())


@pytest.mark.parametrize("degrees", [0, -24.5, 360, 1000, math.nan, math.inf, True, "24.5", None])
def test_what_is_no_angle_of_a_step_is_refused(oracles: ModuleType, degrees: Any) -> None:
    message = oracles.refusal(lambda: Rotation3D(Rooms(), degrees=degrees))
    assert message == (f"degrees: got {degrees!r}, must be a number above 0 and below 360")


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"num_frames": 7}, "num_frames: got 7, must be at most 6"),
        ({"size": 32}, "size: got 32, must be 8"),
        ({"degrees": 24.0}, "degrees: got 24.0, must be 24.5"),
    ],
)
def test_what_was_not_recorded_is_refused_at_once(
    oracles: ModuleType, options: dict[str, Any], expected: str
) -> None:
    recordings = Recordings(torch.zeros(1, 6, 8, 8, 3, dtype=torch.uint8), 24.5, "here")
    arguments = {"num_frames": 6, "size": 8, "degrees": 24.5} | options
    assert expected in oracles.refusal(lambda: Rotation3D(recordings, **arguments))


def test_only_the_first_frame_is_wholly_new() -> None:
    task = Rotation3D(Rooms(), num_frames=6, size=8, degrees=120)
    batch = task.sample(2)
    assert task.new_frames(batch).tolist() == [[True, True]] + 5 * [[False, False]]
