"""Recorded turns: what was saved is what is drawn, and nothing else is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from pyro_gtm.experiments.data import MissingDataError, Recordings, load_recordings, save_recordings

N, T, SIZE, DEGREES = 7, 5, 6, 24.5
LEVELS = np.random.default_rng(0).integers(0, 256, (N, T, SIZE, SIZE, 3), dtype=np.uint8)
SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "record_rooms.py"


@pytest.fixture
def recordings() -> Recordings:
    return Recordings(torch.tensor(LEVELS), DEGREES, "somewhere", 73.7)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames_of(recordings: Recordings, seed: int = 0, batch_size: int = 4, steps: int = T) -> Tensor:
    return recordings.turn(
        steps, batch_size, degrees=DEGREES, size=SIZE, generator=seeded(seed)
    ).frames


def which(frames: Tensor) -> list[int]:
    """The recorded sequence that each one is, value by value in plain loops."""
    found = []
    for b in range(frames.shape[1]):
        for n in range(N):
            if all(
                frames[t, b, channel, row, column].item()
                == pytest.approx(LEVELS[n, t, row, column, channel] / 255, abs=1e-6)
                for t in range(len(frames))
                for channel in range(3)
                for row in range(SIZE)
                for column in range(SIZE)
            ):
                found.append(n)
    return found


@pytest.mark.parametrize("steps, batch_size", [(T, 4), (2, 1)])
def test_sequences_are_as_they_were_recorded(
    recordings: Recordings, steps: int, batch_size: int
) -> None:
    frames = frames_of(recordings, batch_size=batch_size, steps=steps)
    assert frames.shape == (steps, batch_size, 3, SIZE, SIZE)
    assert frames.dtype == torch.float32 and frames.is_contiguous()
    assert len(which(frames)) == batch_size


def test_headings_count_from_the_first_frame(recordings: Recordings) -> None:
    heading = recordings.turn(3, 2, degrees=DEGREES, size=SIZE).heading
    assert heading.tolist() == [[0.0, 0.0], [24.5, 24.5], [49.0, 49.0]]


def test_sequences_are_uniform_with_replacement(recordings: Recordings) -> None:
    corner = torch.tensor(LEVELS[:, 0, 0, 0])  # (N, 3): no two are equal
    drawn = frames_of(recordings, batch_size=7000, steps=1)[0, :, :, 0, 0].mul(255).round().byte()
    counts = (drawn.unsqueeze(1) == corner).all(2).sum(0)
    assert counts.sum() == 7000
    assert (counts - 1000).abs().max() < 5 * (7000 * (1 / 7) * (6 / 7)) ** 0.5


def test_seeds_reproduce_and_leave_the_global_state_alone(recordings: Recordings) -> None:
    before = torch.get_rng_state()
    assert frames_of(recordings, 5, 8).equal(frames_of(recordings, 5, 8))
    assert not frames_of(recordings, 5, 8).equal(frames_of(recordings, 6, 8))
    assert torch.get_rng_state().equal(before)


def test_recordings_are_drawn_where_they_lie(recordings: Recordings) -> None:
    there = recordings.to("meta")
    assert there.device.type == "meta" and recordings.device.type == "cpu"
    assert (there.degrees, there.environment, there.field_of_view) == (24.5, "somewhere", 73.7)
    frames, heading = there.turn(2, 3, degrees=DEGREES, size=SIZE)
    assert frames.device.type == heading.device.type == "meta"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_frames": T + 1}, "num_frames: got 6, must be at most 5, the length of"),
        ({"size": 32}, "size: got 32, must be 6, the size of the frames recorded from somewhere"),
        ({"degrees": 24}, "degrees: got 24, must be 24.5, the angle between the frames"),
        ({"batch_size": 0}, "batch_size.* got 0"),
        ({"num_frames": 0}, "num_frames.* got 0"),
    ],
)
def test_turns_that_were_not_recorded_are_refused(
    recordings: Recordings, options: dict, message: str
) -> None:
    asked = {"num_frames": T, "batch_size": 2, "degrees": DEGREES, "size": SIZE, **options}
    with pytest.raises(ValueError, match=message):
        recordings.turn(**asked)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save_recordings(tmp_path / "train.npz", LEVELS[:4], DEGREES, "here", 60)
    save_recordings(tmp_path / "test.npz", LEVELS[4:], 360 / 7, "there")
    train, test = load_recordings(str(tmp_path))
    assert np.array_equal(train.frames.numpy(), LEVELS[:4])
    assert np.array_equal(test.frames.numpy(), LEVELS[4:])
    assert (train.degrees, train.environment, train.field_of_view) == (24.5, "here", 60.0)
    assert (test.degrees, test.environment, test.field_of_view) == (360 / 7, "there", 90.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.npz", "train.npz"]


@pytest.mark.parametrize(
    "frames, degrees, field_of_view, message",
    [
        (LEVELS / 255, 24.5, 90, "frames: got torch.float64 of shape .* must be uint8 of shape"),
        (LEVELS[0], 24.5, 90, "must be uint8 of shape"),
        (LEVELS[..., :2], 24.5, 90, "must be uint8 of shape"),
        (LEVELS[:, :, 1:], 24.5, 90, "must be uint8 of shape"),
        (LEVELS[:0], 24.5, 90, "with no dimension 0"),
        (LEVELS, 0, 90, "degrees: got 0, must be above 0 and below 360"),
        (LEVELS, 360, 90, "degrees: got 360, must be above 0 and below 360"),
        (LEVELS, float("nan"), 90, "degrees: got nan, must be above 0 and below 360"),
        (LEVELS, 24.5, 0, "field_of_view: got 0, must be above 0 and at most 180"),
        (LEVELS, 24.5, 181, "field_of_view: got 181, must be above 0 and at most 180"),
    ],
)
def test_what_cannot_be_drawn_is_not_saved(
    tmp_path: Path, frames: np.ndarray, degrees: float, field_of_view: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_recordings(tmp_path / "train.npz", frames, degrees, "here", field_of_view)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_split_says_how_to_make_it(tmp_path: Path, missing: str) -> None:
    for split in {"train", "test"} - {missing}:
        save_recordings(tmp_path / f"{split}.npz", LEVELS, DEGREES, "here")
    with pytest.raises(MissingDataError, match=rf"{missing}.npz is missing: make it with .*record"):
        load_recordings(tmp_path)


def without(field: str) -> dict[str, Any]:
    whole = {"frames": LEVELS, "degrees": 24.5, "field_of_view": 90.0, "environment": "here"}
    return {name: value for name, value in whole.items() if name != field}


@pytest.mark.parametrize("kind", ["empty", "text", "cut short", "garbled", "array"])
def test_what_is_no_archive_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "train.npz"
    save_recordings(path, LEVELS, DEGREES, "here")
    content = bytearray(path.read_bytes())
    if kind == "garbled":
        content[len(content) // 2] ^= 0xFF
    changed = {"empty": b"", "text": b"frames", "cut short": content[:-100], "garbled": content}
    if kind in changed:
        path.write_bytes(changed[kind])
    else:
        with path.open("wb") as file:
            np.save(file, LEVELS)
    reason = "holds no recording: it is no readable .npz file .*; make it with"
    with pytest.raises(MissingDataError, match=f"train.npz {reason}"):
        load_recordings(tmp_path)


@pytest.mark.parametrize("kind", ["a folder", "a link to nothing"])
def test_what_is_no_file_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "train.npz"
    path.mkdir() if kind == "a folder" else path.symlink_to(tmp_path / "nothing")
    with pytest.raises(MissingDataError, match=f"train.npz is {kind}.* in the place of a file"):
        load_recordings(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (without("frames"), "it has no frames"),
        (without("environment"), "it has no environment"),
        (without("field_of_view"), "it has no field_of_view"),
        (
            without("frames") | {"frames": LEVELS / 255},
            r"frames: got float64 of shape .*, must be uint8 .*, as levels from 0 to 255",
        ),
        (
            without("frames") | {"frames": np.moveaxis(LEVELS, -1, 2)},
            r"frames: got uint8 of shape \(7, 5, 3, 6, 6\), must be .*, with the colours last",
        ),
        (
            without("frames") | {"frames": LEVELS[..., [0, 1, 2, 0]]},
            r"frames: got uint8 of shape \(7, 5, 6, 6, 4\), must be .*, without the transparency",
        ),
        (
            without("frames") | {"frames": LEVELS[:, :, :4]},
            r"frames: got uint8 of shape \(7, 5, 4, 6, 3\), must be .* \(N, T, size, size, 3\)",
        ),
        (without("frames") | {"frames": np.array([None])}, "it holds frames as Python objects"),
        (without("degrees") | {"degrees": 400.0}, "degrees: got 400.0, must be above 0 and below"),
        (without("degrees") | {"degrees": "some"}, "degrees: got <U4 .*, must be one real number"),
        (without("degrees") | {"degrees": np.ones(2)}, r"degrees: .* \(2,\), must be one real"),
        (without("environment") | {"environment": 3}, "environment: .*, must be one string"),
        (without("environment") | {"environment": "a\nb"}, "environment: .* printable"),
    ],
)
def test_a_recording_of_another_form_says_what_is_wrong(
    tmp_path: Path, content: dict[str, Any], why: str
) -> None:
    np.savez(tmp_path / "train.npz", **content)
    with pytest.raises(MissingDataError, match=f"train.npz holds no recording: {why}.*; make it"):
        load_recordings(tmp_path)


def test_arrays_of_ones_own_beside_the_recording_do_no_harm(tmp_path: Path) -> None:
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", notes=np.array([None]), **without(""))
    assert np.array_equal(load_recordings(tmp_path).train.frames.numpy(), LEVELS)


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_rooms", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(script: ModuleType, folder: Path, *arguments: str) -> Result:
    sizes = ["--train", "2", "--test", "1", "-T", "5", "--size", "8", "--degrees", "90"]
    return CliRunner().invoke(script.main, [*arguments, "-o", str(folder), *sizes])


@pytest.mark.parametrize("environment", ["rooms", "miniworld", "vizdoom"])
def test_an_environment_is_recorded(script: ModuleType, tmp_path: Path, environment: str) -> None:
    if environment != "rooms" and importlib.util.find_spec(environment) is None:
        pytest.skip(f"needs the package {environment}")
    result = record(script, tmp_path / "new" / "folder", "-e", environment)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].endswith("folder/test.npz")

    train, test = load_recordings(tmp_path / "new" / "folder")
    assert (train.frames.shape, test.frames.shape) == ((2, 5, 8, 8, 3), (1, 5, 8, 8, 3))
    assert (train.environment, train.degrees) == (environment, 90.0)
    # After four turns of 90 degrees one sees nearly what one saw at first, and nothing like it
    # before; other sequences are other rooms, or headings.
    frames = torch.cat([train.frames, test.frames]).float()
    apart = (frames - frames[:, :1]).abs().mean((2, 3, 4))  # (sequences, T)
    assert (apart[:, 4] < 2).all() and (apart[:, 4] < 0.2 * apart[:, 2]).all()
    assert len(frames[:, 0].unique(dim=0)) == 3


def test_frames_are_averaged_over_areas(script: ModuleType) -> None:
    fine = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8) % 200
    small = script.shrink(fine, 2)
    assert (small.shape, small.dtype) == ((2, 2, 2, 3), np.uint8)
    for t, row, column, channel in np.ndindex(small.shape):
        area = fine[t, channel, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert abs(small[t, row, column, channel] - area.float().mean()) <= 0.5


@pytest.mark.parametrize("environment, package", [("miniworld", "pyglet"), ("vizdoom", "vizdoom")])
def test_an_environment_that_is_not_installed_is_told(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = record(script, tmp_path, "-e", environment)
    assert result.exit_code == 2
    *_, sentence = result.output.splitlines()
    assert (
        f"{environment} cannot be used" in sentence and "pip install 'pyro_gtm[envs]'" in sentence
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = record(script, tmp_path / "file" / "folder", "-e", "rooms")
    assert result.exit_code == 2
    assert "folder cannot be written" in result.output.splitlines()[-1]
