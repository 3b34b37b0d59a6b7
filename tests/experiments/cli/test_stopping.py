"""Signals to ``pyro-gtm train``: it saves, says how to go on, and goes on exactly."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.run import Run
from pyro_gtm.experiments.run_folder import summary_in

TRAIN = Path(__file__).resolve().parents[3] / "examples" / "train.py"

# Imported by the command, it has the draw of some batch wait, so that a signal comes in that step,
# however fast the machine is: the signal is sent, and then the file "go" is made.
HOLD = """
import os, time
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.run_folder import summary_in

draw, drawn = Experiment.draw, []


def held(self):
    drawn.append(1)
    if os.path.exists("hold") and len(drawn) == int(open("hold").read()):
        os.rename("hold", "held")
        while not os.path.exists("go"):
            time.sleep(0.01)
    return draw(self)


Experiment.draw = held
"""


@pytest.fixture
def one_thread():
    """As the processes below: sums then have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def interrupted(command, folder, environment, draws, number):
    """Run a command, send it a signal in the step of its n-th batch; its output and exit code."""
    for name in ("held", "go"):
        (folder / name).unlink(missing_ok=True)
    (folder / "hold").write_text(str(draws))
    with open(folder / "output.txt", "w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while not (folder / "held").exists():
            assert process.poll() is None, (folder / "output.txt").read_text()
            time.sleep(0.01)
        process.send_signal(number)
        (folder / "go").touch()
        process.wait()
    finally:
        process.kill()
        process.wait()
    return (folder / "output.txt").read_text(), process.returncode


@pytest.mark.parametrize(
    ("memory", "number", "code"),
    [
        ("introspective", signal.SIGINT, 130),
        pytest.param("vrnn", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_killed_and_interrupted_from_outside_it_ends_exactly(
    memory, number, code, folder, environment, command_line, one_thread
):
    """kill -9, then a signal it can catch, after which the printed command goes on.

    The folder's name has a blank in it, as folders at home may.
    """
    (folder / "hold_on.py").write_text(HOLD)
    options = f"--memory {memory} --preset debug --num-steps 60 --kl-annealing 50 --output"
    run, reference = folder / "my run", folder / "never-stopped"
    command = [sys.executable, TRAIN, "--import", "hold_on", *options.split(), "my run"]
    said, ended = interrupted(command, folder, environment, 31, signal.SIGKILL)
    assert ended == -signal.SIGKILL and "Stopped" not in said
    assert Run.load(run).step == 20

    resume = shlex.join(["python", str(TRAIN), "--resume", "my run", "--import", "hold_on"])
    said, ended = interrupted(["sh", "-c", f"exec {resume}"], folder, environment, 25, number)
    assert ended == code
    *_, sentence, command = said.splitlines()
    assert sentence == "Stopped after step 45; everything is saved. Continue with"
    assert command.strip() == resume
    subprocess.run(resume, shell=True, cwd=folder, env=environment, check=True)

    command_line.succeeds(f"train {options} {reference}")
    assert (run / "metrics.jsonl").read_bytes() == (reference / "metrics.jsonl").read_bytes()
    summaries = [summary_in(at) for at in (run, reference)]
    assert summaries[0].pop("steps_per_second") > 0 and summaries[1].pop("steps_per_second") > 0
    assert summaries[0] == summaries[1]
    trained = [Run.load(at).experiment for at in (run, reference)]
    for module in ("program", "memory"):
        states = [getattr(experiment, module).state_dict() for experiment in trained]
        assert states[0].keys() == states[1].keys()
        assert all(states[0][name].equal(states[1][name]) for name in states[0])
    for name in ("training", "kl_per_frame", "frames"):
        figures = [(at / "figures" / f"{name}.png").read_bytes() for at in (run, reference)]
        assert figures[0] == figures[1], name


def signals_in(monkeypatch, step, *numbers):
    """Have the process send itself signals in a step."""
    draw, drawn = Experiment.draw, []

    def stop(self):
        drawn.append(1)
        if len(drawn) == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        return draw(self)

    monkeypatch.setattr(Experiment, "draw", stop)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_run_says_how_to_go_on(number, code, folder, command_line, monkeypatch):
    signals_in(monkeypatch, 7, number)
    result = command_line.train("--output 'a run'")
    assert result.exit_code == code
    *_, answer, sentence, command = result.output.splitlines()
    assert answer == "Stopping after this step; press Ctrl-C again to stop at once."
    assert sentence == "Stopped after step 7; everything is saved. Continue with"
    assert shlex.split(command)[1:] == ["train", "--resume", "a run"]
    assert Run.load(folder / "a run").step == 7


@pytest.mark.parametrize(
    ("step", "kept", "advice"),
    [
        (7, "no checkpoint was saved", "Begin again with"),
        (23, "step 20 was saved last", "Continue from it with"),
    ],
)
def test_second_ctrl_c_says_what_is_kept(step, kept, advice, command_line, monkeypatch):
    signals_in(monkeypatch, step, signal.SIGINT, signal.SIGINT)
    result = command_line.train("--output run")
    assert result.exit_code == 130
    *_, answer, sentence, command = result.output.splitlines()
    assert answer == "Stopping after this step; press Ctrl-C again to stop at once."
    assert sentence == f"Stopped at once after step {step - 1}; {kept}. {advice}"
    assert shlex.split(command)[1:] == ["train", "--resume", "run"]
    command_line.succeeds("train --resume run")  # from the beginning too
