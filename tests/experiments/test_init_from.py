"""A run may begin with the weights of another: those that fit, and nothing else of it."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.checkpoint_file import CheckpointError, load_checkpoint
from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.run import Run, RunError


def tiny(memory="introspective", task="perfect_recall", **overrides):
    sizes = {"list_length": 2, "recall_length": 1} if task == "perfect_recall" else {}
    settings = {
        "task_options": sizes,
        "latent_dim": 3,
        "hidden_dim": 6,
        "num_steps": 6,
        "batch_size": 2,
        "log_every": 3,
        "eval_every": 3,
        "eval_sequences": 4,
        "save_every": 3,
    }
    return make_config("debug", memory=memory, task=task, **{**settings, **overrides})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run."""
    run = Run.start(tmp_path_factory.mktemp("trained") / "run", tiny())
    run.train()
    return run.folder


@pytest.fixture
def source(trained, tmp_path):
    """A copy of it, to be spoilt or removed."""
    return shutil.copytree(trained, tmp_path / "source")


def tensors(experiment):
    parts = {"program": experiment.program, "memory": experiment.memory}
    return {
        f"{part}.{name}": value.clone()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }


def test_all_weights_of_the_same_model_are_taken_and_nothing_else(source, tmp_path):
    content = load_checkpoint(source / "checkpoints" / "step-00000006.pt")
    run = Run.start(tmp_path / "run", tiny(init_from=str(source), seed=3))
    for name, value in tensors(run.experiment).items():
        part, _, rest = name.partition(".")
        assert value.equal(content[part][rest]), name
    assert run.step == 0
    assert run.experiment.optimizer.get_state() == {}
    fresh = build_experiment(tiny(seed=3))
    assert run.experiment.draws.get_state().equal(fresh.draws.get_state())
    record = run.init_record
    assert (record["folder"], record["step"]) == (str(source), 6)
    assert (record["left"], record["ignored"]) == ([], [])
    assert set(record["taken"]) == set(tensors(fresh))
    assert read_config(run.folder / "config.json").init_from == str(source)
    run.train()
    assert run.write_summary(1.0, 6)["init_from"] == record


@pytest.mark.parametrize(
    "other",
    [
        {"memory": "dnc"},
        {"task": "similarity_cued_recall"},
        {"task": "mnist_map"},
        {"memory_options": {"slots": 9}},
        {"latent_dim": 4},
    ],
    ids=str,
)
def test_of_another_model_what_fits_is_taken_and_the_rest_named(other, source, tmp_path):
    config = tiny(**other, init_from=str(source), seed=3)
    run = Run.start(tmp_path / "run", config)
    now = tensors(run.experiment)
    drawn = tensors(build_experiment(tiny(**other, seed=3)))
    given = tensors(Run.load(source).experiment)
    record = run.init_record
    assert set(record["taken"]) | set(record["left"]) == set(now)
    assert set(record["taken"]) | set(record["ignored"]) == set(given)
    for name in record["taken"]:
        assert now[name].equal(given[name])
    for name in record["left"]:
        assert now[name].equal(drawn[name])
        assert name not in given or given[name].shape != now[name].shape
    assert record["taken"]


def test_it_does_not_need_the_other_any_more(source, tmp_path):
    whole = Run.start(tmp_path / "whole", tiny(init_from=str(source)))
    stopped = Run.start(tmp_path / "stopped", tiny(init_from=str(source)))
    shutil.rmtree(source)
    whole.train()
    torch.manual_seed(999)  # another process would have another state
    resumed = Run.resume(stopped.folder)  # killed before its first step
    assert (resumed.step, resumed.exact) == (0, True)
    resumed.train()
    logs = [(run.folder / "metrics.jsonl").read_bytes() for run in (whole, resumed)]
    assert logs[0] == logs[1]
    assert resumed.write_summary(1.0, 6)["init_from"]["folder"] == str(source)
    Run.resume(stopped.folder, init_from=str(source))
    with pytest.raises(RunError, match=r"init_from: got 'elsewhere', must be '.*source' as in"):
        Run.resume(stopped.folder, init_from="elsewhere")


def test_a_run_of_its_own_has_no_record(trained):
    assert Run.load(trained).init_record is None
    assert not (trained / "init_from.json").exists()


def spoil(source, how):
    newest = source / "checkpoints" / "step-00000006.pt"
    if how == "missing":
        shutil.rmtree(source)
    elif how == "no run":
        (source / "config.json").unlink()
    elif how == "no checkpoint":
        shutil.rmtree(source / "checkpoints")
    elif how == "damaged configuration":
        (source / "config.json").write_text(json.dumps({"latent_dim": 0}))
    elif how == "damaged checkpoint":
        newest.write_bytes(newest.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("how", "error", "reason"),
    [
        ("missing", RunError, "{source} holds no run: there is no config.json in it"),
        ("no run", RunError, "{source} holds no run: there is no config.json in it"),
        ("no checkpoint", RunError, "got {source}, must be a run with a checkpoint"),
        ("damaged configuration", RunError, "{source}/config.json is damaged: latent_dim: got 0"),
        (
            "damaged checkpoint",
            CheckpointError,
            "checkpoint {source}/checkpoints/step-00000006.pt",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_starts(
    how, error, reason, source, tmp_path
):
    spoil(source, how)
    with pytest.raises(error) as refused:
        Run.start(tmp_path / "run", tiny(init_from=str(source)))
    assert str(refused.value).startswith(f"init_from: {reason.format(source=source)}")
    assert not (tmp_path / "run").exists()


def test_a_run_of_which_nothing_fits_is_refused(source, tmp_path):
    config = tiny(
        "vrnn",
        "rotation_3d",
        latent_dim=5,
        hidden_dim=9,
        memory_options={"hidden_dim": 11},
        init_from=str(source),
    )
    with pytest.raises(RunError) as refused:
        Run.start(tmp_path / "run", config)
    assert str(refused.value) == (
        f"init_from: got {source}, must be a run with weights that fit by name and shape: none do"
    )
    assert not (tmp_path / "run").exists()
