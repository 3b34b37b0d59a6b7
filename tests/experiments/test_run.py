"""A run may be stopped at any moment, in any way, and goes on as if it had not been.

Here a stop is a signal that the process sends itself, or an exception in place of ``kill -9``;
``cli/test_stopping.py`` has true ones, from another process.
"""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import threading

import pytest
import torch
from pyro.infer.util import is_validation_enabled

import pyro_gtm as gtm
from pyro_gtm.experiments import run as run_module
from pyro_gtm.experiments.checkpoint_file import CheckpointError, load_checkpoint, save_checkpoint
from pyro_gtm.experiments.config import make_config, read_config
from pyro_gtm.experiments.run import FolderTakenError, Interrupted, Run, RunError
from pyro_gtm.experiments.run_folder import summary_in
from pyro_gtm.infer import InvalidFramesError
from pyro_gtm.infer.training import NonFiniteLossError

STEPS = 12  # logs after 5, 10, 12; evaluations after 6, 12; checkpoints after 4, 8, 12
SIZES = {"task_options": {"list_length": 7, "recall_length": 2}}  # after lists of 4 and of 6
KINDS = {
    **{name: {"memory": name} for name in gtm.memory.memory_names()},
    "mean-field": {"elbo": "mean-field"},
    "kl-annealing": {"kl_annealing": 9},
    "gaussian": {
        "likelihood": "gaussian",
        "binarise": "none",
        "posterior": "direct",
        "writes": "latent+frame",
    },
    "cosine": {"warmup": 3, "schedule": "cosine"},
    "curriculum by steps": {**SIZES, "curriculum": "steps"},
    "curriculum by recall KL": {**SIZES, "curriculum": "recall-kl"},
    "sampled pixels": {"binarise": "sampled", "memory_options": {"attention": "softplus"}},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing waits for the disk, which ``test_checkpoint_file.py`` sees to."""
    monkeypatch.setattr("pyro_gtm.internals.files.os.fsync", lambda descriptor: None)


def tiny(kind="introspective", **overrides):
    settings = {
        "task_options": {"list_length": 2, "recall_length": 1},
        "latent_dim": 3,
        "hidden_dim": 6,
        "num_steps": STEPS,
        "batch_size": 2,
        "log_every": 5,
        "eval_every": 6,
        "eval_sequences": 4,
        "save_every": 4,
    }
    return make_config("debug", **{**settings, **KINDS[kind], **overrides})


def outcome(folder):
    """All that a run leaves that must not depend on how it was stopped."""
    summary = summary_in(folder)
    del summary["steps_per_second"], summary["provenance"]
    state = load_checkpoint(sorted((folder / "checkpoints").iterdir())[-1])
    seal = state.pop("metrics")
    assert seal["rows"] == len((folder / "metrics.jsonl").read_bytes().splitlines())
    return {
        "metrics": (folder / "metrics.jsonl").read_bytes(),
        "summary": summary,
        "config": (folder / "config.json").read_text(),
        "state": comparable(state),
    }


def comparable(value):
    """Tensors as bytes, so that ``==`` means every bit."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {key: comparable(entry) for key, entry in value.items()}
    return value


def finish(run):
    begun = run.step
    run.train()
    run.write_summary(1.0, run.step - begun)
    return outcome(run.folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run of some kind comes to when nothing stops it."""

    @functools.cache
    def made(kind="introspective"):
        return finish(Run.start(tmp_path_factory.mktemp("whole") / "run", tiny(kind)))

    return made


def resume(folder, **overrides):
    torch.manual_seed(999)  # another process would have another state
    return Run.resume(folder, **overrides)


class Killed(BaseException):
    """In place of ``kill -9``: nothing more of the run is executed."""


def at(moment, act):
    """A progress callback that acts at a step, given as ``7`` or as ``("train", 10)``."""

    def progress(row):
        if moment == (row["step"] if "split" not in row else (row["split"], row["step"])):
            act()

    return progress


def send(number):
    return lambda: os.kill(os.getpid(), number)


def kill():
    raise Killed


def stop(run, moment, number=signal.SIGINT):
    with pytest.raises(Interrupted) as caught:
        run.train(at(moment, send(number)))
    assert caught.value.signal == number
    newest = run.checkpoints()[-1]
    assert newest.name == f"step-{caught.value.step:08d}.pt", "everything is saved"
    return caught.value.step


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_twice_it_ends_as_if_never_stopped(kind, tmp_path, whole):
    """Once before the first checkpoint, once between two logs and two checkpoints."""
    folder = tmp_path / "run"
    assert stop(Run.start(folder, tiny(kind)), 2) == 2
    assert stop(resume(folder), 7, signal.SIGTERM) == 7
    assert finish(resume(folder)) == whole(kind)


@pytest.mark.parametrize("step", [1, 4, 5, 6, 11])
def test_stopped_after_any_step(step, tmp_path, whole):
    folder = tmp_path / "run"
    assert stop(Run.start(folder, tiny()), step) == step
    assert finish(resume(folder)) == whole()


@pytest.mark.parametrize("moment", [("train", 5), ("test", 6), ("train", 10)])
def test_stopped_during_a_log_or_an_evaluation(moment, tmp_path, whole):
    folder = tmp_path / "run"
    stop(Run.start(folder, tiny()), moment)
    assert finish(resume(folder)) == whole()


@pytest.mark.parametrize("moment", [1, 4, ("train", 5), 9, ("test", STEPS)])
def test_killed_at_any_moment(moment, tmp_path, whole):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        Run.start(folder, tiny()).train(at(moment, kill))
    assert finish(resume(folder)) == whole()


@pytest.mark.parametrize("kind", ["vrnn", "kl-annealing", "curriculum by recall KL"])
def test_killed_twice_then_stopped(kind, tmp_path, whole):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        Run.start(folder, tiny(kind)).train(at(7, kill))
    with pytest.raises(Killed):
        resume(folder).train(at(("train", 10), kill))
    stop(resume(folder), 9)
    assert finish(resume(folder)) == whole(kind)


def test_killed_while_a_checkpoint_is_written(tmp_path, whole, monkeypatch):
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())
    save = run_module.save_checkpoint

    def half(path, content):
        if content["step"] < 8:
            return save(path, content)
        path.with_name(path.name + ".partial").write_bytes(b"the first half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_module, "save_checkpoint", half)
        run.train()
    assert [path.name for path in run.checkpoints()] == ["step-00000004.pt"]
    resumed = resume(folder)
    assert resumed.step == 4
    assert finish(resumed) == whole()


def test_no_room_for_a_checkpoint_keeps_the_one_before(tmp_path, whole, monkeypatch):
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())

    def full(descriptor):
        if run.step >= 8:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("pyro_gtm.internals.files.os.fsync", full)
        run.train()
    assert os.listdir(folder / "checkpoints") == ["step-00000004.pt"]
    assert finish(resume(folder)) == whole()


def test_killed_between_the_last_checkpoint_and_the_summary(tmp_path, whole):
    folder = tmp_path / "run"
    Run.start(folder, tiny()).train()
    run = resume(folder)
    run.train()
    assert run.write_summary(1.0, 0)["steps_per_second"] is None
    assert outcome(folder) == whole()


def test_second_ctrl_c_does_not_wait_for_the_step(tmp_path, whole):
    folder = tmp_path / "run"
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def twice():
        send(signal.SIGINT)()
        answered.append("at once")
        send(signal.SIGINT)()

    answered = []
    run = Run.start(folder, tiny())
    assert run.saved_step is None
    with pytest.raises(KeyboardInterrupt):
        run.train(at(7, twice), lambda: answered.append("stopping"))
    assert answered == ["stopping", "at once"]
    assert (run.step, run.saved_step) == (7, 4)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert finish(resume(folder)) == whole()


@pytest.mark.parametrize("moment", [STEPS, ("train", STEPS), ("test", STEPS)])
def test_signal_in_the_last_step_or_in_what_follows(moment, tmp_path, whole):
    """Before the last evaluation it is stopped as in any other step; after it, it has ended."""
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())
    if moment == ("test", STEPS):
        run.train(at(moment, send(signal.SIGINT)))
    else:
        assert stop(run, moment) == STEPS
        assert not any(row["step"] == STEPS for row in resume(folder).split("test"))
    assert finish(resume(folder)) == whole()


def test_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run = Run.start(tmp_path / "run", tiny())
    stop(run, 2)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_validation_is_put_back_though_the_exception_lives_on(tmp_path):
    """Not when the garbage collector comes by, perhaps in the middle of another run."""
    run = Run.start(tmp_path / "run", tiny())
    with pytest.raises(Interrupted) as caught:
        run.train(at(3, send(signal.SIGINT)))
    assert caught.value.step == 3
    assert is_validation_enabled()


def test_trains_outside_the_main_thread(tmp_path, whole):
    """Where no signal can be caught."""
    results = []
    run = Run.start(tmp_path / "run", tiny())
    thread = threading.Thread(target=lambda: results.append(finish(run)))
    thread.start()
    thread.join()
    assert results == [whole()]


def test_finished_run_changes_nothing_when_resumed(tmp_path, whole):
    folder = tmp_path / "run"
    finish(Run.start(folder, tiny()))
    speed = summary_in(folder)["steps_per_second"]
    assert finish(resume(folder)) == whole()
    assert summary_in(folder)["steps_per_second"] == speed


def test_more_steps_go_on_from_the_end(tmp_path, whole):
    """As one longer run: the end of the shorter one falls on a log and an evaluation."""
    regular = {"log_every": 4, "eval_every": 4}
    shorter, longer = tmp_path / "shorter", tmp_path / "longer"
    Run.start(shorter, tiny(num_steps=8, **regular)).train()
    assert finish(resume(shorter, num_steps=STEPS)) == finish(Run.start(longer, tiny(**regular)))
    assert read_config(shorter / "config.json").num_steps == STEPS


@pytest.mark.parametrize("kind", ["cosine", "curriculum by steps"])
def test_more_steps_take_another_course_just_as_exactly(kind, tmp_path):
    """What depends on the number of steps is a function of the step, whenever that is changed."""
    ends = []
    for stops in ([], [9, 14]):
        folder = tmp_path / f"run{len(stops)}"
        stop(Run.start(folder, tiny(kind)), 7)
        run = resume(folder, num_steps=20)
        for step in stops:
            stop(run, step)
            run = resume(folder)
        ends.append(finish(run))
    assert ends[0] == ends[1]
    longer = finish(Run.start(tmp_path / "longer", tiny(kind, num_steps=20)))
    assert longer["state"]["program"] != ends[0]["state"]["program"], "the first steps differed"


def test_training_rows_tell_the_learning_rate(tmp_path):
    peak = tiny().learning_rate
    falling = [peak * (0.01 + 0.99 * (1 + math.cos(math.pi * d / 9)) / 2) for d in (2, 7)]
    for kind, expected in (("cosine", falling), ("vrnn", [peak, peak])):
        run = Run.start(tmp_path / kind, tiny(kind))
        run.train()
        rates = [row["learning_rate"] for row in run.split("train")]
        assert rates[:2] == pytest.approx(expected, rel=1e-12)
    assert run.experiment.optimizer.lr == peak


def test_fewer_steps_end_a_stopped_run_where_it_is(tmp_path):
    """There was no evaluation yet; the summary needs one."""
    folder = tmp_path / "run"
    stop(Run.start(folder, tiny()), 3)
    run = resume(folder, num_steps=3)
    run.train()
    assert run.write_summary(1.0, 0)["num_steps"] == 3
    assert [row["step"] for row in run.split("test")] == [3]


@pytest.mark.parametrize(
    "tail",
    [
        '{"split": "train", "step": 9, "negative_el',
        '{"split": "train", "step": 9, "negative_elbo_per_frame": 1.0}\n',
        '{"split": "test", "step": 9}\n{"split": "train", "step": 10}\n{"spl',
        "\n",
        "\0\0\0",
    ],
)
def test_metrics_beyond_the_checkpoint_or_torn_are_mended(tail, tmp_path, whole):
    folder = tmp_path / "run"
    stop(Run.start(folder, tiny()), 7)
    with open(folder / "metrics.jsonl", "a") as metrics:
        metrics.write(tail)
    assert finish(resume(folder)) == whole()


def test_metrics_are_strict_json_and_say_what_happened_when(tmp_path):
    run = Run.start(tmp_path / "run", tiny("kl-annealing"))
    run.train()

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert rows == run.metrics.rows
    steps = [(row["split"], row["step"]) for row in rows]
    assert steps == [("train", 5), ("test", 6), ("train", 10), ("train", 12), ("test", 12)]
    assert [row["kl_weight"] for row in run.split("train")] == [5 / 9, 1.0, 1.0]


def test_training_rows_are_means_over_their_window(tmp_path):
    losses = {}
    run = Run.start(tmp_path / "run", tiny())
    run.train(lambda row: losses.update({row["step"]: row["loss"]} if "loss" in row else {}))
    logged = [row["negative_elbo_per_frame"] for row in run.split("train")]
    windows = [range(1, 6), range(6, 11), range(11, 13)]
    means = [sum(losses[step] for step in window) / len(window) for window in windows]
    assert logged == pytest.approx(means, rel=1e-12)


def test_same_seed_same_run_other_seed_another(tmp_path, whole):
    assert finish(Run.start(tmp_path / "again", tiny())) == whole()
    other = finish(Run.start(tmp_path / "other", tiny(seed=1)))
    assert other["metrics"] != whole()["metrics"]
    assert other["state"]["program"] != whole()["state"]["program"]


@pytest.mark.parametrize("kind", gtm.memory.memory_names())
def test_evaluation_does_not_disturb_training(kind, tmp_path, whole):
    run = Run.start(tmp_path / "run", tiny(kind, eval_every=1, eval_sequences=3))
    finish(run)
    state = outcome(run.folder)["state"]
    assert state == whole(kind)["state"]
    reference = [json.loads(line) for line in whole(kind)["metrics"].splitlines()]
    assert run.split("train") == [row for row in reference if row["split"] == "train"]
    assert len(run.split("test")) == STEPS


def test_saving_does_not_disturb_training(tmp_path, whole):
    result = finish(Run.start(tmp_path / "run", tiny(save_every=1)))
    assert result["metrics"] == whole()["metrics"]
    assert result["state"] == whole()["state"]


def test_two_checkpoints_are_kept(tmp_path):
    run = Run.start(tmp_path / "run", tiny(save_every=1))
    seen = []
    run.train(lambda row: seen.append([path.name for path in run.checkpoints()]))
    assert max(map(len, seen)) == 2
    assert [path.name for path in run.checkpoints()] == ["step-00000011.pt", "step-00000012.pt"]


def test_damaged_checkpoint_is_named_and_the_one_before_goes_on_exactly(tmp_path, whole):
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())
    finish(run)
    older, newest = run.checkpoints()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    for use in (Run.resume, Run.load):
        with pytest.raises(CheckpointError) as caught:
            use(folder)
        assert str(newest) in str(caught.value)
        assert f"{older.name} before it is whole: remove the damaged file" in str(caught.value)
    newest.unlink()
    resumed = resume(folder)
    assert resumed.step == 8
    assert finish(resumed) == whole()


def test_removed_checkpoints_mean_from_the_beginning(tmp_path, whole):
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())
    stop(run, 9)
    for path in run.checkpoints():
        path.unlink()
    (folder / "checkpoints").rmdir()
    assert finish(resume(folder)) == whole()


def test_changed_configuration_does_not_fit_the_checkpoint(tmp_path):
    folder = tmp_path / "run"
    stop(Run.start(folder, tiny()), 2)
    (folder / "config.json").write_text(tiny(hidden_dim=7).to_json())
    with pytest.raises(CheckpointError, match=r"step-00000002.pt does not fit the configuration"):
        Run.resume(folder)


def spoil(run, step):
    """Let the frames of one step be NaN."""
    draw, drawn = run.experiment.draw, []

    def spoilt():
        frames, controls = draw()
        drawn.append(run.step + 1)
        return (frames * torch.nan if drawn[-1] == step else frames), controls

    run.experiment.draw = spoilt


def test_bad_frames_are_named_and_the_last_checkpoint_good(tmp_path, whole):
    folder = tmp_path / "run"
    run = Run.start(folder, tiny())
    spoil(run, 7)
    with pytest.raises(InvalidFramesError, match=r"step 7: .* frames at time 0") as caught:
        run.train()
    assert caught.value.step == 7
    assert [path.name for path in run.checkpoints()] == ["step-00000004.pt"]
    assert finish(resume(folder)) == whole(), "without the bad frames it goes on exactly"


def test_diverging_run_is_not_saved(tmp_path):
    """The loss of the first step is finite; what the step did to the weights shows after it."""
    run = Run.start(tmp_path / "run", tiny(learning_rate=1e30, num_steps=1))
    with pytest.raises(NonFiniteLossError, match="step 1: the loss on held-out sequences is"):
        run.train()
    assert run.checkpoints() == []
    run = Run.start(tmp_path / "other", tiny(learning_rate=1e30))
    with pytest.raises(NonFiniteLossError, match="step 2"):
        run.train()


def test_folder_and_summary(tmp_path):
    config = tiny("vrnn", seed=3, products="mkl")
    run = Run.start(tmp_path / "deep" / "run", config)
    run.train()
    summary = run.write_summary(2.0, STEPS)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "checkpoints",
        "config.json",
        "figures",
        "metrics.jsonl",
        "summary.json",
    ]
    assert read_config(run.folder / "config.json") == config
    assert summary_in(run.folder) == summary

    num_frames = 3
    assert (summary["memory"], summary["task"]) == ("vrnn", "perfect_recall")
    assert (summary["seed"], summary["num_steps"]) == (3, STEPS)
    assert summary["steps_per_second"] == STEPS / 2.0
    assert summary["parameters"] == run.experiment.num_parameters
    assert len(summary["kl_per_frame"]) == num_frames
    assert summary["last_frame_kl"] == pytest.approx(summary["kl_per_frame"][-1], rel=1e-6)
    assert summary["recall_kl"] == pytest.approx(summary["kl_per_frame"][-1], rel=1e-6)
    per_frame = summary["negative_elbo_per_frame"]
    assert summary["negative_elbo_per_sequence"] == pytest.approx(num_frames * per_frame, rel=1e-5)
    mean_kl = sum(summary["kl_per_frame"]) / num_frames
    assert per_frame == pytest.approx(summary["reconstruction_per_frame"] + mean_kl, rel=1e-5)


def test_loaded_run_is_the_trained_one_and_its_folder_stays(tmp_path):
    run = Run.start(tmp_path / "run", tiny())
    run.train()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    loaded = Run.load(run.folder)
    assert loaded.metrics.rows == run.metrics.rows
    assert comparable(loaded.experiment.program.state_dict()) == comparable(
        run.experiment.program.state_dict()
    )
    assert loaded._evaluation_row() == run.split("test")[-1]
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_start_takes_an_empty_folder_only(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    Run.start(folder, tiny())
    with pytest.raises(
        FolderTakenError, match=f"output: got {folder}, must be empty .*--resume {folder}"
    ):
        Run.start(folder, tiny())


def test_folder_taken_while_the_run_is_built(tmp_path, monkeypatch):
    """Two runs begun at once in one folder: one has it, the other is told."""
    folder = tmp_path / "run"
    build = run_module.build_experiment

    def slowly(config):
        monkeypatch.setattr(run_module, "build_experiment", build)
        Run.start(folder, tiny(seed=1))
        return build(config)

    monkeypatch.setattr(run_module, "build_experiment", slowly)
    with pytest.raises(FolderTakenError, match="must be empty or new"):
        Run.start(folder, tiny())
    assert read_config(folder / "config.json").seed == 1


def test_refused_configuration_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="takes no option"):
        Run.start(tmp_path / "deep" / "run", tiny(memory_options={"size": 3}))
    assert list(tmp_path.iterdir()) == []


def test_resume_takes_what_the_run_was_started_with(tmp_path):
    folder = tmp_path / "run"
    stop(Run.start(folder, tiny()), 2)
    run = resume(folder, memory="introspective", task_options={"list_length": 2}, device="cpu")
    assert run.step == 2
    for name, value in (
        ("seed", 1),
        ("memory", "vrnn"),
        ("learning_rate", 0.5),
    ):
        with pytest.raises(
            RunError, match=f"{name}: got {value!r}, must be .* as in the run in {folder}"
        ):
            Run.resume(folder, **{name: value})
    with pytest.raises(RunError, match=r"task option list_length: got 3, must be 2 "):
        Run.resume(folder, task_options={"list_length": 3})
    with pytest.raises(RunError, match=r"memory option slots: got 9, must be left out "):
        Run.resume(folder, memory_options={"slots": 9})
    with pytest.raises(RunError, match="num_steps: got 1, must be at least 2, "):
        Run.resume(folder, num_steps=1)
    assert read_config(folder / "config.json").num_steps == STEPS, "a refusal changes nothing"


def test_load_needs_a_checkpoint(tmp_path):
    Run.start(tmp_path / "run", tiny())
    with pytest.raises(RunError, match="has no checkpoint yet: train it first"):
        Run.load(tmp_path / "run")
    with pytest.raises(RunError, match="holds no run"):
        Run.load(tmp_path / "none")


def test_saved_on_another_kind_of_device_it_goes_on_with_other_random_numbers(tmp_path):
    """A CUDA generator's state has 16 bytes, a CPU one's 5,056: neither can take the other's."""
    run = Run.start(tmp_path / "run", tiny())
    with pytest.raises(Interrupted):
        run.train(at(6, functools.partial(os.kill, os.getpid(), signal.SIGINT)))
    path = run.checkpoints()[-1]
    content = load_checkpoint(path)
    foreign = {"device": "cuda", "draws": torch.zeros(16, dtype=torch.uint8)}
    save_checkpoint(path, {**content, **foreign})

    assert Run.load(run.folder).step == 6
    again = resume(run.folder)
    assert not again.exact
    again.train()
    assert again.step == STEPS
