"""Disks that are full, that cannot be written, and folders that are taken away; and odd clocks.

The full disk is a small file system in memory, mounted for the test: for that one must be root.
"""

from __future__ import annotations

import shutil
import subprocess
import time

import pytest

from pyro_gtm.experiments import run as run_module
from pyro_gtm.experiments import training_loop
from pyro_gtm.experiments.checkpoint_file import checkpoints_in
from pyro_gtm.experiments.cli import training
from pyro_gtm.experiments.run import Run


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk):
    with open(disk / "filler", "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def filling(disk, owner, name, call):
    """Prepare a process to fill the disk before the n-th call of something."""

    def prepare():
        function, calls = getattr(owner, name), []

        def filled(*arguments):
            calls.append(1)
            if len(calls) == call:
                fill(disk)
            return function(*arguments)

        setattr(owner, name, filled)

    return prepare


STAGES = {
    "a checkpoint": (run_module, "save_checkpoint", 4, "checkpoints/step-00000012.pt"),
    "the metrics": (training_loop.TrainingLoop, "_training_row", 2, "metrics.jsonl"),
    "the summary": (run_module, "write_sealed", 1, "summary.json"),
    "the figures": (training, "draw_figures", 1, "figures/training.png"),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_disk_is_full(stage, disk, tmp_path, command, succeeds, reference, outcome, tally):
    """A row of metrics needs a new block of the disk only now and then: here it is a wide one."""
    owner, name, call, path = STAGES[stage]
    folder, line = disk / "run", f"{reference.line} "
    expected = reference.outcome
    if stage == "the metrics":
        line = line.replace("--save-every 3", "--save-every 30 --log-every 1")
        succeeds(f"{line} {tmp_path / 'whole'}")
        expected = outcome(tmp_path / "whole")
    ended = command(f"{line} {folder}", filling(disk, owner, name, call))
    assert ended.code == 1
    *_, sentence = ended.output.splitlines()
    assert sentence.startswith(f"Error: {folder / path} cannot be written: No space left on device")
    assert "Traceback" not in ended.output and "Make room and continue with" in sentence
    kept = [path.name for path in checkpoints_in(folder)]
    (disk / "filler").unlink()
    succeeds(f"train --resume {folder}")
    assert outcome(folder) == expected
    tally(f"disk full before {stage}", 1, f"{path} cannot be written ...; kept: {kept}")


@pytest.mark.slow
def test_a_disk_of_random_room(disk, command, succeeds, reference, outcome, tally):
    """From too little to begin to nearly enough, in twenty steps."""
    refused = 0
    for room in range(20):
        folder = disk / "run"
        fill(disk)
        with open(disk / "filler", "r+b") as filler:
            filler.truncate((disk / "filler").stat().st_size - room * 32 * 1024)
        ended = command(f"{reference.line} {folder}")
        refused += ended.code != 0
        assert "Traceback" not in ended.output
        assert ended.code == 0 or "No space left on device" in ended.output.splitlines()[-1]
        (disk / "filler").unlink()
        begun = (folder / "config.json").exists()
        succeeds(f"train --resume {folder}" if begun else f"{reference.line} {folder}")
        assert outcome(folder) == reference.outcome
        shutil.rmtree(folder)
    assert refused > 10
    tally("disk with 0 to 600 KiB of room", 20, f"{refused} sentences, each with the file's name")


@pytest.mark.slow
def test_a_disk_that_can_only_be_read(disk, tmp_path, command, succeeds, reference, tally):
    folder = disk / "run"
    shutil.copytree(reference.folder, folder)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for line, words in (
        (f"train --resume {folder} -n 40", f"{folder} cannot be written in: Read-only file system"),
        (f"train -o {disk / 'new'}", f"output: {disk / 'new'} cannot be written: Read-only file"),
    ):
        ended = command(line)
        assert (ended.code, ended.output.count("\n")) == (2, 1)
        assert ended.output.startswith(f"Error: {words}")
    succeeds(f"evaluate {folder} --output {tmp_path / 'elsewhere'}")
    tally(
        "a folder that can only be read", 3, "refused: Read-only file system; `evaluate -o` works"
    )


def test_the_folder_is_removed_while_it_trains(tmp_path, command, reference, tally):
    folder = tmp_path / "run"

    def prepare():
        row = training_loop.TrainingLoop._training_row

        def removing(loop):
            if loop.step == 20:
                shutil.rmtree(folder)
            return row(loop)

        training_loop.TrainingLoop._training_row = removing

    ended = command(f"{reference.line} {folder}", prepare)
    assert ended.code == 1
    *_, sentence = ended.output.splitlines()
    assert sentence == (
        f"Error: {folder} is gone, taken away while the run was at step 21, and all that was in "
        "it: begin again"
    )
    assert not folder.exists()
    tally("the folder is removed during the run", 1, "FOLDER is gone, taken away while ...", 1)


def test_a_clock_that_goes_backwards(tmp_path, succeeds, reference, outcome, tally):
    def prepare():
        began = time.time()
        time.time = lambda: began - 3600 * (time.monotonic() - begun)
        time.time_ns = lambda: int(time.time() * 1e9)
        begun = time.monotonic()

    succeeds(f"{reference.line} {tmp_path / 'run'}", prepare)
    assert outcome(tmp_path / "run") == reference.outcome
    assert Run.load(tmp_path / "run").trained_with is not None
    tally("the clock goes back an hour a second", 1, "nothing")
