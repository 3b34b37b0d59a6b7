"""Endless random rooms, seen by someone who turns on the spot: a ray-caster in torch.

The paper's three-dimensional sequences (Gemici et al. 2017, arXiv 1702.04649, Figures 16, 17 and
28) come from an environment that was not published with it.  These rooms have what its figures
show, four walls that differ, paintings, a floor and a skyline, and cost milliseconds a batch.

A room is a box without a ceiling, its walls 1 high.  The camera stands in it at half that height
and sees through a flat, square field of view.  As it only turns, all that it can see is painted by
numbers once for each room, on a panorama of columns and levels::

    sky, buildings   SLOPE_LEVELS of equal slope, upwards from the horizon
    wall, picture    WALL_LEVELS of equal height, from the floor to the top
    floor            SLOPE_LEVELS of equal slope, from below the camera to the horizon

A column is a strip of wall with the floor before it and the sky above it: WALL_COLUMNS of equal
width to each of four walls, anticlockwise from the corner (width, 0).  A frame then is a little
geometry for each of its columns, and one look-up for each pixel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gtm.internals.checks import check_positive

FIELD_OF_VIEW = 90.0  # degrees, across and from top to bottom
EYE = 0.5  # height of the camera
LEAST_EXTENT, MOST_EXTENT = 1.8, 3.2  # from wall to wall
MARGIN = 0.6  # least distance of the camera from a wall
TILE = 0.6  # side of a tile of the floor

WALL_COLUMNS = WALL_LEVELS = 32
SLOPE_LEVELS = 16
COLUMNS = 4 * WALL_COLUMNS
LEVELS = SLOPE_LEVELS + WALL_LEVELS + SLOPE_LEVELS

# What the numbers of a panorama stand for, in the order of a room's colours.  A wall has two of
# its own, then its picture's frame and the four fields of its canvas.
FRAME, CANVAS, NUMBERS_OF_WALL = 2, 3, 7
FLOOR = 4 * NUMBERS_OF_WALL  # two kinds of tile, in SLOPE_LEVELS shades each
BUILDING = FLOOR + 2 * SLOPE_LEVELS  # two kinds
SKY = BUILDING + 2  # in SLOPE_LEVELS shades
NUMBERS = SKY + SLOPE_LEVELS


class Turn(NamedTuple):
    """The view while turning on the spot, T steps of B sequences."""

    frames: Tensor
    """Intensities in [0, 1]: ``(T, B, 3, size, size)`` of float."""

    heading: Tensor
    """Degrees anticlockwise, not reduced to one turn: ``(T, B)`` of double."""


class Scenes(NamedTuple):
    """B rooms, with the place of the camera in each."""

    extent: Tensor
    """From wall to wall along x and along y, a wall being 1 high: ``(B, 2)`` of float."""

    camera: Tensor
    """Its place, between (0, 0) and ``extent``: ``(B, 2)`` of float."""

    panorama: Tensor
    """The number that each cell is painted with: ``(B, COLUMNS, LEVELS)`` of int64."""

    colours: Tensor
    """The red, green and blue that each number stands for: ``(B, 3, NUMBERS)`` of float."""


class Rooms:
    """A source of random rooms; no two sequences show the same one.

    Args:
        device: on which rooms are drawn and seen.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.field_of_view = FIELD_OF_VIEW

    def to(self, device: torch.device | str) -> Rooms:
        """The same source on ``device``."""
        return Rooms(device)

    def check(self, num_frames: int, *, degrees: float, size: int) -> None:
        """Refuse a turn that cannot be seen.

        Raises:
            ValueError: it cannot be.
        """
        check_positive("Rooms", num_frames=num_frames, size=size)
        if not math.isfinite(degrees):
            raise ValueError(f"degrees: got {degrees}, must be finite")

    def turn(
        self,
        num_frames: int,
        batch_size: int,
        *,
        degrees: float,
        size: int,
        generator: torch.Generator | None = None,
    ) -> Turn:
        """Stand in ``batch_size`` new rooms, and turn left in each from a random heading.

        Args:
            num_frames: T, at least 1.
            batch_size: B, at least 1.
            degrees: the angle from a frame to the next; a negative one turns right.
            size: pixels of a frame, across and from top to bottom.
            generator: of random numbers, on the device of the rooms; the global one of that device
                if None.

        Raises:
            ValueError: a number of steps, sequences or pixels is below 1, or the angle is not
                finite.
        """
        check_positive("Rooms", batch_size=batch_size)
        self.check(num_frames, degrees=degrees, size=size)
        scenes = draw_scenes(batch_size, generator, self.device)
        # In double precision, so that a full turn leads back to the very same frame.
        start = torch.rand(batch_size, generator=generator, device=self.device, dtype=torch.float64)
        step = torch.arange(num_frames, device=self.device, dtype=torch.float64)
        heading = 360 * start + degrees * step.unsqueeze(1)  # (T, B)
        return Turn(render(scenes, heading, size), heading)


