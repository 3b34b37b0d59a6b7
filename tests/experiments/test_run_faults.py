"""What a run does where its folder, its files or the memory are not as they should be.

``faults/`` has the same from outside: killed, starved and damaged processes.
"""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

from pyro_gtm.experiments.checkpoint_file import (
    CheckpointError,
    checkpoints_in,
    load_checkpoint,
    save_checkpoint,
)
from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.folder_lock import LOCK
from pyro_gtm.experiments.machine import TooLittleMemoryError
from pyro_gtm.experiments.run import FolderInUseError, FolderTakenError, Interrupted, Run, RunError
from pyro_gtm.experiments.run_folder import summary_in
from pyro_gtm.experiments.sealed_json import DamagedFileError, write_sealed
from pyro_gtm.experiments.training_loop import each_while_it_can


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("pyro_gtm.internals.files.os.fsync", lambda descriptor: None)


def tiny(**overrides):
    settings = {
        "memory": "vrnn",
        "task_options": {"list_length": 2, "recall_length": 1},
        "latent_dim": 3,
        "hidden_dim": 6,
        "num_steps": 4,
        "batch_size": 2,
        "log_every": 2,
        "eval_every": 2,
        "eval_sequences": 2,
        "save_every": 2,
    }
    return make_config("debug", **{**settings, **overrides})


def half_made(folder):
    for name in ("checkpoints", "figures"):
        (folder / name).mkdir(parents=True)
    (folder / "config.json.partial").write_bytes(b"{")
    (folder / LOCK).write_text(json.dumps({"pid": 1, "host": "there", "since": "then"}))


def test_a_run_killed_before_its_configuration_is_begun_again(tmp_path):
    folder = tmp_path / "run"
    half_made(folder)
    with pytest.raises(RunError) as caught:
        Run.resume(folder)
    assert str(caught.value) == (
        f"{folder} holds no run yet: it was stopped before it had its config.json; begin it again "
        f"with --output {folder}"
    )
    run = Run.start(folder, tiny())
    assert [note.split(",")[0] for note in run.notes] == [
        f"{folder} was left locked by process 1 on there since then"
    ]
    run.train()
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "config.json",
        "figures",
        "metrics.jsonl",
    ]


@pytest.mark.parametrize("name", ["letter.txt", "metrics.jsonl", "figures/a.png"])
def test_what_else_is_in_a_folder_is_not_taken_for_a_beginning(name, tmp_path):
    folder = tmp_path / "run"
    half_made(folder)
    (folder / name).write_text("of someone's")
    with pytest.raises(FolderTakenError, match="must be empty or new"):
        Run.start(folder, tiny())
    assert (folder / name).read_text() == "of someone's"


def test_a_checkpoint_without_its_configuration_is_kept(tmp_path):
    folder = tmp_path / "run"
    Run.start(folder, tiny()).train()
    for name in ("config.json", "metrics.jsonl"):
        (folder / name).unlink()
    with pytest.raises(FolderTakenError):
        Run.start(folder, tiny())
    assert len(checkpoints_in(folder)) == 2


def test_one_run_at_a_time(tmp_path):
    folder, refused = tmp_path / "run", []

    def also(row):
        for use in (lambda: Run.resume(folder), lambda: Run.start(folder, tiny())):
            with pytest.raises(RunError) as caught:
                use()
            refused.append(caught.value)
        assert row["step"] < 3 or Run.load(folder).step == 2, "to look at it is no use of it"

    Run.start(folder, tiny()).train(also)
    assert {type(error) for error in refused} == {FolderInUseError, FolderTakenError}
    sentence = f"{folder} is in use by process {os.getpid()} on "
    assert all(str(e).startswith(sentence) for e in refused if isinstance(e, FolderInUseError))
    assert Run.resume(folder).notes == []


def test_a_finished_run_without_its_checkpoints_is_not_begun_again(tmp_path):
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())
    run.train()
    run.write_summary(1.0, 4)
    for path in checkpoints_in(folder):
        path.unlink()
    before = [(folder / name).read_bytes() for name in ("metrics.jsonl", "summary.json")]
    with pytest.raises(RunError, match=r"summary of a finished run and no checkpoint: .* remove"):
        Run.resume(folder, num_steps=6)
    assert [(folder / name).read_bytes() for name in ("metrics.jsonl", "summary.json")] == before


def test_a_run_that_begins_again_says_so(tmp_path):
    folder = tmp_path / "run"
    Run.start(folder, tiny()).train()
    for path in checkpoints_in(folder):
        path.unlink()
    run = Run.resume(folder)
    assert run.step == 0
    assert run.notes == [f"{folder} has no checkpoint yet: training begins again"]


