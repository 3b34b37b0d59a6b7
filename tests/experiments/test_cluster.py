"""Runs as jobs: by submitit's executor for this machine, and what is said where there is none.

No Slurm is in these tests, but for a stand-in that refuses everything.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pyro_gtm.experiments.checkpoint_file import checkpoints_in
from pyro_gtm.experiments.cluster import JOB_OPTIONS, Cluster
from pyro_gtm.experiments.comparison import Comparison
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.run_set import FailedRunsError, Stopped, train_run

submitit = pytest.importorskip("submitit", reason="needs the extra cluster")
may_warn = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def tiny(memory="vrnn", **overrides):
    settings = {
        "task_options": {"list_length": 2, "recall_length": 1},
        "latent_dim": 3,
        "hidden_dim": 6,
        "num_steps": 8,
        "batch_size": 2,
        "eval_sequences": 4,
        "save_every": 4,
        "device": "cpu",
    }
    return make_config("debug", **{**settings, "memory": memory, **overrides})


class Told(list):
    def __call__(self, name, event, row):
        self.append((name.removeprefix("perfect_recall-"), event))
        self.last = row


def until_ended(cluster):
    ended = []
    while not ended:
        ended = cluster.ended(0.05)
    return ended


@pytest.mark.slow
def test_a_job_gives_what_its_work_gave_and_one_that_dies_is_told_of(tmp_path):
    cluster = Cluster("local", tmp_path / "jobs", {"time": 2})
    cluster.start("one", max, ("finished", {"a": 1}), ("failed", {}))
    cluster.start("two", os._exit, 3)
    (first,), (second,) = until_ended(cluster), until_ended(cluster)
    outcomes = dict([first, second])
    assert outcomes["one"] == ("finished", {"a": 1})
    event, row = outcomes["two"]
    assert event == "failed" and "ended without a result" in row["reason"]
    assert str(tmp_path / "jobs") in row["reason"], "where to look"


@pytest.mark.slow
@may_warn
def test_a_comparison_by_jobs_is_that_by_processes(tmp_path):
    configs, told = [tiny("vrnn"), tiny("ntm")], Told()
    folders = tmp_path / "jobs", tmp_path / "processes"
    comparison = Comparison(folders[0], configs)
    comparison.train(2, told, place=Cluster("local", folders[0] / "jobs", {"time": 5}))
    Comparison(folders[1], configs).train(2)
    for run in ("perfect_recall-vrnn-0", "perfect_recall-ntm-0"):
        one, other = ((folder / run / "metrics.jsonl").read_bytes() for folder in folders)
        assert one == other
    assert sorted(told) == [
        ("ntm-0", "finished"),
        ("ntm-0", "is submitted"),
        ("vrnn-0", "finished"),
        ("vrnn-0", "is submitted"),
    ]


@pytest.mark.slow
@may_warn
def test_stopped_by_a_signal_its_jobs_save_and_the_same_command_continues(tmp_path):
    endless, folder = [tiny(num_steps=1_000_000)], tmp_path / "comparison"
    run = folder / "perfect_recall-vrnn-0"
    cluster = Cluster("local", folder / "jobs", {"time": 5})
    ended = cluster.ended

    def stop_when_saved(seconds):
        if checkpoints_in(run) and not stop_when_saved.sent:
            stop_when_saved.sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return ended(seconds)

    stop_when_saved.sent = False
    cluster.ended = stop_when_saved
    with pytest.raises(Stopped):
        Comparison(folder, endless).train(place=cluster)
    saved = Comparison(folder, endless).steps_taken(run.name)
    finite = Comparison(folder, [tiny(num_steps=saved + 2)])
    finite.train(place=Cluster("local", folder / "jobs", {"time": 5}))
    assert finite.final(run.name)["num_steps"] == saved + 2


@pytest.mark.slow
def test_a_job_whose_time_is_up_goes_on_in_another(tmp_path):
    """The signal that submitit sends then is sent here."""
    run, config = tmp_path / "run", tiny(num_steps=1200)
    cluster = Cluster("local", tmp_path / "jobs", {"time": 20})
    cluster.start("run", train_run, run, config, ())
    job = cluster._jobs["run"]
    while not checkpoints_in(run):
        time.sleep(0.02)
    (first,) = Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
    os.kill(int(first), signal.SIGUSR2)
    ((_, (event, row)),) = until_ended(cluster)
    assert event == "finished" and row["num_steps"] == 1200
    assert "Requeued job" in job.paths.stderr.read_text() + job.paths.stdout.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tim": 3}, f"cluster option: got 'tim', must be one of {', '.join(JOB_OPTIONS)}"),
        (
            {"time": "long"},
            "cluster option time: got 'long', must be a positive integer of minutes",
        ),
        ({"gpus": True}, "cluster option gpus: got True, must be a positive integer"),
        ({"partition": 3}, "cluster option partition: got 3, must be the name of one"),
    ],
)
def test_impossible_options_are_refused(options, words, tmp_path):
    with pytest.raises(ValueError) as caught:
        Cluster("local", tmp_path / "jobs", options)
    assert str(caught.value) == words and not (tmp_path / "jobs").exists()


def test_without_slurm_or_submitit_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="'local' where there is no Slurm"):
        Cluster("slurm", tmp_path / "jobs")
    with pytest.raises(ValueError, match="got 'sge', must be one of slurm, local"):
        Cluster("sge", tmp_path / "jobs")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"`pip install 'pyro_gtm\[cluster\]'` brings it"):
        Cluster("local", tmp_path / "jobs")


def test_a_job_that_slurm_refuses_is_a_failed_run(tmp_path, monkeypatch):
    for name, script in (("srun", "exit 0"), ("sbatch", "echo invalid partition >&2; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    folder, told = tmp_path / "comparison", Told()
    cluster = Cluster("slurm", folder / "jobs", {"partition": "none", "gpus": 1})
    with pytest.raises(FailedRunsError, match=r"its job was refused: .*invalid partition"):
        Comparison(folder, [tiny()]).train(progress=told, place=cluster)
    assert told == [("vrnn-0", "is submitted"), ("vrnn-0", "failed")]
