"""``pyro-gtm generate``: pictures of sequences that a trained model continues."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyro_gtm.experiments.config import make_config

PNG = b"\x89PNG\r\n\x1a\n"


def test_it_adds_a_picture_and_nothing_else(run, command_line):
    before = command_line.files(run)
    result = command_line.succeeds("generate run")
    assert result.output == "4 frames given, 2 generated: run/figures/generated.png\n"
    after = command_line.files(run)
    assert after.pop(Path("figures/generated.png")).startswith(PNG)
    assert after == before


def test_it_is_seeded(finished, folder, command_line):
    run = finished("vrnn").folder

    def picture(options):
        result = command_line.succeeds(
            f"generate {run} --sample --num-given 2 -o picture.png {options}"
        )
        assert result.output.startswith("2 frames given, 4 generated")
        return (folder / "picture.png").read_bytes()

    first = picture("--seed 3")
    assert picture("--seed 3") == first
    assert picture("--seed 4") != first
    assert picture("--seed 3 --num-sequences 2") != first


@pytest.mark.parametrize(("task", "own"), [("mnist_map", "map"), ("rotation_3d", "turn")])
def test_a_tasks_own_picture_is_generated_too(task, own, folder, command_line):
    command_line.succeeds(f"train --preset debug --task {task} -n 1 -o run")
    result = command_line.succeeds("generate run -o picture.png --num-sequences 2")
    assert result.output.endswith(f"3 generated: picture.png, picture-{own}.png\n")
    for name in ("picture.png", f"picture-{own}.png"):
        assert (folder / name).read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("missing", ["missing holds no run"]),
        ("untrained", ["untrained has no checkpoint yet"]),
        ("run --num-given 6", ["--num-given: got 6, must be from 1 to 5"]),
        ("run --num-given 0", ["--num-given"]),
        ("run --num-sequences 1000000000000", ["--num-sequences"]),
        ("run --seed 4294967296", ["--seed"]),
        ("run --device nonsense", ["device: got 'nonsense', must be auto"]),
        ("run --output ''", ["--output", "the name is empty"]),
        ("run --output missing/picture.png", ["missing/picture.png", "missing is not a folder"]),
        ("run --output run", ["--output", "'run' is a directory"]),
        ("run --output picture.jpg", ["--output: got picture.jpg, must end in .png"]),
        ("''", ["RUN_FOLDER", "the name is empty"]),
    ],
)
@pytest.mark.usefixtures("run")
def test_it_refuses(line, words, folder, command_line):
    (folder / "untrained").mkdir()
    (folder / "untrained" / "config.json").write_text(make_config("debug").to_json())
    command_line.refuses(f"generate {line}", *words)
