"""Every script a reader may run does run; the console command is there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.run import Run

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [*ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/*.py")]

# The arguments of the smoke run of each script, and words that its output ends with.
SMOKE_RUNS = {
    "examples/train.py": ("--preset debug -n 2 --output new", "new/figures/attention.png"),
    "examples/record_rooms.py": (
        "-e rooms --train 2 --test 1 -T 3 --size 8 --output new",
        "new/test.npz",
    ),
    "examples/what_does_it_remember.py": ("run", "run/figures/what_it_remembers.png"),
    "examples/generate.py": ("run -o picture.png", "2 generated: picture.png"),
    "examples/chorales.py": (
        "--data notes.json --memory associative --minutes 0.01 --output new",
        "new/continuation.mid",
    ),
    "examples/own_series.py": ("-n 2 --horizon 3 --output new", "interval holds"),
    "examples/own_rules.py": ("", "|"),
    "examples/reproduce.py": ("--list", "0 of 1 seeds recorded"),
    "examples/compose_your_own.py": ("--memory vrnn -n 1", "nats a step: "),
    "benchmarks/chorales.py": (
        "--data notes.json --contestant vrnn --minutes 0.01 --evaluations 1",
        "vrnn",
    ),
    "benchmarks/copy_task.py": ("--memory vrnn -n 2 -b 2 --eval-every 1", "no"),
    "benchmarks/memory_growth.py": (
        "-T 1,2 --slots 2,3 --heads 1,2 -b 2,3 --turns 1 --figure new/growth.png",
        "new/growth.png",
    ),
    "benchmarks/guard.py": ("--memory vrnn --turns 1 --worse 9", "ok"),
    "benchmarks/network_time.py": ("--task perfect_recall -b 2 --turns 1", "small_conv"),
    "benchmarks/parallel_path.py": ("-T 3 -b 2 --turns 1", ""),
    "benchmarks/patch_walk.py": (
        "--observe 4 --train-observe 3 --predict 2 -n 1 -b 2 --seeds 1 --images 3 --walks 2 "
        "--figure new/walk.png",
        "new/walk.png",
    ),
    "benchmarks/products.py": ("--turns 1", ""),
    "benchmarks/ranks.py": ("-b 2 --steps 1 --turns 1", ""),
    "benchmarks/real_series.py": (
        "--set waves --memory vrnn --seeds 1 --steps 2 --num-samples 5",
        "vrnn",
    ),
    "benchmarks/regime_switching.py": ("--memory vrnn --steps 2", "vrnn"),
    "benchmarks/sequence_time.py": ("--task mnist_map -b 2 --turns 1", "%"),
    "benchmarks/step_time.py": (
        "--turns 1 -T 3 -b 2 --width 8 --contestant hand-written --contestant stacked",
        "stacked",
    ),
}


SLOW = {"benchmarks/ranks.py"}
"""Smoke runs that start many processes."""


@pytest.fixture(scope="session")
def execute():
    """Runs a script in a process of its own: exit code, what it printed, and what it complained."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("script_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def run(script, *arguments, folder):
            streams = {name: folder / f"{name}.txt" for name in ("output", "errors")}
            asked = {"script": script, "arguments": arguments, "folder": folder, **streams}
            print(json.dumps(asked, default=str), file=server.stdin, flush=True)
            answer = server.stdout.readline()
            assert answer, "the process that runs the scripts has ended"
            printed = [path.read_text() for path in streams.values()]
            return subprocess.CompletedProcess([script, *arguments], int(answer), *printed)

        yield run
        server.stdin.close()


@pytest.fixture
def folder(tmp_path):
    """An empty folder, but for a trained run and some notes: scripts are given their names."""
    config = make_config("debug", num_steps=1, eval_sequences=3, memory="vrnn")
    Run.start(tmp_path / "run", config).train()
    piece = 3 * [[60, 64, 67], [62, 65, 69], [60, 64, 67], [59, 62, 67]]
    notes = {part: [piece, piece[:8]] for part in ("train", "valid", "test")}
    (tmp_path / "notes.json").write_text(json.dumps(notes))
    return tmp_path


def test_every_script_has_a_smoke_run():
    assert sorted(SMOKE_RUNS) == sorted(str(path.relative_to(ROOT)) for path in SCRIPTS)


@pytest.mark.parametrize(
    "script", [pytest.param(s, marks=pytest.mark.slow if s in SLOW else ()) for s in SMOKE_RUNS]
)
def test_script_runs(script, folder, execute):
    arguments, ending = SMOKE_RUNS[script]
    result = execute(ROOT / script, *arguments.split(), folder=folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "a script warns of nothing"
    assert ending in result.stdout.splitlines()[-1]


def test_console_command_explains_itself(tmp_path):
    command = Path(sys.executable).with_name("pyro-gtm")
    result = subprocess.run(
        [command, "train", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    for word in ("Usage: pyro-gtm train", "--memory", "introspective", "vrnn", "--resume"):
        assert word in result.stdout

    (installed,) = entry_points(group="console_scripts", name="pyro-gtm")
    result = CliRunner().invoke(installed.load(), ["--help"], prog_name="pyro-gtm")
    assert result.exit_code == 0
    for word in ("Usage: pyro-gtm", "train", "evaluate", "generate", "compare"):
        assert word in result.output


@pytest.mark.parametrize(
    "script",
    ["train", "record_rooms", "what_does_it_remember", "compose_your_own"],
)
def test_example_opens_with_a_command_to_run(script):
    """The docstring's commands name the script where it lies."""
    text = (ROOT / "examples" / f"{script}.py").read_text()
    assert f"    python examples/{script}.py" in text.split('"""')[1]


def test_composing_ones_own_takes_less_than_80_lines():
    assert len((ROOT / "examples" / "compose_your_own.py").read_text().splitlines()) < 80


def test_remembering_without_a_run_says_how_to_make_one(tmp_path, execute):
    script = ROOT / "examples" / "what_does_it_remember.py"
    result = execute(script, "nowhere", folder=tmp_path)
    assert result.returncode == 2
    *_, sentence = result.stderr.splitlines()
    assert "nowhere holds no run" in sentence
    assert "python examples/train.py -o nowhere" in sentence
