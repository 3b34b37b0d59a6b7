"""``torchrun --nproc-per-node=2 -m pyro_gtm train``: one speaks, all stop, and all go on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyro_gtm.experiments.checkpoint_file import checkpoints_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="reads /proc for the processes started"),
]
TINY = (
    "--preset debug --memory vrnn --list-length 2 --recall-length 1 --latent-dim 3 --hidden-dim 6 "
    "--device cpu -b 2 --log-every 50 --eval-every 1000 --eval-sequences 4 --save-every 50"
)
ENDLESS = 1_000_000


class Launched:
    """``torchrun`` with two processes, begun in a folder."""

    def __init__(self, line: str, folder: Path, environment: dict[str, str]) -> None:
        self.log = folder / "output.txt"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*launcher, "-m", "pyro_gtm", "train", *shlex.split(line)],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def ranks(self) -> list[int]:
        """The processes of the ranks, in their order."""
        number = self.process.pid
        return [int(n) for n in Path(f"/proc/{number}/task/{number}/children").read_text().split()]

    def until_saved(self, run: Path) -> None:
        while not checkpoints_in(run):
            assert self.process.poll() is None, self.output
            time.sleep(0.05)

    def end(self) -> int:
        try:
            return self.process.wait(timeout=120)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def torchrun(folder, environment):
    return lambda line: Launched(line, folder, environment)


def test_told_to_stop_it_saves_and_goes_on_with_the_command_it_names(torchrun, folder, environment):
    launched = torchrun(f"{TINY} -n {ENDLESS} --output run")
    launched.until_saved(folder / "run")
    launched.process.send_signal(signal.SIGTERM)
    assert launched.end() != 0
    assert launched.output.count("everything is saved") == 1, launched.output
    step = int(checkpoints_in(folder / "run")[-1].stem.partition("-")[2])
    command = launched.output.split("Continue with\n")[1].splitlines()[0].strip()
    assert command == "torchrun --nproc-per-node=2 -m pyro_gtm train --resume run"
    command = command.replace("torchrun", f"{sys.executable} -m torch.distributed.run")
    resumed = subprocess.run(
        [*shlex.split(command), "-n", str(step + 3)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("Figures, metrics and checkpoints are in run") == 1
    assert (folder / "run" / "figures" / "training.png").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_all_and_leaves_the_checkpoint(rank, torchrun, folder):
    launched = torchrun(f"{TINY} -n {ENDLESS} --output run")
    launched.until_saved(folder / "run")
    ranks, begun = launched.ranks(), time.monotonic()
    os.kill(ranks[rank], signal.SIGKILL)
    assert launched.end() != 0
    assert time.monotonic() - begun < 45, "30 seconds are what torchrun gives the others to end"
    assert not any(Path(f"/proc/{number}").exists() for number in ranks)
    assert checkpoints_in(folder / "run")
    said = "has ended or does not answer; step " in launched.output
    assert said == (rank == 1), launched.output


def test_what_is_refused_is_told_once(torchrun, folder):
    (folder / "run").mkdir()
    (folder / "run" / "notes.txt").touch()
    launched = torchrun(f"{TINY} -n 2 --output run")
    assert launched.end() != 0
    assert launched.output.count("Error: output: got run, must be empty or new") == 1, (
        launched.output
    )
