"""A trained model is judged by what it generates: the right things, against the right things."""

from __future__ import annotations

import pytest
import torch

from pyro_gtm.experiments import metrics as assessment
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.experiment import eval_mode
from pyro_gtm.experiments.metrics import assess
from pyro_gtm.infer import addresses
from pyro_gtm.tasks import task_names

SEQUENCES = 300


@pytest.fixture(scope="module", params=task_names())
def untrained(request):
    """A model of the debug preset that knows nothing, and sequences to judge it on."""
    experiment = build_experiment(make_config("debug", task=request.param))
    return experiment, experiment.held_out(SEQUENCES)


def judged(monkeypatch, untrained, generated):
    """The figures of a model that generates what it is told to."""
    experiment, batch = untrained
    given = experiment.test_task.num_given

    def continue_frames(program, memory, frames, *, num_steps, controls, sample):
        assert frames.equal(batch.frames[:given]) and num_steps == len(batch.frames)
        assert controls is batch.controls
        return torch.cat([frames, generated[given:]])

    monkeypatch.setattr(assessment, "continue_frames", continue_frames)
    return assess(experiment, batch, particles=1)


def test_the_truth_is_right(monkeypatch, untrained):
    experiment, batch = untrained
    figures = judged(monkeypatch, untrained, batch.frames)
    # Digits may repeat by chance on a map; of rooms, the frame between two headings has two near.
    most = {"mnist_map": 0.99, "rotation_3d": 0.9}.get(experiment.config.task, 1.0)
    assert most <= figures["recall_accuracy"] <= 1
    assert figures["recall_accuracy_chance"] < 0.6


def test_a_memory_is_right_where_it_shows_what_was_shown(monkeypatch, untrained):
    """What the task says is shown again, shown again; any 1 or 0 of the right parity."""
    experiment, batch = untrained
    step = torch.where(batch.repeats < 0, torch.arange(len(batch.frames))[:, None], batch.repeats)
    index = step[..., None, None, None].expand_as(batch.frames)
    generated = batch.frames.gather(0, index)
    if experiment.test_task.target_classes:
        images, labels = experiment.training_task.images
        one, zero = (images[labels == digit][0] for digit in (1, 0))
        generated = torch.where(batch.labels[..., None, None, None] == 1, one, zero)
    # On a map the walk's later frames may be compared with what was generated before them.
    assert judged(monkeypatch, untrained, generated)["recall_accuracy"] >= 0.99


def test_one_image_for_all_is_at_chance(monkeypatch, untrained):
    """It knows nothing of the sequence, whatever it looks like."""
    _, batch = untrained
    blur = batch.frames.mean((0, 1)).expand_as(batch.frames)
    figures = judged(monkeypatch, untrained, blur)
    accuracy, chance = figures["recall_accuracy"], figures["recall_accuracy_chance"]
    # Frames of a sequence are right together or not at all: as many independent tries as sequences.
    assert abs(accuracy - chance) < 5 * (chance * (1 - chance) / SEQUENCES) ** 0.5


def test_what_belongs_to_other_frames_is_wrong(monkeypatch, untrained):
    """The other parity; an image of the list that is not the one called for."""
    experiment, batch = untrained
    if experiment.test_task.target_classes:
        images, labels = experiment.training_task.images
        one, zero = (images[labels == digit][0] for digit in (1, 0))
        generated = torch.where(batch.labels[..., None, None, None] == 1, zero, one)
    else:
        new = batch.repeats[: experiment.test_task.num_given] < 0  # (n, B)
        last_new = (new * torch.arange(1, len(new) + 1)[:, None]).argmax(0)  # (B,)
        first_new = torch.zeros_like(last_new)
        wrong = torch.where(batch.repeats == last_new, first_new, last_new)  # (T, B)
        index = wrong[..., None, None, None].expand_as(batch.frames)
        generated = batch.frames.gather(0, index)
    most = {"mnist_map": 0.2, "dynamic_dependency": 0.1}  # some images come twice, or were made up
    accuracy = judged(monkeypatch, untrained, generated)["recall_accuracy"]
    assert accuracy <= most.get(experiment.config.task, 0.05)


def test_an_untrained_model_is_at_chance(untrained):
    experiment, batch = untrained
    figures = assess(experiment, batch, particles=1)
    accuracy, chance = figures["recall_accuracy"], figures["recall_accuracy_chance"]
    assert abs(accuracy - chance) < 5 * (chance * (1 - chance) / SEQUENCES) ** 0.5


def test_the_oracle_kl_is_that_of_the_task_for_the_models_own_new_frames(untrained):
    experiment, batch = untrained
    task, figures = experiment.test_task, assess(experiment, batch, particles=1)
    kl = experiment.evaluate(batch).kl
    new = task.new_frames(batch)
    cost = kl[new].mean().item()
    by_class = {c: kl[new & (batch.labels == c)].mean().item() for c in (0, 1)}
    expected = task.oracle_kl(assessment.NewFrameKL(cost, by_class))
    assert figures["new_frame_kl"] == pytest.approx(cost)
    assert figures["oracle_kl_per_frame"] == pytest.approx(expected.tolist())
    assert figures["last_frame_oracle_kl"] == pytest.approx(expected[-1].item())


def test_more_particles_lower_the_negative_iwae_bound():
    experiment = build_experiment(make_config("debug"))
    batch = experiment.held_out(50)
    one, many = (assess(experiment, batch, particles=k) for k in (1, 30))
    assert one["negative_iwae_bound_per_frame"] > many["negative_iwae_bound_per_frame"]
    per_sequence = many["negative_iwae_bound_per_sequence"]
    assert per_sequence == pytest.approx(len(batch.frames) * many["negative_iwae_bound_per_frame"])


def test_log_weight_of_the_right_slot_is_told_of_a_mixture_alone():
    """The mean over frames that are shown again; what was overwritten counts as -50."""
    options = {"memory": "associative", "memory_options": {"slots": 2}}
    experiment = build_experiment(make_config("debug", prior="mixture", **options))
    batch = experiment.held_out(30)
    with eval_mode(experiment):
        found = addresses(experiment.guide, batch.frames)
    recalled = batch.repeats >= 0
    right = found.log_weight_of_right(batch.repeats)[recalled]
    told = assess(experiment, batch, particles=1)["right_slot_log_weight"]
    assert right.min() < -1e8, "some are no longer in a slot"
    assert told == pytest.approx(right.clamp(min=-50).mean().item(), rel=1e-5)
    gaussian = build_experiment(make_config("debug", **options))
    assert assess(gaussian, batch, particles=1)["right_slot_log_weight"] is None
    experiment = build_experiment(make_config("debug", task="parity_recall", prior="mixture"))
    assert assess(experiment, particles=1)["right_slot_log_weight"] is None, "nothing repeats"
