"""Record turns on the spot from a 3D environment, to train the task rotation_3d on.

    python examples/record_rooms.py --environment miniworld --output recorded
    python examples/train.py --task rotation_3d --data recorded --data-dir recorded

``pip install 'pyro_gtm[envs]'`` brings MiniWorld and ViZDoom; neither needs a screen, MiniWorld
needs the system's EGL library.  With ``--environment rooms`` nothing is needed: it records the
rooms that the task draws by itself, smoothed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_gtm.experiments.data.recordings import save_recordings
from pyro_gtm.experiments.data.rooms import FIELD_OF_VIEW, Rooms

FINER = 4  # pixels drawn for one recorded, each way, before they are averaged


class Request(NamedTuple):
    """What each sequence shall be: so many frames, degrees apart, of so many pixels a side."""

    num_steps: int
    degrees: float
    size: int
    seed: int


def record_rooms(request: Request) -> Iterator[Tensor]:
    """The rooms of `pyro_gtm.experiments.data.rooms`."""
    generator = torch.Generator().manual_seed(request.seed)
    while True:
        frames, _ = Rooms().turn(
            request.num_steps,
            1,
            degrees=request.degrees,
            size=FINER * request.size,
            generator=generator,
        )
        yield 255 * frames[:, 0]


def record_miniworld(request: Request) -> Iterator[Tensor]:
    """A random room of MiniWorld in each sequence: pictures on its walls, a building outside."""
    import pyglet

    pyglet.options["headless"] = True  # to be said before MiniWorld opens a window
    from miniworld.entity import ImageFrame, MeshEnt
    from miniworld.miniworld import MiniWorldEnv

    walls = ["brick_wall", "cinder_blocks", "concrete", "drywall", "marble", "rock", "stucco"]
    floors = ["asphalt", "floor_tiles_bw", "grass", "slime", "water", "wood", "wood_planks"]
    pictures = ["cardboard", "door_doom", "grass", "lava", "logo_mila", "metal_grill", "water"]

    class Gallery(MiniWorldEnv):
        def _gen_world(self) -> None:
            draw = self.np_random
            width, depth = draw.uniform(4, 8, 2)
            room = {"wall_tex": draw.choice(walls), "floor_tex": draw.choice(floors)}
            self.add_rect_room(0, width, 0, depth, no_ceiling=True, **room)
            # Two pictures to a wall, which stand out from x = 0, z = depth, x = width and z = 0.
            for wall, place in product(range(4), (1 / 4, 3 / 4)):
                x, z = [(0, place), (place, 1), (1, place), (place, 0)][wall]
                at = [x * width, draw.uniform(1.2, 1.6), z * depth]
                picture = draw.choice(pictures)
                self.entities.append(
                    ImageFrame(at, wall * math.pi / 2, picture, draw.uniform(0.6, 1.2))
                )
            self.place_agent()
            angle = draw.uniform(0, 2 * math.pi)
            far = np.array([30 * math.cos(angle), 0, 30 * math.sin(angle)])
            self.place_entity(MeshEnt("building", height=30), pos=far, dir=angle)

    side = FINER * request.size
    gallery = Gallery(obs_width=side, obs_height=side, domain_rand=True)  # of sky, light and eye
    gallery.reset(seed=request.seed)
    while True:
        gallery.reset()
        gallery.agent.cam_fov_y = FIELD_OF_VIEW
        frames = []
        for _ in range(request.num_steps):
            frames.append(torch.tensor(gallery.render_obs()))
            gallery.agent.dir += math.radians(request.degrees)  # to the left
        yield torch.stack(frames).movedim(3, 1)


def record_vizdoom(request: Request) -> Iterator[Tensor]:
    """The rooms of ViZDoom's scenario "my way home": at one of some twenty places, any heading.

    The places are the same in both parts: held-out turns are new in their headings only.
    """
    import vizdoom

    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path) / "my_way_home.cfg"))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_640X480)
    game.set_window_visible(False)
    game.set_render_weapon(False)
    game.set_available_buttons([vizdoom.Button.TURN_LEFT_RIGHT_DELTA])  # in degrees, to 0.006
    game.set_seed(request.seed)
    with TemporaryDirectory() as folder, closing(game):
        game.set_doom_config_path(str(Path(folder) / "vizdoom.ini"))  # which it writes
        game.init()
        while True:
            game.new_episode()
            frames = []
            for _ in range(request.num_steps):
                frames.append(torch.tensor(game.get_state().screen_buffer))
                game.make_action([-request.degrees])  # to the left
            middle = torch.stack(frames)[:, :, 80:560]  # a square
            yield middle.movedim(3, 1)


class Environment(NamedTuple):
    """How it is recorded, and what a frame of it shows across, in degrees."""

    record: Callable[[Request], Iterator[Tensor]]
    field_of_view: float


ENVIRONMENTS = {
    "miniworld": Environment(record_miniworld, FIELD_OF_VIEW),
    # The middle of a picture that shows 90 degrees on 640 pixels.
    "vizdoom": Environment(record_vizdoom, 2 * math.degrees(math.atan(480 / 640))),
    "rooms": Environment(record_rooms, FIELD_OF_VIEW),
}


def shrink(frames: Tensor, size: int) -> npt.NDArray[np.uint8]:
    """Levels 0..255, (T, 3, H, W), averaged over areas: uint8, (T, size, size, 3)."""
    small = torch.nn.functional.interpolate(frames.float(), (size, size), mode="area")
    return small.round().byte().movedim(1, 3).numpy()


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("-e", "--environment", type=click.Choice(list(ENVIRONMENTS)), default="miniworld")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="recorded", help="A folder."
)
@click.option("--train", type=click.IntRange(1), default=2000, help="Sequences to learn from.")
@click.option("--test", type=click.IntRange(1), default=200, help="Sequences to be judged on.")
@click.option("-T", "--num-steps", type=click.IntRange(1), default=30, help="Frames of each.")
@click.option(
    "--size", type=click.IntRange(1, 256), default=32, help="Pixels of a frame, each way."
)
@click.option(
    "--degrees",
    type=click.FloatRange(0, 360, min_open=True, max_open=True),
    default=24.5,
    help="The turn from a frame to the next.",
)
@click.option("--seed", type=click.IntRange(0), default=0)
def main(
    environment: str,
    output: Path,
    train: int,
    test: int,
    num_steps: int,
    size: int,
    degrees: float,
    seed: int,
) -> None:
    """Record sequences of frames while turning on the spot, each from a place and heading anew."""
    chosen = ENVIRONMENTS[environment]
    try:
        recorded = chosen.record(Request(num_steps, degrees, size, seed))
        sequences = chain([next(recorded)], recorded)  # what is not installed leaves no folder
        output.mkdir(parents=True, exist_ok=True)
        for split, number in (("train", train), ("test", test)):
            with click.progressbar(islice(sequences, number), length=number, label=split) as bar:
                frames = np.stack([shrink(sequence, size) for sequence in bar])
            path = output / f"{split}.npz"
            save_recordings(path, frames, degrees, environment, chosen.field_of_view)
            click.echo(f"{number} sequences of {environment}: {path}")
    except ImportError as error:
        raise click.UsageError(
            f"{environment} cannot be used ({error}): `pip install 'pyro_gtm[envs]'` brings it"
        ) from error
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
