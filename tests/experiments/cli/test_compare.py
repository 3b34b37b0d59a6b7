"""``pyro-gtm compare``: which runs are made of its options, and what it says of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from pyro_gtm.experiments import places, run_set
from pyro_gtm.experiments.cli import comparing, run_sets
from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.run_set import Stopped
from pyro_gtm.tasks import task_names

may_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
COMPARE = "compare --preset debug --list-length 2 --recall-length 1 -n 2 --device cpu -o out"


@pytest.fixture
def forked(monkeypatch):
    """Processes take along what a test has patched, and import nothing."""
    monkeypatch.setattr(places, "PROCESSES", multiprocessing.get_context("fork"))
    monkeypatch.setattr(run_set, "POLL", 0.02)
    monkeypatch.setattr(run_set, "draw_figures", lambda run: [])


@may_fork
def test_it_tells_what_happens_and_ends_with_the_table(folder, forked, command_line):
    line = f"{COMPARE} --memory vrnn --memory ntm --seeds 1 --latent-dim 5 --products mkl"
    result = command_line.succeeds(line)
    first, *lines = result.output.splitlines()
    assert first == "2 runs, 2 of them to be trained, in out"
    for memory, (begun, done) in zip(("vrnn", "ntm"), (lines[:2], lines[2:4]), strict=True):
        summary = json.loads((folder / f"out/perfect_recall-{memory}-0/summary.json").read_text())
        assert begun == f"perfect_recall-{memory}-0 begins, to step 2"
        assert done == (
            f"perfect_recall-{memory}-0 is finished: recall KL {summary['recall_kl']:.2f}, "
            f"negative ELBO {summary['negative_elbo_per_frame']:.2f} nats a frame"
        )
    assert (folder / "out/results.md").read_text() in result.output
    files = ["out/results.csv", "out/results.md", "out/perfect_recall.png"]
    assert [line.strip() for line in lines[-3:]] == files
    assert all((folder / file).is_file() for file in files)
    assert read_config(folder / "out/perfect_recall-ntm-0/config.json") == make_config(
        "debug",
        memory="ntm",
        num_steps=2,
        latent_dim=5,
        task_options={"list_length": 2, "recall_length": 1},
        device="cpu",
        products="mkl",
    )

    again = command_line.succeeds(line).output.splitlines()
    assert again[0] == "2 runs, 0 of them to be trained, in out"
    assert again[1:] == lines[4:], "the same table, and no run in between"


@pytest.fixture
def asked_for(command_line, monkeypatch):
    """The configurations of a comparison, and what is said of them."""

    def ask(line):
        asked = []
        monkeypatch.setattr(
            comparing, "Comparison", lambda folder, configs: asked.extend(configs) or 1 / 0
        )
        result = command_line(f"compare {line}")
        assert isinstance(result.exception, ZeroDivisionError), result.output
        return asked, result.output

    return ask


def test_it_is_of_all_memories_with_three_seeds(asked_for):
    asked, _ = asked_for("")
    memories = ["associative", "dnc", "introspective", "lru", "ntm", "vrnn"]
    assert [(c.memory, c.seed) for c in asked] == [(m, s) for m in memories for s in range(3)]
    assert {(c.task, c.preset) for c in asked} == {("perfect_recall", "small")}


def test_a_memory_can_have_the_mixture_prior(asked_for):
    line = "--seeds 1 --memory ntm --memory ntm+mixture"
    settings = [(c.memory, c.prior, c.posterior, c.writes) for c in asked_for(line)[0]]
    assert settings == [
        ("ntm", "gaussian", "residual", "latent"),
        ("ntm", "mixture", "frame", "mean"),
    ]
    asked, _ = asked_for(f"{line} --posterior direct --writes latent")
    assert [(c.prior, c.posterior, c.writes) for c in asked] == [
        ("gaussian", "direct", "latent"),
        ("mixture", "direct", "latent"),
    ]


@pytest.fixture
def by_task(asked_for):
    def ask(line):
        asked, said = asked_for(f"--memory vrnn --seeds 1 {line}")
        return {config.task: config for config in asked}, said

    return ask


def test_all_tasks_are_compared_each_on_its_own_data(by_task):
    configs, said = by_task("--task all")
    assert list(configs) == list(task_names())
    data = {task: config.data for task, config in configs.items()}
    others = {"one_shot_recall": "strokes", "rotation_3d": "rooms"}
    assert data == {**dict.fromkeys(task_names(), "digits"), **others}
    assert configs["rotation_3d"].likelihood == "gaussian" and said == ""
    again, _ = by_task("--task parity_recall --task all")
    assert list(again) == list(task_names())


def test_each_task_is_made_of_what_it_can_be_made_of(by_task, folder):
    configs, said = by_task("--task all --data mnist --data omniglot --data-dir d")
    made = {task: (config.data, config.data_dir) for task, config in configs.items()}
    where = str(folder / "d")
    others = {"one_shot_recall": ("omniglot", where), "rotation_3d": ("rooms", None)}
    assert made == {**dict.fromkeys(task_names(), ("mnist", where)), **others}
    assert said == "rotation_3d cannot be made of mnist or omniglot: it is made of rooms\n"

    configs, _ = by_task("--task all --data mnist --data-dir d")
    one_shot = configs["one_shot_recall"]
    assert (one_shot.data, one_shot.data_dir) == ("strokes", None)


def test_options_go_to_the_tasks_that_take_them(by_task):
    line = "--task perfect_recall --task mnist_map --task rotation_3d"
    configs, said = by_task(
        f"{line} --list-length 7 --task-option rows=2 --binarise sampled --curriculum steps"
    )
    assert configs["perfect_recall"].task_options == {"list_length": 7}
    assert configs["mnist_map"].task_options == {"rows": 2}
    assert configs["rotation_3d"].task_options == {}
    binarise = {task: config.binarise for task, config in configs.items()}
    assert list(binarise.values()) == ["sampled", "sampled", "none"]
    curricula = {task: config.curriculum for task, config in configs.items()}
    assert list(curricula.values()) == ["steps", "steps", "none"]
    for sentence in (
        "--list-length is left out for mnist_map, rotation_3d",
        "--rows is left out for perfect_recall, rotation_3d",
        "--binarise is left out for rotation_3d",
        "--curriculum is left out for rotation_3d",
    ):
        assert sentence in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--memory nope", ["'--memory'", "'nope'", "introspective", "--import"]),
        ("--task nope", ["'--task'", "'nope'", "perfect_recall", "'all'"]),
        ("--jobs 0", ["--jobs", "0"]),
        ("--seeds 0", ["--seeds", "0"]),
        ("--seeds 4294967296", ["--seeds", "4294967296"]),
        ("--seed 3", ["--seed"]),
        ("--memory-option slots=3", ["--memory-option"]),
        ("--resume out", ["--resume"]),
        ("--task mnist_map", ["'list_length'", "rows"]),
        ("--recall-length 9", ["recall_length"]),
        ("--hidden-dim 0", ["--hidden-dim", "got 0, must be a positive integer"]),
        ("--binarise none", ["binarise: got 'none'", "likelihood='bernoulli'"]),
        ("--data rooms", ["--data: got 'rooms', must be one of digits, mnist, omniglot, strokes"]),
        ("--device nonsense", ["device: got 'nonsense', must be auto"]),
        ("--data mnist --data-dir missing", ["train-images", "missing", "--download"]),
        ("--download", ["'digits'"]),
        ("--memory nope+mixture", ["'--memory'", "'nope'", "introspective"]),
        ("--memory vrnn+gaussian", ["'--memory'", "'vrnn+gaussian'"]),
        ("--memory vrnn+mixture", ["prior: got 'mixture', must be 'gaussian' for memory 'vrnn'"]),
        ("--memory vrnn --memory vrnn", ["a task, memory, prior and seed twice"]),
        ("--import no.such.module", ["--import", "'no.such.module'"]),
        ("--output file", ["--output", "'file' is a file"]),
        ("--output file/below --memory vrnn", ["file/below cannot be used: Not a directory"]),
        ("--output ''", ["--output", "the name is empty"]),
        (f"--output {'x' * 300} --memory vrnn", ["cannot be used: File name too long"]),
    ],
)
def test_it_refuses(line, words, folder, command_line):
    (folder / "file").write_text("a file")
    command_line.refuses(f"{COMPARE} {line}", *words)


def test_of_processes_that_torchrun_has_started_the_first_refuses(
    command_line, folder, monkeypatch
):
    """Each would train the whole comparison."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.setenv(name, "0")
    command_line.fails(COMPARE, 2, "compare: got 2 processes", "start pyro-gtm compare once")
    monkeypatch.setenv("RANK", "1")
    assert command_line.succeeds(COMPARE).output == ""
    assert not list(folder.iterdir())


