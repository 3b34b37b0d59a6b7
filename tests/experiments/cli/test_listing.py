"""``pyro-gtm runs`` and ``pyro-gtm plot``: what a run tells after it has ended."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from pyro_gtm import series
from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.folder_lock import locked_folder


def listed(command_line, line=""):
    return list(csv.DictReader(command_line.succeeds(f"runs --format csv {line}").output.split()))


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_run_is_told_with_its_summary(run, command_line):
    summary = json.loads((run / "summary.json").read_text())
    (line,) = listed(command_line, ".")
    assert (line["folder"], line["state"], line["memory"]) == ("run", "finished", "introspective")
    assert int(line["step"]) == int(line["num_steps"]) == summary["num_steps"]
    for ours, its in (
        ("negative_elbo", "negative_elbo_per_frame"),
        ("recall_kl", "recall_kl"),
        ("recall_accuracy", "recall_accuracy"),
    ):
        assert float(line[ours]) == summary[its]
    told = command_line.succeeds("runs run").output
    assert f"{summary['negative_elbo_per_frame']:.2f}" in told and "finished" in told


def test_no_folder_is_too_broken_to_be_told_of(run, command_line, folder):
    for name in ("stopped", "begun", "config", "metrics", "summary", "changed"):
        shutil.copytree(run, folder / "set" / name)
    (folder / "set/stopped/summary.json").unlink()
    (folder / "set/begun/summary.json").unlink()
    shutil.rmtree(folder / "set/begun/checkpoints")
    (folder / "set/config/config.json").write_bytes(b"\xff{")
    (folder / "set/metrics/metrics.jsonl").write_text("3\n")
    (folder / "set/summary/summary.json").write_text("{}")
    changed = folder / "set/changed/summary.json"
    changed.write_text(changed.read_text().replace('"seed": 0', '"seed": 1'))
    states = {line["folder"]: line["state"] for line in listed(command_line, "set")}
    assert states == {
        "set/stopped": "stopped",
        "set/begun": "begun",
        "set/config": "damaged",
        "set/metrics": "damaged",
        "set/summary": "damaged",
        "set/changed": "damaged",
    }


def test_a_run_is_running_while_a_process_has_its_folder(run, command_line, folder):
    shutil.copytree(run, folder / "set/finished")
    shutil.copytree(run, folder / "set/trained")
    (folder / "set/trained/summary.json").unlink()
    # What a killed process has left is a file, and no lock.
    (folder / "set/finished/lock").write_text('{"pid": 1, "host": "here", "since": "then"}')
    with locked_folder(folder / "set/trained"):
        states = {line["folder"]: line["state"] for line in listed(command_line, "set")}
    assert states == {"set/finished": "finished", "set/trained": "running"}
    states = {line["folder"]: line["state"] for line in listed(command_line, "set")}
    assert states == {"set/finished": "finished", "set/trained": "stopped"}


def test_models_of_series_are_listed_with_their_scores(run, command_line, folder):
    assert "CRPS" not in command_line.succeeds("runs run").output
    data = series.Series.of([float(t % 5) for t in range(30)])
    settings = {"latent_dim": 2, "hidden_dim": 8, "memory_options": {"hidden_dim": 8}}
    model = series.fit(data, num_steps=2, seed=3, **settings)
    model.save(folder / "set/fitted")
    model.evaluate(data, 2, num_samples=5).save(folder / "set/fitted/scores.csv")
    model.save(folder / "set/damaged")
    (folder / "set/damaged/series.json").write_text("{}")
    damaged, fitted = json.loads(command_line.succeeds("runs set --format json").output)
    assert damaged["state"] == "damaged"
    assert (fitted["task"], fitted["state"], fitted["memory"]) == ("series", "finished", "vrnn")
    assert (fitted["seed"], fitted["step"], fitted["num_steps"]) == (3, 2, 2)
    crps = [float(row["crps"]) for row in read_rows(folder / "set/fitted/scores.csv")]
    assert fitted["crps"] == pytest.approx(sum(crps) / 2)
    told = command_line.succeeds("runs set").output
    assert "CRPS" in told and f"{fitted['crps']:.4g}" in told


def test_runs_are_sorted_and_those_without_the_figure_come_last(run, command_line, folder):
    for name, bound in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        shutil.copytree(run, folder / "set" / name)
        summary = json.loads((folder / "set" / name / "summary.json").read_text())
        summary["negative_elbo_per_frame"] = bound
        del summary["checksum"]  # of what it said before
        (folder / "set" / name / "summary.json").write_text(json.dumps(summary))
    (folder / "set/a/config.json").write_text("")
    found = json.loads(command_line.succeeds("runs set --sort negative_elbo --format json").output)
    assert [line["folder"] for line in found] == ["set/b", "set/c", "set/a"]


def test_a_folder_without_runs_and_no_folder(command_line, folder):
    (folder / "empty").mkdir()
    assert "No runs in empty" in command_line.succeeds("runs empty").output
    command_line.fails("runs nowhere", 2, "got nowhere, must be a folder")
    command_line.fails("runs", 2, "got runs, must be a folder")


def test_figures_are_drawn_again_as_they_were(run, command_line, folder):
    before = command_line.files(run)
    output = command_line.succeeds("plot run -o again").output
    drawn = {path.name: path.read_bytes() for path in (folder / "again").iterdir()}
    assert drawn == {
        path.name: content for path, content in before.items() if path.parent.name == "figures"
    }
    assert output.split() == [f"again/{name}" for name in output.replace("again/", "").split()]
    (run / "figures" / "frames.png").unlink()
    command_line.succeeds("plot run --figure frames")
    assert command_line.files(run) == before


def test_figures_that_are_not_asked_for_are_not_drawn(run, command_line, folder, monkeypatch):
    before = command_line.files(run)
    for name in ("kl_per_frame", "frame_strips", "attention_over_time"):
        monkeypatch.delattr(plotting, name)
    command_line.succeeds("plot run --figure training -o again")
    (path,) = (folder / "again").iterdir()
    assert path.read_bytes() == before[Path("figures/training.png")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plot nowhere", "nowhere holds no run"),
        (
            "plot run --figure training --figure nothing -o new",
            "got 'nothing', must be one of training, kl_per_frame, frames, attention\n",
        ),
        ("plot run --output run/config.json", "--output"),
    ],
)
def test_what_cannot_be_drawn_is_refused(line, words, run, command_line, folder):
    before = command_line.files(run)
    result = command_line(line)
    assert result.exit_code == 2 and words in result.output
    assert command_line.files(run) == before
    assert not (folder / "new").exists()
