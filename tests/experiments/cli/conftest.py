"""The command line as a fixture, in an empty folder; and finished runs to start from."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from pyro_gtm.experiments import cli
from pyro_gtm.experiments.data import SOURCES
from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.memory.registry import MEMORIES
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.model.networks import NETWORKS
from pyro_gtm.tasks.base import TASKS


class CommandLine:
    """``pyro-gtm`` in this process, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, line: str) -> Result:
        return CliRunner().invoke(cli.main, shlex.split(line))

    def train(self, line: str = "") -> Result:
        return self(f"train --preset debug {line}")

    def succeeds(self, line: str) -> Result:
        result = self(line)
        assert result.exit_code == 0, result.output
        return result

    def files(self, folder: Path | None = None) -> dict[Path, bytes | None]:
        """Every file and folder below, and what is in the files."""
        folder = self.folder if folder is None else folder
        return {
            path.relative_to(folder): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")
        }

    def fails(self, line: str, exit_code: int, *words: str) -> list[str]:
        """It ends with one sentence that has these words; the lines before it."""
        result = self(line)
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == exit_code, result.output
        assert "Traceback" not in result.output
        *before, sentence = result.output.rstrip("\n").splitlines()
        assert sentence.startswith("Error: ")
        for word in words:
            assert word in sentence, sentence
        return before

    def refuses(self, line: str, *words: str) -> None:
        """One sentence, before it at most what click says of the usage; and no file changes."""
        files = self.files()
        before = self.fails(line, 2, *words)
        assert all(line.startswith(("Usage: ", "Try ")) or not line for line in before), before
        assert self.files() == files


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder that the command is run in: empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command_line(folder):
    return CommandLine(folder)


@pytest.fixture
def own_registries(folder, monkeypatch):
    """What a test registers, by a module of the folder perhaps, does not outlive it."""
    for registry in (MEMORIES, TASKS, NETWORKS, LIKELIHOODS, SOURCES, ELBOS):
        monkeypatch.setattr(registry, "classes", dict(registry.classes))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name, module in list(sys.modules.items()):
        if str(folder) in str(getattr(module, "__file__", None)):
            del sys.modules[name]


class Finished(NamedTuple):
    folder: Path
    output: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Callable[..., Finished]:
    """A short run of some memory, trained and drawn by the command line."""

    @functools.cache
    def made(memory="introspective"):
        run = tmp_path_factory.mktemp("finished") / "run"
        result = CommandLine(run.parent).succeeds(
            f"train --preset debug --memory {memory} -n 21 --output {run}"
        )
        return Finished(run, result.output)

    return made


@pytest.fixture
def run(finished, folder):
    """A copy of a finished run, in the folder."""
    return copy_of(finished().folder, folder / "run")


@pytest.fixture
def lru_run(finished, folder):
    return copy_of(finished("lru").folder, folder / "run")


def copy_of(run: Path, to: Path) -> Path:
    for path in run.rglob("*"):
        target = to / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    return to


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of processes: one thread, and this Python's commands first."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