@may_fork
def test_it_refuses_other_settings_in_the_same_folder(forked, command_line):
    line = f"{COMPARE} --memory vrnn --seeds 1"
    command_line.succeeds(line)
    there = "out/perfect_recall-vrnn-0"
    command_line.refuses(f"{line} -lr 0.5", f"learning_rate: got 0.5, must be 0.002 as in {there}")
    command_line.refuses(f"{line} --list-length 3", "task option list_length: got 3, must be 2 as")
    command_line.refuses(f"{line} -n 1", f"num_steps: got 1, must be at least 2 as in {there}")


@may_fork
def test_a_run_that_fails_is_one_sentence_and_the_others_are_in_the_table(
    folder, forked, command_line
):
    before = command_line.fails(
        f"{COMPARE} --memory vrnn -lr 1e30 --seeds 1",
        1,
        *("1 of 1 runs failed: perfect_recall-vrnn-0: ", "step 2"),
    )
    assert len(before) == 3 and before[2].startswith("perfect_recall-vrnn-0 failed: "), before
    assert not (folder / "out" / "results.md").exists(), "there is nothing to put in"

    (folder / "out" / "perfect_recall-vrnn-0" / "config.json").unlink()
    (folder / "out" / "perfect_recall-vrnn-0" / "metrics.jsonl").unlink()
    line = f"{COMPARE} --memory vrnn --seeds 2"
    command_line.succeeds(line)
    for path in (folder / "out" / "perfect_recall-vrnn-1").glob("checkpoints/*"):
        path.write_bytes(b"damaged")
    (folder / "out" / "perfect_recall-vrnn-1" / "summary.json").unlink()
    before = command_line.fails(
        line, 1, "1 of 2 runs failed: perfect_recall-vrnn-1: ", "checkpoint"
    )
    assert (folder / "out" / "results.md").read_text() in "\n".join(before)