def test_a_renamed_checkpoint_is_not_taken_for_another_step(tmp_path):
    folder = tmp_path / "run"
    Run.start(folder, tiny()).train()
    newest = checkpoints_in(folder)[-1]
    newest.rename(newest.with_name("step-00000099.pt"))
    (newest.parent / "step-of-mine.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"holds step 4: it has been renamed; step-00000002"):
        Run.resume(folder)


def test_what_another_process_has_trained_is_not_undone(tmp_path):
    folder = tmp_path / "run"
    first = Run.start(folder, tiny())
    Run.resume(folder).train()
    with pytest.raises(RunError, match=f"the run in {folder} was changed by another process"):
        first.train()
    assert Run.load(folder).step == 4


def test_a_folder_of_an_earlier_version_is_read_with_a_note(tmp_path):
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())
    run.train()
    run.write_summary(1.0, 4)
    rows = run.metrics.rows
    for name in ("config.json", "summary.json"):
        content = json.loads((folder / name).read_text())
        del content["checksum"]
        (folder / name).write_text(json.dumps(content))
    for path in checkpoints_in(folder):
        content = load_checkpoint(path)
        del content["metrics"]
        save_checkpoint(path, content)
    for use in (Run.load, Run.resume):
        run = use(folder)
        assert (run.step, run.metrics.rows) == (4, rows)
        assert run.notes == [
            f"{folder / name} was written by an earlier version: it has no checksum and cannot be "
            "checked"
            for name in ("config.json", "summary.json", "metrics.jsonl")
        ]
    assert "checksum" in json.loads((folder / "config.json").read_text()), "resumed, it has one"


def test_a_value_changed_on_purpose_is_read_without_its_checksum(tmp_path):
    path = tmp_path / "config.json"
    content = json.loads(tiny().to_json())
    path.write_text(json.dumps(content), encoding="utf-8")  # laid out anew
    assert read_config(path) == tiny()
    path.write_text(json.dumps({**content, "seed": 7}))
    with pytest.raises(DamagedFileError, match=r'fails its checksum .* take out the line "checks'):
        read_config(path)
    del content["checksum"]
    path.write_text(json.dumps({**content, "seed": 7}))
    assert read_config(path) == tiny(seed=7)


def test_a_damaged_key_of_the_checksum_is_no_earlier_version(tmp_path):
    path = tmp_path / "summary.json"
    write_sealed(path, {"a": 1})
    assert summary_in(tmp_path) == {"a": 1}
    path.write_text(path.read_text().replace("checksum", "chdcksum"))
    with pytest.raises(DamagedFileError, match=f"{path} is damaged: its checksum has another name"):
        summary_in(tmp_path)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("name", "lower"), [("draw", "batch_size"), ("evaluate", "eval_seq")])
def test_too_little_memory_says_what_to_lower(error, name, lower, tmp_path, monkeypatch):
    run = Run.start(tmp_path / "run", tiny())
    function, calls = getattr(Experiment, name), []

    def failing(self, *arguments):
        calls.append(1)
        if len(calls) == (3 if name == "draw" else 2):
            raise error
        return function(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, name, failing)
        with pytest.raises(TooLittleMemoryError, match=f"does not suffice: lower {lower}"):
            run.train()
    assert [path.name for path in run.checkpoints()] == ["step-00000002.pt"]
    resumed = Run.resume(run.folder)
    resumed.train()
    assert resumed.step == 4


def test_other_errors_are_not_taken_for_it(tmp_path, monkeypatch):
    run = Run.start(tmp_path / "run", tiny())
    monkeypatch.setattr(Experiment, "draw", lambda self: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        run.train()


@pytest.fixture
def heeding_hangups():
    """Also where the tests run under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_each_listener_fails_alone(tmp_path):
    tried, told = [], []

    def full(row):
        tried.append(row)
        raise OSError(28, "No space left on device")

    run = Run.start(tmp_path / "run", tiny())
    run.train(each_while_it_can(full, told.append))
    assert len(tried) == 1
    assert [row["step"] for row in told if "split" not in row] == [1, 2, 3, 4]


@pytest.mark.usefixtures("heeding_hangups")
def test_a_run_outlives_its_terminal(tmp_path):
    """What shows its progress cannot write any more; then a signal, which cannot be answered."""

    def gone(*arguments):
        raise OSError(5, "Input/output error")

    shown = []

    def progress(row):
        shown.append(row)
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        gone()

    run = Run.start(tmp_path / "run", tiny())
    run.train(progress)
    assert (run.step, len(shown)) == (4, 1)
    other = Run.start(tmp_path / "other", tiny(log_every=1))
    draw, drawn = other.experiment.draw, []

    def hang_up():
        drawn.append(1)
        if len(drawn) == 3:
            os.kill(os.getpid(), signal.SIGHUP)
        return draw()

    other.experiment.draw = hang_up
    with pytest.raises(Interrupted) as caught:
        other.train(gone, gone)
    assert (caught.value.step, caught.value.signal) == (3, signal.SIGHUP)
    assert Run.load(other.folder).step == 3


def test_under_nohup_a_hangup_is_nothing(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = Run.start(tmp_path / "run", tiny())
        run.train(lambda row: os.kill(os.getpid(), signal.SIGHUP))
        assert run.step == 4
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_within_an_evaluation_do_not_wait_for_it(tmp_path, monkeypatch):
    """The state before it is saved; resumed, it is made first, and all is as if never stopped."""
    whole = Run.start(tmp_path / "whole", tiny())
    whole.train()
    run = Run.start(tmp_path / "run", tiny())
    evaluate = Experiment.evaluate

    def interrupted(self, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "evaluate", interrupted)
        with pytest.raises(Interrupted) as caught:
            run.train()
    assert caught.value.step == 2
    assert [row["split"] for row in Run.load(run.folder).metrics.rows] == ["train"]
    Run.resume(run.folder).train()
    ends = [(run.folder / "metrics.jsonl").read_bytes() for run in (whole, run)]
    assert ends[0] == ends[1]
