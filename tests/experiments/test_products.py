"""What a run multiplies with: chosen when it begins, kept to its end."""

from __future__ import annotations

import json

import pytest

from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.run import Run
from pyro_gtm.internals import products
from pyro_gtm.internals.products import present_products, through, why_not_onednn


@pytest.fixture(autouse=True)
def as_before():
    """Nothing that a run chooses outlives its test."""
    with through("mkl"):
        yield


@pytest.fixture
def faster(monkeypatch):
    """oneDNN measures twice as fast here, and takes layers of any size."""
    if reason := why_not_onednn():
        pytest.skip(reason)
    monkeypatch.setattr(products, "_ratio", lambda precision: 0.5)
    monkeypatch.setattr(products, "SMALLEST", 1)


def tiny(**overrides):
    sizes = {"list_length": 2, "recall_length": 1}
    return make_config(
        "debug", num_steps=6, save_every=3, eval_every=3, task_options=sizes, **overrides
    )


def begin(folder, **overrides):
    return Run.start(folder, tiny(**overrides))


def chosen(folder):
    return read_config(folder / "config.json").products


def metrics(run):
    return (run.folder / "metrics.jsonl").read_bytes()


def test_what_auto_became_is_in_the_configuration(faster, tmp_path):
    run = begin(tmp_path / "run")
    assert present_products().backend == run.experiment.config.products == "onednn"
    assert chosen(run.folder) == "onednn"


def test_a_resumed_run_keeps_it_unless_told_otherwise(faster, tmp_path, monkeypatch):
    folder = begin(tmp_path / "run").folder
    monkeypatch.setattr(products, "_ratio", lambda precision: 2.0)
    for given in ({}, {"products": "auto"}):
        Run.resume(folder, **given)
        assert present_products().backend == chosen(folder) == "onednn"
    Run.resume(folder, products="mkl")
    assert present_products().backend == chosen(folder) == "mkl"


def test_stopped_and_resumed_it_is_the_same_to_the_last_bit(faster, tmp_path):
    whole, again, usual = (
        begin(tmp_path / name, products=name.rstrip("2")) for name in ("onednn", "onednn2", "mkl")
    )
    for run in (usual, whole, again):
        run = Run.resume(run.folder)
        run.train()
    assert metrics(whole) == metrics(again)
    assert metrics(whole) != metrics(usual), "summed in another order"

    def stop(row):
        if row["step"] == 4:
            raise KeyboardInterrupt

    stopped = begin(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        stopped.train(stop)
    resumed = Run.resume(stopped.folder)
    resumed.train()
    assert metrics(resumed) == metrics(whole)


def test_losses_are_the_same_to_rounding(faster, tmp_path):
    def losses(name):
        run = begin(tmp_path / name, products=name)
        run.train()
        return [row["negative_elbo_per_frame"] for row in run.split("test")]

    assert losses("onednn") == pytest.approx(losses("mkl"), rel=1e-4)


def test_runs_of_before_go_on_with_what_there_was(faster, tmp_path):
    path = begin(tmp_path / "run").folder / "config.json"
    record = json.loads(path.read_text())
    del record["products"], record["checksum"]  # which earlier versions did not write
    path.write_text(json.dumps(record))
    Run.resume(path.parent)
    assert present_products().backend == chosen(path.parent) == "mkl"


def test_taken_to_a_machine_without_it_the_run_goes_on(faster, tmp_path, monkeypatch):
    folder = begin(tmp_path / "run").folder
    monkeypatch.setattr(products, "why_not_onednn", lambda: "there is none")
    run = Run.resume(folder)
    run.train()
    assert present_products() == ("mkl", "as there is none")
    assert chosen(folder) == "mkl"