def test_it_says_where_the_runs_are(capsys):
    """No figures before the first row; no recall KL where nothing can be predicted."""
    row = {"step": 1500, "negative_elbo_per_frame": 75.123}
    configs = {
        "run": make_config(num_steps=2500),
        "run+mixture": make_config(num_steps=2500, prior="mixture"),
    }
    for event, content in [
        ("begins", {"step": 0}),
        ("begins", {"step": 1200}),
        ("is at", {}),
        ("is at", row),
        ("is at", row | {"recall_kl": 2.345}),
        ("finished", row | {"recall_kl": None}),
    ]:
        run_sets.tell(configs, "run", event, content)
    run_sets.tell(configs, "run+mixture", "is at", row | {"recall_kl": 2.345})
    assert capsys.readouterr().out.splitlines() == [
        "run begins, to step 2,500",
        "run goes on from step 1,200, to step 2,500",
        "run has logged nothing yet",
        "run is at step 1,500: negative ELBO 75.12 nats a frame",
        "run is at step 1,500: recall KL 2.35, negative ELBO 75.12 nats a frame",
        "run is finished: negative ELBO 75.12 nats a frame",
        "run+mixture is at step 1,500: recall KL bound 2.35, negative ELBO 75.12 nats a frame",
    ]


@pytest.mark.parametrize(
    ("stop", "code", "sentence"),
    [
        (Stopped(2), 130, "Stopped; begun runs are saved. The same command continues."),
        (Stopped(15), 143, "Stopped; begun runs are saved. The same command continues."),
        (KeyboardInterrupt(), 130, "Stopped at once; runs are as saved last."),
    ],
)
def test_stopped_it_is_one_sentence(stop, code, sentence, command_line, monkeypatch):
    def train(self, jobs, *callbacks):
        raise stop

    monkeypatch.setattr(run_set.RunSet, "train", train)
    result = command_line(f"{COMPARE} --memory vrnn")
    assert result.exit_code == code
    assert result.output.splitlines()[-1].startswith(sentence)


def last_step(metrics):
    """Of the last whole row; 0 if there is none."""
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


@pytest.mark.slow
def test_it_is_interrupted_from_outside_and_goes_on(folder, environment):
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
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # a group of its own, as the shell makes
        )

    metrics = [folder / f"out/perfect_recall-mine-{seed}/metrics.jsonl" for seed in (0, 1)]
    for ready in (lambda: True, lambda: all(map(last_step, metrics))):
        process = begin(100_000)
        said = process.stdout.readline() + process.stdout.readline() + process.stdout.readline()
        assert said.splitlines()[-1].startswith("perfect_recall-mine-1 ")
        while not ready():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate()
        assert process.returncode == 130, rest
        assert rest.splitlines() == [
            "Stopping after these steps; press Ctrl-C again to stop at once.",
            "Stopped; begun runs are saved. The same command continues.",
        ]
        with pytest.raises(ProcessLookupError):  # nobody is left of the group
            while True:
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
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert f"perfect_recall-mine-0 goes on from step {taken[0]:,}" in said
    assert "perfect_recall-mine-2 begins" in said
    assert "Traceback" not in said
    for path in metrics:
        assert last_step(path) == max(taken) + 30
        assert (path.parent / "figures" / "training.png").is_file()