def render(scenes: Scenes, heading: Tensor, size: int) -> Tensor:
    """The view of each camera: ``(T, B, 3, size, size)``.

    A pixel has the colour of the one point that the ray through its centre meets.

    Args:
        scenes: B rooms.
        heading: in degrees, ``(T, B)``.
        size: pixels of a frame, across and from top to bottom.
    """
    across = _pixel_centres(size, heading.device)  # rightwards, and downwards just as well
    distance, column = _meet_walls(scenes, heading, across)  # (T, B, size) each
    rise = (WALL_LEVELS * distance).unsqueeze(2)  # (T, B, 1, size)
    origin = (LEVELS * column.int() + LEVELS // 2).unsqueeze(2)  # the cell at the height of the eye

    up = -across.unsqueeze(1)  # (size, 1)
    slope = up / (1 + across.square()).sqrt()  # (size, size)
    beyond = EYE * WALL_LEVELS * slope.sign() + SLOPE_LEVELS * slope

    painted = scenes.panorama.flatten(1)  # (B, COLUMNS * LEVELS)
    num_frames, batch_size = heading.shape
    pixels = scenes.colours.new_empty(num_frames, batch_size, 3, size * size)
    # Step by step, as all steps at once would overflow a CPU's caches and take twice as long.
    for t in range(num_frames):
        # Where a ray meets the plane of its wall, in levels from the height of the eye;
        # the level of its slope, where it passes under or over the wall.
        level = rise[t] * up  # (B, size, size)
        level = torch.where(level.abs() < EYE * WALL_LEVELS, level, beyond)
        cell = level.floor_().int().add_(origin[t]).long().flatten(1)  # (B, size^2)
        number = painted.gather(1, cell).unsqueeze(1).expand(-1, 3, -1)
        torch.gather(scenes.colours, 2, number, out=pixels[t])
    return pixels.unflatten(3, (size, size))


def _pixel_centres(size: int, device: torch.device) -> Tensor:
    """Places of pixels on the picture plane, at distance 1 before the camera: ``(size,)``."""
    edge = math.tan(math.radians(FIELD_OF_VIEW / 2))
    pixel = torch.arange(size, device=device, dtype=torch.float32)
    return ((pixel + 0.5) * (2 / size) - 1) * edge


def _meet_walls(scenes: Scenes, heading: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """The points at which the rays of each column of pixels meet a wall.

    Returns:
        The distance of each, not along the ray but straight ahead, and its column of the panorama:
        ``(T, B, size)`` each.
    """
    radians = heading.remainder(360).deg2rad().unsqueeze(2)  # (T, B, 1)
    cos, sin = radians.cos().float(), radians.sin().float()
    dx, dy = cos + across * sin, sin - across * cos  # (T, B, size): by 1 straight ahead
    width, depth = scenes.extent.unsqueeze(1).unbind(2)  # (B, 1) each
    x, y = scenes.camera.unsqueeze(1).unbind(2)

    ahead_x = torch.where(dx > 0, width - x, x) / dx.abs()
    ahead_y = torch.where(dy > 0, depth - y, y) / dy.abs()
    distance = torch.minimum(ahead_x, ahead_y)

    # The share of its wall that lies before the point, anticlockwise.
    share_x, share_y = (x + distance * dx) / width, (y + distance * dy) / depth
    meets_x = ahead_x < ahead_y  # one of the walls x = width, x = 0
    wall = torch.where(meets_x, torch.where(dx > 0, 0, 2), torch.where(dy > 0, 1, 3))
    share = torch.where(
        meets_x,
        torch.where(dx > 0, share_y, 1 - share_y),
        torch.where(dy > 0, 1 - share_x, share_x),
    )
    strip = (WALL_COLUMNS * share).long().clamp_(0, WALL_COLUMNS - 1)
    return distance, WALL_COLUMNS * wall + strip


class _Dice(NamedTuple):
    """Uniform random numbers from one generator."""

    generator: torch.Generator | None
    device: torch.device | str

    def real(self, least: float, most: float, *shape: int) -> Tensor:
        numbers = torch.rand(
            shape, generator=self.generator, device=self.device, dtype=torch.float32
        )
        return least + (most - least) * numbers

    def whole(self, least: int, most: int, *shape: int) -> Tensor:
        """Integers from ``least`` to ``most``, both of them included."""
        return torch.randint(
            least, most + 1, shape, generator=self.generator, device=self.device, dtype=torch.int8
        )

    def upto(self, number: int) -> Tensor:
        """0, 1, ..., number - 1: of the same type as those of ``whole``."""
        return torch.arange(number, device=self.device, dtype=torch.int8)


def draw_scenes(
    batch_size: int, generator: torch.Generator | None, device: torch.device | str
) -> Scenes:
    """Draw ``batch_size`` independent rooms, the camera anywhere at least MARGIN from the walls."""
    dice = _Dice(generator, device)
    extent = dice.real(LEAST_EXTENT, MOST_EXTENT, batch_size, 2)
    camera = MARGIN + (extent - 2 * MARGIN) * dice.real(0, 1, batch_size, 2)
    floor = _paint_floor(extent, camera, dice)
    panorama = torch.cat([floor, _paint_walls(batch_size, dice), _paint_sky(batch_size, dice)], 2)
    return Scenes(extent, camera, panorama.long(), _mix_colours(batch_size, dice))


def _paint_floor(extent: Tensor, camera: Tensor, dice: _Dice) -> Tensor:
    """Tiles of two kinds, or one kind only: ``(B, COLUMNS, SLOPE_LEVELS)``."""
    along = (dice.upto(WALL_COLUMNS).float() + 0.5) / WALL_COLUMNS
    back, near, far = along.flip(0), torch.zeros_like(along), torch.ones_like(along)
    x, y = torch.cat([far, back, near, along]), torch.cat([along, far, back, near])
    unit = torch.stack([x, y])  # (2, COLUMNS)
    ray = extent.unsqueeze(2) * unit - camera.unsqueeze(2)
    ray = ray / ray.norm(dim=1, keepdim=True)  # (B, 2, COLUMNS)

    level = dice.upto(SLOPE_LEVELS)
    distance = EYE / (1 - (level.float() + 0.5) / SLOPE_LEVELS)
    place = torch.addcmul(
        camera.view(-1, 2, 1, 1) / TILE, ray.unsqueeze(3), distance / TILE
    )  # (B, 2, COLUMNS, levels), in tiles
    kind_x, kind_y = place.int().bitwise_and_(1).unbind(1)
    kind = (kind_x ^ kind_y).to(torch.int8)
    tiled = dice.whole(0, 1, len(extent), 1, 1)
    return FLOOR + level + SLOPE_LEVELS * kind * tiled


def _paint_walls(batch_size: int, dice: _Dice) -> Tensor:
    """On each wall a wallpaper, and on most a picture: ``(B, COLUMNS, WALL_LEVELS)``."""
    papers = _wallpapers(dice)
    paper = papers[dice.whole(0, len(papers) - 1, batch_size, 4).int()]  # (B, 4, columns, levels)

    # The picture of a wall: its middle, its half sizes, and a cross that parts its canvas in four.
    each = (batch_size, 4, 1, 1)
    right = dice.upto(WALL_COLUMNS).unsqueeze(1) - dice.whole(10, 21, *each)  # (B, 4, columns, 1)
    up = dice.upto(WALL_LEVELS) - dice.whole(15, 18, *each)  # (B, 4, 1, levels)
    half_width, half_height = dice.whole(5, 8, *each), dice.whole(7, 10, *each)
    hangs = dice.real(0, 1, *each) < 0.75
    picture = (right.abs() <= half_width) & hangs & (up.abs() <= half_height)
    canvas = (right.abs() <= half_width - 2) & (up.abs() <= half_height - 2)
    fields = (right > dice.whole(-2, 2, *each)), (up > dice.whole(-3, 3, *each))
    field = CANVAS + 2 * fields[0].to(torch.int8) + fields[1].to(torch.int8)

    number = torch.where(picture, torch.where(canvas, field, FRAME), paper)
    wall = dice.upto(4).view(4, 1, 1)
    return (number + NUMBERS_OF_WALL * wall).flatten(1, 2)


def _wallpapers(dice: _Dice) -> Tensor:
    """Patterns of a wall's two numbers, 0 and 1: ``(papers, WALL_COLUMNS, WALL_LEVELS)``."""
    u = dice.upto(WALL_COLUMNS).unsqueeze(1).expand(-1, WALL_LEVELS)
    v = dice.upto(WALL_LEVELS).expand(WALL_COLUMNS, -1)
    course = v // 8
    patterns = [
        v < 0,  # plain
        v < 11,  # a dado
        (v < 4) | (v >= 28),  # skirting and cornice
        u // 8 % 2,  # stripes upright,
        u // 4 % 2,
        v // 8 % 2,  # level,
        (u + v) // 8 % 2,  # and slanting
        (u // 8 + v // 8) % 2,  # checks
        (v % 8 == 0) | ((u + 8 * course) % 16 < 2),  # bricks
        (u % 16 - 8).int() ** 2 + (v % 16 - 8).int() ** 2 < 24,  # dots
    ]
    return torch.stack([pattern.to(torch.int8) for pattern in patterns])


def _paint_sky(batch_size: int, dice: _Dice) -> Tensor:
    """A sky that changes upwards, and before most a skyline: ``(B, COLUMNS, SLOPE_LEVELS)``."""
    width = 4  # columns
    blocks = COLUMNS // width
    height = dice.whole(0, 11, batch_size, blocks) * (dice.real(0, 1, batch_size, 1) < 0.7)
    height = height.repeat_interleave(width, dim=1).unsqueeze(2)  # (B, COLUMNS, 1)
    kind = (dice.upto(blocks) % 2).repeat_interleave(width).unsqueeze(1)
    level = dice.upto(SLOPE_LEVELS)
    return torch.where(level < height, BUILDING + kind, SKY + level)


def _mix_colours(batch_size: int, dice: _Dice) -> Tensor:
    """Walls of one room far apart in hue, everything else as it comes: ``(B, 3, NUMBERS)``."""
    one, four = (batch_size, 1), (batch_size, 4)

    # Walls: two colours of one hue, a frame, four fields.
    hue = dice.real(0, 1, *one) + dice.upto(4).float() / 4 + dice.real(0, 0.1, *four)
    saturation, value = dice.real(0.25, 0.75, *four), dice.real(0.55, 0.9, *four)
    paper = _rgb(hue, saturation, value)
    accent = _rgb(hue, saturation, 0.65 * value)
    frame = _rgb(
        dice.real(0.05, 0.15, *four), dice.real(0.3, 0.8, *four), dice.real(0.1, 0.7, *four)
    )
    fields = (batch_size, 4, 4)
    canvas = _rgb(dice.real(0, 1, *fields), dice.real(0.4, 1, *fields), dice.real(0.2, 1, *fields))
    walls = torch.cat([torch.stack([paper, accent, frame], 3), canvas], 3)  # (B, 3, 4, 7)

    # Floor: paler tiles and darker ones, both darker with distance.
    higher = dice.upto(SLOPE_LEVELS).float() / (SLOPE_LEVELS - 1)
    shade = 1 - 0.4 * higher
    floor = _rgb(dice.real(0, 1, *one), dice.real(0.2, 0.7, *one), dice.real(0.45, 0.85, *one))
    tiles = floor.unsqueeze(3) * torch.stack([shade, 0.75 * shade])  # (B, 3, 2, levels)

    two = (batch_size, 2)
    buildings = _rgb(dice.real(0, 1, *two), dice.real(0.1, 0.4, *two), dice.real(0.15, 0.5, *two))

    # Sky: from pale at the horizon to full colour above.
    pale, full = dice.real(0.05, 0.4, *one), dice.real(0.5, 0.9, *one)
    hue = torch.where(
        dice.real(0, 1, *one) < 0.75, dice.real(0.5, 0.65, *one), dice.real(0, 0.12, *one)
    )
    sky = _rgb(
        hue,
        torch.lerp(pale, full, higher),
        torch.lerp(dice.real(0.85, 1, *one), 0.8 * full, higher),
    )

    return torch.cat([walls.flatten(2), tiles.flatten(2), buildings, sky], dim=2)


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Red, green and blue, ``(B, 3, ...)``, of hue in turns, saturation, value, ``(B, ...)``."""
    channels = []
    for offset in (5, 3, 1):
        k = (offset + 6 * hue) % 6
        channels.append(value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1)))
    return torch.stack(channels, 1)
