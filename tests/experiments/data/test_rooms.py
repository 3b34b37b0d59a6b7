"""Random rooms against a ray tracer that follows one ray at a time through space."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pyro_gtm.experiments.data import Rooms, rooms
from pyro_gtm.experiments.data.rooms import Scenes, draw_scenes, render

CLOSE = 1e-3  # of a cell, or of the height of a wall


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turned(*headings: float, batch_size: int = 1) -> Tensor:
    return torch.tensor(headings, dtype=torch.float64).unsqueeze(1).expand(-1, batch_size)


Point = tuple[float, float]


def meet(eye: Point, ray: Point, corner: Point, next_corner: Point) -> tuple[float, float] | None:
    """How far along a ray, and how far along the wall between two corners, the two meet."""
    wall = next_corner[0] - corner[0], next_corner[1] - corner[1]
    to = corner[0] - eye[0], corner[1] - eye[1]
    determinant = ray[1] * wall[0] - ray[0] * wall[1]
    if determinant == 0:
        return None
    along_ray = (to[1] * wall[0] - to[0] * wall[1]) / determinant
    along_wall = (ray[0] * to[1] - ray[1] * to[0]) / determinant
    return (along_ray, along_wall) if along_ray > 0 and 0 <= along_wall <= 1 else None


def trace(scenes: Scenes, b: int, heading: float, right: float, up: float) -> list[float] | None:
    """The colour that a ray meets; None where it passes within CLOSE of an edge.

    The ray leaves the eye, and 1 straight ahead it has come so far to the right and upwards.
    """
    width, depth = scenes.extent[b].tolist()
    cos, sin = math.cos(math.radians(heading)), math.sin(math.radians(heading))
    ray = cos + right * sin, sin - right * cos

    corners = [(width, 0.0), (width, depth), (0.0, depth), (0.0, 0.0), (width, 0.0)]
    walls = [meet(tuple(scenes.camera[b].tolist()), ray, *pair) for pair in pairwise(corners)]
    met = [(wall, *where) for wall, where in enumerate(walls) if where is not None]
    if len(met) != 1:  # a corner
        return None
    ((wall, far, along),) = met
    column, height = 32 * along, 0.5 + far * up

    if height < 0:  # under the wall: where the floor is met, on the way to it
        reach = 0.5 / -up
        level = 16 * (1 - 0.5 / (reach * math.hypot(*ray)))
    elif height < 1:
        level = 16 + 32 * height
    else:
        level = 48 + 16 * up / math.hypot(*ray)
    on_edge = any(abs(x - round(x)) < CLOSE for x in (column, level))
    if on_edge or min(abs(height), abs(1 - height)) < CLOSE:
        return None
    number = scenes.panorama[b, 32 * wall + math.floor(column), math.floor(level)]
    return scenes.colours[b, :, number].tolist()


@pytest.mark.parametrize("size, heading", [(16, 33.0), (16, 288.8), (9, 121.7), (2, 700.1)])
def test_frames_agree_with_a_ray_tracer(size: int, heading: float) -> None:
    scenes = draw_scenes(3, seeded(size), "cpu")
    headings = (heading, heading + 61.3, heading - 100.2)
    frames = render(scenes, turned(*headings, batch_size=3), size)
    assert frames.shape == (3, 3, 3, size, size)

    compared = 0
    for t in range(3):
        for b in range(3):
            for row in range(size):
                for column in range(size):
                    right, up = (2 * column + 1) / size - 1, 1 - (2 * row + 1) / size
                    colour = trace(scenes, b, headings[t], right, up)
                    if colour is not None:
                        pixel = frames[t, b, :, row, column].tolist()
                        assert pixel == pytest.approx(colour, abs=1e-5), (t, b, row, column)
                        compared += 1
    off_horizon = size - size % 2  # the middle row of an odd number runs along an edge
    assert compared > 0.97 * 9 * size * off_horizon


@pytest.fixture
def plain() -> Scenes:
    """A room 2 by 2 seen from its middle: black floor, white sky, wall w of the red (w + 1) / 8."""
    panorama = torch.zeros(1, 128, 64, dtype=torch.int64)
    panorama[:, :, 16:48] = torch.arange(1, 5).repeat_interleave(32).view(1, 128, 1)
    panorama[:, :, 48:] = 5
    red = torch.tensor([0.0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 1.0])
    other = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    colours = torch.stack([red, other, other]).unsqueeze(0)
    return Scenes(torch.tensor([[2.0, 2.0]]), torch.tensor([[1.0, 1.0]]), panorama, colours)


@pytest.mark.parametrize("wall", range(4))
def test_a_wall_1_ahead_fills_the_middle_half_of_the_picture(plain: Scenes, wall: int) -> None:
    """It is 2 wide and 1 high, and 90 degrees show 2 by 2 of the plane 1 ahead."""
    (red,) = render(plain, turned(90.0 * wall), 8)[:, 0, 0]
    rows = [1.0] * 2 + [(wall + 1) / 8] * 4 + [0.0] * 2
    assert red.T.tolist() == [rows] * 8


def test_turning_left_moves_the_room_to_the_right(plain: Scenes) -> None:
    """Between two walls the corner stands in the middle, the wall further left on the left."""
    (red,) = render(plain, turned(45.0), 8)[:, 0, 0]
    assert red[3].tolist() == [2 / 8] * 4 + [1 / 8] * 4


def test_a_corner_is_farther_and_lower_than_the_wall_before_it(plain: Scenes) -> None:
    """The corner is straight ahead at sqrt(2), the wall at the edge of the picture at half that."""
    (red,) = render(plain, turned(45.0), 400)[:, 0, 0]
    is_wall = (red > 0) & (red < 1)
    assert is_wall[:, 200].float().mean().item() == pytest.approx(0.5 / 2**0.5, abs=0.006)
    assert is_wall[:, 0].float().mean().item() == pytest.approx(0.5 * 2**0.5, abs=0.006)


@pytest.mark.parametrize("steps", [2, 4, 7, 15, 37])
def test_after_a_full_turn_the_first_frame_is_back(steps: int) -> None:
    frames, heading = Rooms().turn(
        steps + 3, 4, degrees=360 / steps, size=16, generator=seeded(steps)
    )
    torch.testing.assert_close(heading[steps:], heading[:3] + 360)
    assert frames[steps:].equal(frames[:3])
    assert all(not frames[t].equal(frames[0]) for t in range(1, steps))


def test_headings_a_turn_apart_show_the_same() -> None:
    scenes = draw_scenes(8, seeded(3), "cpu")
    heading = 360 * torch.rand(5, 8, generator=seeded(4), dtype=torch.float64)
    frames = render(scenes, heading, 16)
    assert all(render(scenes, heading + 360 * n, 16).equal(frames) for n in (-2, 1, 10))


def test_headings_begin_anywhere_and_go_on_evenly() -> None:
    heading = Rooms().turn(3, 4000, degrees=24.5, size=1, generator=seeded(0)).heading
    assert heading.shape == (3, 4000)
    torch.testing.assert_close(heading.diff(dim=0), torch.full_like(heading[1:], 24.5))
    counts = heading[0].div(30).long().bincount()
    assert len(counts) == 12
    # Within five standard deviations of one twelfth each.
    assert (counts - 4000 / 12).abs().max() < 5 * (4000 * (1 / 12) * (11 / 12)) ** 0.5


@pytest.mark.parametrize("size", [1, 5, 32])
@pytest.mark.parametrize("num_frames, batch_size", [(1, 1), (4, 3)])
def test_frames_are_intensities(num_frames: int, batch_size: int, size: int) -> None:
    frames, _ = Rooms().turn(num_frames, batch_size, degrees=100, size=size, generator=seeded(1))
    assert frames.shape == (num_frames, batch_size, 3, size, size)
    assert frames.dtype == torch.float32 and frames.is_contiguous()
    assert frames.min() >= 0 and frames.max() <= 1


@pytest.fixture(scope="module")
def many() -> Scenes:
    return draw_scenes(400, seeded(0), "cpu")


def test_rooms_have_any_extent_and_a_camera_away_from_walls(many: Scenes) -> None:
    assert many.extent.min() >= 1.8 and many.extent.max() <= 3.2
    assert many.extent.std() > 0.3 and not torch.equal(many.extent[:, 0], many.extent[:, 1])
    assert many.camera.min() >= 0.6 and (many.extent - many.camera).min() >= 0.6 - 1e-6
    share = (many.camera - 0.6) / (many.extent - 1.2)  # of the way from one side to the other
    assert abs(share.mean() - 0.5) < 0.05 and abs(share.std() - 12**-0.5) < 0.02


def test_every_cell_is_painted_with_a_colour_of_its_own_kind(many: Scenes) -> None:
    floor, walls, sky = many.panorama.split([16, 32, 16], dim=2)
    assert floor.min() >= rooms.FLOOR and floor.max() < rooms.BUILDING
    assert sky.min() >= rooms.BUILDING and sky.max() < rooms.NUMBERS
    assert (walls // 7).equal(torch.arange(4).repeat_interleave(32).view(1, -1, 1).expand_as(walls))
    assert many.colours.shape == (400, 3, rooms.NUMBERS)
    assert many.colours.min() >= 0 and many.colours.max() <= 1


def test_walls_of_a_room_are_told_apart_by_their_colours(many: Scenes) -> None:
    papers = many.colours[:, :, [0, 7, 14, 21]]
    apart = (papers.unsqueeze(2) - papers.unsqueeze(3)).norm(dim=1)  # (B, 4, 4)
    assert (apart + torch.eye(4)).amin((1, 2)).quantile(0.05) > 0.1


def test_most_walls_have_a_picture_of_one_piece_inside_a_frame(many: Scenes) -> None:
    walls = many.panorama[:, :, 16:48].unflatten(1, (4, 32)) % 7
    canvas, frame = walls >= rooms.CANVAS, walls == rooms.FRAME
    hung = frame.flatten(2).any(2)
    assert hung.equal(canvas.flatten(2).any(2))
    assert 0.7 < hung.float().mean() < 0.8
    for b, wall in hung.nonzero()[:50].tolist():
        inner, outer = (
            [(min(i), max(i)) for i in ((where).nonzero().T.tolist())]
            for where in (canvas[b, wall], (canvas | frame)[b, wall])
        )
        assert outer == [(low - 2, high + 2) for low, high in inner]
        assert all(low > 0 and high < 31 for low, high in outer)
        (left, right), (bottom, top) = outer
        assert (canvas | frame)[b, wall, left : right + 1, bottom : top + 1].all()


PAPERS = {
    "plain": lambda u, v: False,
    "dado": lambda u, v: v <= 10,
    "skirting and cornice": lambda u, v: v in (0, 1, 2, 3, 28, 29, 30, 31),
    "broad stripes": lambda u, v: u in range(8, 16) or u in range(24, 32),
    "narrow stripes": lambda u, v: u % 8 in (4, 5, 6, 7),
    "level stripes": lambda u, v: v in range(8, 16) or v in range(24, 32),
    "slanting stripes": lambda u, v: (u + v) % 16 >= 8,
    "checks": lambda u, v: (u % 16 >= 8) != (v % 16 >= 8),
    "bricks": lambda u, v: v % 8 == 0 or u % 16 in ((0, 1) if v % 16 < 8 else (8, 9)),
    "dots": lambda u, v: math.dist((u % 16, v % 16), (8, 8)) < 24**0.5,
}


def test_bare_walls_show_one_of_ten_papers(many: Scenes) -> None:
    walls = many.panorama[:, :, 16:48].unflatten(1, (4, 32)).flatten(0, 1) % 7
    bare = {str(wall.tolist()) for wall in walls[walls.flatten(1).amax(1) < rooms.FRAME]}
    assert bare == {
        str([[int(paper(u, v)) for v in range(32)] for u in range(32)]) for paper in PAPERS.values()
    }


def test_tiles_are_squares_on_the_floor(many: Scenes) -> None:
    """Seen from above, a chessboard: each cell has the tile that lies at its middle."""
    kind = (many.panorama[:, :, :16] - rooms.FLOOR) // 16
    tiled = kind.flatten(1).any(1)
    assert 0.4 < tiled.float().mean() < 0.6, "about half of the floors are tiled"

    for b in tiled.nonzero().flatten()[:5].tolist():
        (width, depth), (x, y) = many.extent[b].tolist(), many.camera[b].tolist()
        corners = [(width, 0.0), (width, depth), (0.0, depth), (0.0, 0.0), (width, 0.0)]
        for wall, (start, end) in enumerate(pairwise(corners)):
            for column in range(32):
                share = (column + 0.5) / 32
                to_x = start[0] + share * (end[0] - start[0]) - x
                to_y = start[1] + share * (end[1] - start[1]) - y
                for level in range(16):
                    below = 1 - (level + 0.5) / 16  # how far the ray falls on a way of 1
                    way = 0.5 / below / math.hypot(to_x, to_y)
                    across, along = (x + way * to_x) / 0.6, (y + way * to_y) / 0.6
                    near_edge = any(abs(i - round(i)) < CLOSE for i in (across, along))
                    if way < 1 and not near_edge:  # before the wall
                        tile = (math.floor(across) + math.floor(along)) % 2
                        assert kind[b, 32 * wall + column, level] == tile


def test_buildings_stand_on_the_horizon_before_most_skies(many: Scenes) -> None:
    building = many.panorama[:, :, 48:] < rooms.SKY  # (B, COLUMNS, levels)
    assert building.equal(building.int().cummin(2).values.bool()), "no building floats"
    assert 0.6 < building.flatten(1).any(1).float().mean() < 0.8
    assert not building[:, :, -1].any(), "the sky is above them all"


def test_no_room_comes_twice() -> None:
    generator = seeded(0)
    frames = [Rooms().turn(1, 16, degrees=1, size=8, generator=generator).frames for _ in range(2)]
    assert len(torch.cat(frames, dim=1).flatten(2).unique(dim=1)[0]) == 32


def test_seeds_reproduce_and_leave_the_global_state_alone() -> None:
    def draw(seed: int) -> Tensor:
        return Rooms().turn(2, 3, degrees=20, size=8, generator=seeded(seed)).frames

    before = torch.get_rng_state()
    assert draw(5).equal(draw(5)) and not draw(5).equal(draw(6))
    assert torch.get_rng_state().equal(before)

    torch.manual_seed(5)
    first = Rooms().turn(2, 3, degrees=20, size=8).frames
    torch.manual_seed(5)
    assert first.equal(Rooms().turn(2, 3, degrees=20, size=8).frames)


def test_the_default_type_of_tensors_does_not_matter(float64: None) -> None:
    frames = Rooms().turn(2, 3, degrees=20, size=8, generator=seeded(5)).frames
    torch.set_default_dtype(torch.float32)
    assert frames.equal(Rooms().turn(2, 3, degrees=20, size=8, generator=seeded(5)).frames)


def test_rooms_are_drawn_on_their_device() -> None:
    there = Rooms().to("meta")
    assert there.device.type == "meta" and Rooms().device.type == "cpu"
    frames, heading = there.turn(2, 3, degrees=20, size=8)
    assert frames.device.type == heading.device.type == "meta"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_what_a_cpu_sees() -> None:
    scenes = draw_scenes(4, torch.Generator("cuda").manual_seed(0), "cuda")
    on_cpu = Scenes(*(part.cpu() for part in scenes))
    heading = turned(10.0, 150.0, batch_size=4)
    there, here = render(scenes, heading.cuda(), 32).cpu(), render(on_cpu, heading, 32)
    assert (there != here).any(2).float().mean() < 0.01, "all but pixels on edges"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_frames": 0}, "num_frames.* got 0"),
        ({"batch_size": 2.5}, "batch_size.* got 2.5"),
        ({"size": -4}, "size.* got -4"),
        ({"degrees": math.nan}, "degrees: got nan, must be finite"),
    ],
)
def test_impossible_turns_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rooms().turn(**{"num_frames": 2, "batch_size": 2, "degrees": 10, "size": 4, **options})
