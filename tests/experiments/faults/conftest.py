"""Runs that are killed, starved and damaged for real, and what they come to.

Commands run in forks of this process: each is a process of its own, killed by the system, without
the seconds that Python needs to import everything.
"""

from __future__ import annotations

import faulthandler
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner
from tqdm import tqdm

from pyro_gtm.experiments import cli, places, report, run_set
from pyro_gtm.experiments.checkpoint_file import checkpoints_in, load_checkpoint
from pyro_gtm.experiments.plotting import saving
from pyro_gtm.experiments.run_folder import summary_in

OPTIONS = (
    "--preset debug --list-length 2 --recall-length 1 --latent-dim 3 --hidden-dim 6 "
    "--num-steps 30 --batch-size 2 --eval-sequences 4"
)
ROWS = pytest.StashKey[list[tuple[str, int, int, str]]]()


def pytest_configure(config):
    config.stash[ROWS] = []


def pytest_terminal_summary(terminalreporter, config):
    """The table of what was tried, as in docs/howto/when_a_run_breaks.md."""
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.write_line("| Fault | Tries | Lost | What one sees |\n|---|---|---|---|")
    for fault, tries, lost, seen in rows:
        terminalreporter.write_line(f"| {fault} | {tries} | {lost} | {seen} |")


@pytest.fixture
def tally(request):
    """Add a line to the table: a fault, how often it was tried, what was seen."""

    def add(fault, tries, seen, lost=0):
        request.config.stash.setdefault(ROWS, []).append((fault, tries, lost, seen))

    return add


@pytest.fixture(autouse=True, scope="session")
def fork_only():
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")


@contextmanager
def few_dots():
    """Most of a short run is the drawing of its figures: here they are of few dots an inch, and
    strips of frames are left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving.save, "__defaults__", (30,))
        patch.setattr(report, "draw_sequences", lambda *arguments, **options: {})
        yield


@pytest.fixture(autouse=True)
def few_dots_in_forks():
    """For as long as a test here: other tests of this process want whole figures."""
    with few_dots():
        yield


@pytest.fixture(autouse=True, scope="session")
def warm(tmp_path_factory):
    """A run in this process: what a run imports on its way, every fork has then from here."""
    folder = tmp_path_factory.mktemp("warm") / "run"
    with few_dots():
        for line in (f"train {OPTIONS} -o {folder}", f"evaluate {folder}"):
            ended = CliRunner().invoke(cli.main, shlex.split(line))
            assert ended.exit_code == 0, ended.output


class Ended(NamedTuple):
    code: int
    """The exit code, or minus the signal's number."""
    output: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether by ``kill -9``."""
        return self.code == -signal.SIGKILL


class Process:
    """``pyro-gtm`` with a line of arguments, in a fork; in a process group of its own.

    Args:
        line: the arguments.
        folder: to run it in.
        prepare: is called in the fork before it.
    """

    def __init__(self, line: str, folder: Path, prepare: Callable[[], Any] = lambda: None) -> None:
        self.log = folder / "output.txt"
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid:
            with suppress(PermissionError, ProcessLookupError):  # the fork was quicker
                os.setpgid(self.pid, self.pid)
            return
        code = 99
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for standard in (1, 2):
                os.dup2(descriptor, standard)
            faulthandler.enable(descriptor)
            # Its own is one with that of all other forks, and for ever held by one that was killed.
            tqdm.set_lock(threading.RLock())
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            os.chdir(folder)
            prepare()
            cli.main.main(shlex.split(line), prog_name="pyro-gtm")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)

    def wait(self, at_most: float = 240) -> Ended:
        """Until it ends; one that does not shows where it stands, and is killed with its own."""
        if not self._ends_within(at_most):
            os.kill(self.pid, signal.SIGABRT)
            self._ends_within(5)
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            pytest.fail(f"it has not ended:\n{self.log.read_text()}")
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, self.log.read_text(), time.monotonic() - self.begun)

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def kill(self, after: float, group: bool = False) -> Ended:
        """``kill -9`` after some seconds, if it has not ended."""
        self._ends_within(self.begun + after - time.monotonic())
        (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        return self.wait()


@pytest.fixture
def command(tmp_path):
    """Run a command to its end, or give its process."""

    def run(line, prepare=lambda: None, wait=True):
        process = Process(line, tmp_path, prepare)
        return process.wait() if wait else process

    return run


@pytest.fixture
def succeeds(command):
    def run(line, prepare=lambda: None):
        ended = command(line, prepare)
        assert ended.code == 0, ended.output
        return ended

    return run


def bits(value):
    """Tensors as bytes, so that ``==`` means every bit."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {key: bits(entry) for key, entry in value.items()}
    return value


@pytest.fixture(scope="session")
def as_bits():
    return bits


@pytest.fixture(scope="session")
def outcome():
    """All that a finished run leaves, but for what tells of times."""

    def of(folder):
        summary = summary_in(folder)
        del summary["steps_per_second"], summary["provenance"]
        assert not [path for path in folder.rglob("*") if path.suffix == ".partial"]
        return {
            "summary": summary,
            "metrics": (folder / "metrics.jsonl").read_bytes(),
            "config": (folder / "config.json").read_bytes(),
            "newest": checkpoints_in(folder)[-1].name,  # that before may be of where it was stopped
            "state": bits(load_checkpoint(checkpoints_in(folder)[-1])),
            "figures": {path.name: path.read_bytes() for path in folder.glob("figures/*")},
        }

    return of


@pytest.fixture(scope="session")
def options():
    return OPTIONS


@pytest.fixture(scope="session")
def reference(tmp_path_factory, outcome, warm):
    """A run that nothing befell: its folder, its outcome, and how long it took."""
    folder = tmp_path_factory.mktemp("reference")
    line = f"train --memory vrnn {OPTIONS} --save-every 3 --eval-every 10 --output"
    with few_dots():
        ended = Process(f"{line} run", folder).wait()
    assert ended.code == 0, ended.output
    return Reference(folder / "run", line, outcome(folder / "run"), ended.seconds)


class Reference(NamedTuple):
    folder: Path
    line: str
    """The command that made it, less the folder's name."""
    outcome: dict[str, Any]
    seconds: float


@pytest.fixture(scope="session")
def forked_runs():
    """Have ``compare`` fork its processes too."""

    def prepare():
        import multiprocessing
        import warnings

        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        places.PROCESSES = multiprocessing.get_context("fork")
        run_set.POLL = 0.02

    return prepare
