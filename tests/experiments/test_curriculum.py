"""A curriculum: which sizes are drawn, when the next one comes, and what stays as it was."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from pyro_gtm.experiments import training_loop
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.curriculum import Curriculum, RecallGap
from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.experiments.metrics import recall_gap
from pyro_gtm.experiments.run import Run
from pyro_gtm.infer import Evaluation
from pyro_gtm.tasks import PerfectRecall, SimilarityCuedRecall

LENGTHS = (4, 6, 8, 9)


def tiny(**overrides):
    settings = {
        "curriculum": "recall-kl",
        "task_options": {"list_length": 9, "recall_length": 3},
        "latent_dim": 3,
        "hidden_dim": 6,
        "num_steps": 12,
        "batch_size": 2,
        "log_every": 2,
        "eval_every": 3,
        "eval_sequences": 4,
        "save_every": 4,
    }
    return make_config("debug", **{**settings, **overrides})


def sizes():
    images = ImageSet(torch.rand(5, 1, 2, 2), torch.arange(5))
    return [PerfectRecall(images, list_length=l, recall_length=2) for l in LENGTHS]  # noqa: E741


def drawn(stage, number=2_000):
    """How often each list length is drawn at some stage."""
    curriculum = Curriculum(sizes(), "recall-kl", 100, stage)
    generator = torch.Generator().manual_seed(0)
    counts = Counter(curriculum.draw(generator).list_length for _ in range(number))
    return {length: count / number for length, count in counts.items()}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (0, {4: 0.8, 9: 0.2}),
        (1, {4: 0.2, 6: 0.6, 9: 0.2}),
        (2, {4: 0.1, 6: 0.1, 8: 0.6, 9: 0.2}),
        (3, {4: 0.2 / 3, 6: 0.2 / 3, 8: 0.2 / 3, 9: 0.8}),
    ],
)
def test_most_batches_are_of_the_present_size(stage, expected):
    shares = drawn(stage)
    assert shares.keys() == expected.keys()
    for length, share in expected.items():
        assert shares[length] == pytest.approx(share, abs=0.05)


def test_by_steps_each_smaller_size_has_its_share_of_the_first_half():
    curriculum, course = Curriculum(sizes(), "steps", num_steps=12), []
    for step in range(1, 13):
        curriculum.begin(step)
        course.append(curriculum.present.list_length)
    assert course == [4, 4, 6, 6, 8, 8, *6 * [9]]
    curriculum.begin(3)
    curriculum.observe(0.0)
    assert curriculum.present.list_length == 6, "not a matter of what is learnt"


def test_by_recall_kl_the_next_size_waits_until_the_present_one_is_learnt():
    curriculum, course = Curriculum(sizes(), "recall-kl", num_steps=12), []
    for step, excess in enumerate([10.1, 9.9, None, float("nan"), 10.0, 0.0, -1.0, 0.0], 1):
        curriculum.begin(step)
        assert curriculum.waits == (curriculum.present.list_length < 9)
        curriculum.observe(None if excess is None else RecallGap(excess, 20.0))
        course.append(curriculum.present.list_length)
    assert course == [4, 6, 6, 6, 6, 8, 9, 9]


@pytest.mark.parametrize(("excess", "new", "closed"), [(0.5, 0.5, False), (0.5, 1.1, True)])
def test_a_posterior_that_says_nothing_has_learnt_nothing(excess, new, closed):
    """At first no frame costs a nat, be it new or not."""
    assert RecallGap(excess, new).closed == closed


def test_what_is_trained_changes_and_what_is_judged_does_not():
    experiment, plain = (build_experiment(tiny(curriculum=c)) for c in ("steps", "none"))
    assert plain.curriculum is None
    assert experiment.memory.slots == plain.memory.slots == 12
    assert experiment.held_out().frames.equal(plain.held_out().frames)
    experiment.curriculum.begin(1)
    lengths = set()
    for _ in range(60):
        frames, _ = experiment.draw()
        lengths.add(len(frames))
        assert experiment.frames_drawn == 2 * len(frames)
    assert lengths == {4 + 2, 9 + 3}


def test_a_gap_is_of_what_follows_the_cue_beyond_the_oracle(monkeypatch):
    """Of lists of 4: the KL is 7 for new frames, 5 at the cue, 3 after it; the oracle's is
    log(4 - 2) at the cue alone."""
    experiment = build_experiment(tiny(task="similarity_cued_recall"))
    size = experiment.curriculum.present
    assert isinstance(size, SimilarityCuedRecall)
    kl = torch.tensor([7.0, 7.0, 7.0, 7.0, 5.0, 3.0]).unsqueeze(1).expand(-1, 4)
    seen = []

    def evaluate(batch):
        seen.append(batch.frames)
        return Evaluation(kl, torch.zeros_like(kl))

    monkeypatch.setattr(experiment, "evaluate", evaluate)
    oracle = torch.tensor(2.0).log().item() / 2
    for _ in range(2):
        assert recall_gap(experiment, size) == pytest.approx((3.0 - oracle, 7.0), rel=1e-6)
    assert seen[0].equal(seen[1]) and seen[0].shape[:2] == (6, 4)
    trained = {image.numpy().tobytes() for image in experiment.training_task.images.images}
    assert all(image.numpy().tobytes() in trained for image in seen[0].flatten(0, 1))


def test_rows_tell_the_size_and_the_evaluation_is_of_the_target(tmp_path, monkeypatch):
    gaps = iter([RecallGap(15.0, 20.0), RecallGap(1.0, 20.0), None, RecallGap(1.0, 20.0)])
    monkeypatch.setattr(training_loop, "recall_gap", lambda experiment, size: next(gaps))
    run = Run.start(tmp_path / "run", tiny())
    run.train()
    tested = run.split("test")
    assert [row["stage_frames"] for row in tested] == [6, 6, 9, 9]
    assert [row["stage_recall_kl"] for row in tested] == [15.0, 1.0, None, 1.0]
    assert all(len(row["kl_per_frame"]) == 12 for row in tested)
    # Logged after steps 2, 4, ..., and judged after 3, 6, 9 and 12.
    assert [row["frames"] for row in run.split("train")] == [6, 6, 6, 9, 9, 9]
    assert run.experiment.curriculum.stage == 2
    summary = run.write_summary(1.0, 12)
    assert summary["curriculum"] == "recall-kl"


class Killed(BaseException):
    """In place of ``kill -9``."""


@pytest.mark.parametrize("moment", [3, 5, 7, 11])
def test_a_run_that_was_killed_goes_on_at_its_stage(moment, tmp_path, monkeypatch):
    """Stages come after steps 3, 6, 9; checkpoints after 4, 8, 12."""
    gap = RecallGap(0.0, 20.0)
    monkeypatch.setattr(training_loop, "recall_gap", lambda experiment, size: gap)
    whole = Run.start(tmp_path / "whole", tiny())
    whole.train()

    def kill(row):
        if "split" not in row and row["step"] == moment:
            raise Killed

    with pytest.raises(Killed):
        Run.start(tmp_path / "killed", tiny()).train(kill)
    torch.manual_seed(999)
    resumed = Run.resume(tmp_path / "killed")
    assert resumed.experiment.curriculum.stage == {0: 0, 4: 1, 8: 2}[resumed.step]
    resumed.train()
    assert resumed.experiment.curriculum.stage == whole.experiment.curriculum.stage == 3
    metrics = [(run.folder / "metrics.jsonl").read_bytes() for run in (whole, resumed)]
    assert metrics[0] == metrics[1]
    for part in ("program", "memory"):
        one, other = (getattr(run.experiment, part).state_dict() for run in (whole, resumed))
        assert all(one[name].equal(other[name]) for name in one)


def test_an_evaluation_out_of_turn_decides_nothing(tmp_path, monkeypatch):
    """That after the last step, which a longer run would not have."""
    gap = RecallGap(0.0, 20.0)
    monkeypatch.setattr(training_loop, "recall_gap", lambda experiment, size: gap)
    run = Run.start(tmp_path / "run", tiny(num_steps=4))
    run.train()
    assert run.experiment.curriculum.stage == 1


def test_losses_are_a_frame_whatever_the_size(tmp_path):
    """An untrained model explains a frame of a short list and of a long one about equally."""
    losses = []
    run = Run.start(tmp_path / "run", tiny(curriculum="steps"))
    run.train(lambda row: losses.append(row["loss"]) if "loss" in row else None)
    assert max(losses) < 1.25 * min(losses)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    means = [row["negative_elbo_per_frame"] for row in rows if row["split"] == "train"]
    assert means[0] == pytest.approx(sum(losses[:2]) / 2)


@pytest.mark.parametrize(
    ("task", "options", "frames"),
    [
        ("rotation_3d", {"num_frames": 30}, 30),
        ("perfect_recall", {"list_length": 4, "recall_length": 2}, 6),
        ("mnist_map", {"num_frames": 8}, 8),
    ],
)
def test_a_task_without_smaller_sizes_is_refused(task, options, frames, tmp_path):
    config = make_config("debug", task=task, task_options=options, curriculum="steps")
    with pytest.raises(ValueError) as refused:
        Run.start(tmp_path / "run", config)
    assert str(refused.value) == (
        f"curriculum: got 'steps', must be none for the task {task} of {frames} frames, which "
        "declares no smaller sizes"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_gap_needs_a_frame_that_is_recalled(monkeypatch):
    experiment = build_experiment(tiny(task="mnist_map", task_options={"num_frames": 12}))
    task = experiment.training_task
    batch = task.sample(4)
    never = batch._replace(predictable=torch.zeros_like(batch.predictable))
    monkeypatch.setattr(task, "sample", lambda *args: never)
    assert recall_gap(experiment, task) is None
