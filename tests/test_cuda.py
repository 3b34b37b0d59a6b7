"""The same code on CUDA: train, resume, take the run to the CPU.  Skipped where there is none."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import dataclass, field

import pytest
import torch
from pyro import poutine
from pyro.infer import SVI

import pyro_gtm as gtm
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.report import draw_figures
from pyro_gtm.experiments.run import Interrupted, Run
from pyro_gtm.infer.captured import CapturedSVI, NotCapturedWarning
from pyro_gtm.infer.check_observations import InvalidFramesError
from pyro_gtm.infer.elbo import DeviceTrace_ELBO, DeviceTraceMeanField_ELBO
from pyro_gtm.infer.optim import FusedAdam
from pyro_gtm.infer.training import NonFiniteLossError, parameters_are_current, training_steps
from pyro_gtm.tasks import task_names

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def start(folder, memory, **overrides):
    return Run.start(folder, make_config("debug", memory=memory, device="cuda", **overrides))


def stop_at(step):
    def progress(row):
        if "split" not in row and row["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


@pytest.mark.parametrize("elbo", ["trace", "mean-field"])
def test_everything_lives_on_the_device(tmp_path, memory_name, elbo):
    run = start(tmp_path / "run", memory_name, elbo=elbo, num_steps=3)
    run.train()
    experiment = run.experiment
    tensors = [*experiment.program.parameters(), *experiment.memory.parameters()]
    tensors += [experiment.held_out(2).frames]
    for state in experiment.optimizer.get_state().values():
        tensors += state.values()
    assert {tensor.device.type for tensor in tensors} == {"cuda"}


@pytest.mark.parametrize("task", task_names())
def test_every_task_is_made_and_judged_on_the_device(tmp_path, task):
    run = start(tmp_path / "run", "introspective", task=task, num_steps=2)
    run.train()
    batch = run.experiment.held_out(3)
    tensors = [tensor for tensor in batch if tensor is not None]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
    assert run.write_summary(1.0, 2)["recall_accuracy_frames"] > 0
    assert draw_figures(run)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_agrees_with_the_cpu(memory_name, network):
    """The same weights and frames give the same likelihood of the frames given the latents."""
    here = build_experiment(make_config("debug", memory=memory_name, device="cpu", network=network))
    there = build_experiment(
        make_config("debug", memory=memory_name, device="cuda", network=network)
    )
    for ours, theirs in ((here.program, there.program), (here.memory, there.memory)):
        theirs.load_state_dict(ours.state_dict())
        ours.eval(), theirs.eval()
    frames = here.held_out(4).frames
    latents = torch.randn(*frames.shape[:2], here.config.latent_dim)
    log_joint = {}
    for experiment in (here, there):
        model = gtm.use_memory(experiment.memory)(experiment.program.model)
        data = {"z": latents.movedim(0, 1).to(experiment.device)}  # (B, T, Z)
        with torch.no_grad():
            given = poutine.condition(model, data=data)
            trace = poutine.trace(given).get_trace(frames.to(experiment.device))
        log_joint[experiment.device.type] = trace.log_prob_sum().item()
    assert log_joint["cuda"] == pytest.approx(log_joint["cpu"], rel=1e-4)


def test_resumes_and_moves_to_the_cpu(tmp_path, memory_name):
    run = start(tmp_path / "run", memory_name)
    with pytest.raises(Interrupted):
        run.train(stop_at(7))
    resumed = Run.resume(run.folder)
    assert resumed.exact
    resumed.train()
    assert resumed.step == resumed.experiment.config.num_steps

    moved = Run.load(run.folder, device="cpu")
    batch = moved.experiment.held_out(2)
    drawn = gtm.continue_frames(
        moved.experiment.program, moved.experiment.memory, batch.frames[:4], num_steps=6
    )
    assert drawn.device.type == "cpu" and drawn.isfinite().all()


WARM_UP = 3
"""Steps before the capture; the one after them is the first replay."""

STILL = 1e-12
"""A learning rate that leaves the weights where they are."""


@dataclass
class Learner:
    """A fresh model on the device, from one seed, and the inference that trains it."""

    captures: bool
    options: dict = field(default_factory=dict)
    layout: str = "stacked"
    learning_rate: float = 1e-3
    read_every: int = 5
    experiment: Experiment = field(init=False)
    svi: SVI = field(init=False)

    def __post_init__(self):
        self.experiment = build_experiment(make_config("debug", device="cuda", **self.options))
        experiment = self.experiment
        program = experiment.program.with_layout(self.layout)
        model = gtm.use_memory(experiment.memory)(program.model)
        guide = gtm.FilteringGuide(model)
        mean_field = experiment.config.elbo == "mean-field"
        loss = DeviceTraceMeanField_ELBO() if mean_field else DeviceTrace_ELBO()
        optimizer = FusedAdam(lr=self.learning_rate)
        if self.captures:
            self.svi = CapturedSVI(
                model,
                guide,
                optimizer,
                loss,
                device=experiment.device,
                generators=[experiment.draws],
                read_every=self.read_every,
            )
        else:
            self.svi = SVI(model, guide, optimizer, loss)

    def train(self, num_steps, draw=None, **options):
        """The loss of each step; a warning that it was not captured is an error."""
        steps = training_steps(
            self.svi, draw or self.experiment.draw, num_steps=num_steps, **options
        )
        return [loss for _, loss in steps]

    def weights(self):
        modules = self.experiment.program, self.experiment.memory
        return torch.cat([p.detach().flatten() for m in modules for p in m.parameters()]).clone()

    def seed(self, seed):
        torch.cuda.manual_seed(seed)
        self.experiment.draws.manual_seed(seed)


@pytest.mark.parametrize("elbo", ["trace", "mean-field"])
def test_captured_training_is_the_same_training(memory_name, layout, elbo):
    """Warm-up, capture and replays, with the same batches and noise, through KL annealing."""
    options = {"memory": memory_name, "elbo": elbo}
    plain = Learner(False, options, layout)
    expected_start = plain.weights()
    expected = plain.train(WARM_UP + 9, kl_annealing=8)
    end, norm = plain.weights(), plain.svi.optim.gradient_norm

    captured = Learner(True, options, layout)
    assert captured.weights().equal(expected_start)
    losses = captured.train(WARM_UP + 9, kl_annealing=8)
    assert losses == pytest.approx(expected, rel=1e-4)
    moved = (end - expected_start).norm()
    assert moved > 0
    # Adam's first steps are as long for a gradient of rounding errors as for any other.
    assert (captured.weights() - end).norm() < 0.02 * moved
    assert captured.svi.optim.gradient_norm == pytest.approx(norm, rel=0.05)
    state = captured.svi.optim.get_state()
    assert {name: values["step"].item() for name, values in state.items()} == {
        name: WARM_UP + 9 for name in plain.svi.optim.get_state()
    }


def test_replays_follow_the_learning_rate():
    """It falls to next to nothing when replays have begun."""
    moving = WARM_UP + 3
    shorter = Learner(True)
    start = shorter.weights()
    shorter.train(moving)
    longer = Learner(True)
    longer.train(moving + 6, learning_rate=lambda step: 1e-3 if step <= moving else STILL)
    moved = (shorter.weights() - start).norm()
    assert moved > 0
    assert (longer.weights() - shorter.weights()).norm() < 0.02 * moved
    assert longer.svi.optim.lr == STILL


@pytest.mark.parametrize("task", task_names())
def test_every_task_is_drawn_in_the_capture(task):
    losses = Learner(True, {"task": task}).train(WARM_UP + 5)
    assert all(math.isfinite(loss) for loss in losses)
    assert len(set(losses)) == len(losses)


def test_convolutions_are_captured():
    losses = Learner(True, {"network": "conv"}).train(WARM_UP + 5)
    assert len(set(losses)) == len(losses)


def test_replays_draw_anew_and_repeat_when_seeded_again():
    """The batch from the task's generator, the noise from the device's."""
    learner = Learner(True, learning_rate=STILL, read_every=50)
    first, second, third = range(5, 9), range(9, 13), range(13, 17)
    ends = [4, 8, 12, 16]
    losses = {}
    for step, loss in training_steps(
        learner.svi, learner.experiment.draw, num_steps=16, pause=lambda step: step in ends
    ):
        losses[step] = loss
        if step in (4, 8):
            learner.seed(7)
        if step == 12:
            learner.experiment.draws.manual_seed(7)  # the batches alone
    one, two, three = ([losses[step] for step in steps] for steps in (first, second, third))
    assert one == pytest.approx(two, rel=1e-6)
    for series in (one, three):
        assert min(abs(x - y) for i, x in enumerate(series) for y in series[:i]) > 1e-3
    assert min(abs(x - y) for x, y in zip(one, three, strict=True)) > 1e-3


def test_losses_are_distributed_as_without_a_capture():
    """The same weights throughout, other seeds: 400 losses of each kind."""
    samples = []
    for captures in (True, False):
        learner = Learner(captures, {"memory": "ntm"}, learning_rate=STILL, read_every=100)
        learner.seed(100 + captures)
        samples.append(torch.tensor(learner.train(400), dtype=torch.float64))
    one, other = samples
    error = math.hypot(one.std().item(), other.std().item()) / math.sqrt(400)
    assert abs(one.mean() - other.mean()).item() < 4 * error
    assert one.std().item() == pytest.approx(other.std().item(), rel=0.25)  # 4 of 3.5 %, and more


def test_an_evaluation_between_replays_changes_nothing():
    losses = []
    for evaluates in (False, True):
        learner = Learner(True)
        batch = learner.experiment.held_out(4)
        series = []
        for step, loss in training_steps(
            learner.svi, learner.experiment.draw, num_steps=12, pause=lambda step: step % 3 == 0
        ):
            series.append(loss)
            if evaluates and step % 3 == 0:
                assert parameters_are_current(learner.svi)
                learner.experiment.evaluate(batch)
                learner.svi.optim.get_state()
        losses.append(series)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_rng_state_can_be_saved_between_replays_and_taken_up_by_plain_steps():
    """What a checkpoint holds, and a resumed run goes on from."""
    straight = Learner(True, learning_rate=STILL).train(12)
    learner = Learner(True, learning_rate=STILL)
    learner.train(8)
    device = learner.experiment.device
    noise, draws = torch.cuda.get_rng_state(device), learner.experiment.draws.get_state()
    plain = Learner(False, learning_rate=STILL)
    torch.cuda.set_rng_state(noise, device)
    plain.experiment.draws.set_state(draws)
    assert plain.train(12, start=8) == pytest.approx(straight[8:], rel=1e-5)


@pytest.mark.parametrize("poisoned_after", [WARM_UP + 1, WARM_UP + 4])
def test_a_bad_replay_is_named_and_changes_nothing(poisoned_after):
    """The weights stay as they were, but for the one that the test spoilt."""
    learner = Learner(True, read_every=4)
    bias = learner.experiment.program.prior_head.hidden.bias
    kept = {}
    with pytest.raises(NonFiniteLossError) as caught:
        for step, _ in training_steps(
            learner.svi,
            learner.experiment.draw,
            num_steps=30,
            pause=lambda step: step == poisoned_after,
        ):
            if step == poisoned_after:
                with torch.no_grad():
                    bias[0] = math.nan
                kept = {"weights": learner.weights(), "state": learner.svi.optim.get_state()}
    assert caught.value.step == poisoned_after + 1
    torch.testing.assert_close(learner.weights(), kept["weights"], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(learner.svi.optim.get_state(), kept["state"], rtol=0, atol=0)


def test_a_failed_training_does_not_stop_the_next():
    learner, drawn = Learner(True), []

    def draw():
        drawn.append(1)
        frames, controls = learner.experiment.draw()
        return frames * (math.nan if len(drawn) == 3 else 1), controls

    sentence = "step 3: frames hold values outside the support of the likelihood, or NaN"
    with pytest.raises(InvalidFramesError, match=sentence) as caught:
        learner.train(8, draw)
    assert caught.value.step == 3
    before = learner.weights()
    learner.train(8)
    assert not learner.weights().equal(before)


def reading(experiment):
    """A draw that waits for the device: allowed by itself, and not in a capture."""

    def draw():
        frames, controls = experiment.draw()
        return frames * float(frames.mean().item() >= 0), controls

    return draw


def test_a_capture_that_fails_is_named_and_training_goes_on():
    """The random numbers included, which a spoilt capture could leave locked."""
    plain = Learner(False)
    expected = plain.train(10)
    learner = Learner(True)
    with pytest.warns(NotCapturedWarning, match="one by one.*the capture failed: ") as warned:
        losses = learner.train(10, reading(learner.experiment))
    assert len(warned) == 1
    assert losses == pytest.approx(expected, rel=1e-4)
    assert torch.randn(3, device="cuda").isfinite().all()
    assert Learner(True).train(8) == pytest.approx(expected[:8], rel=1e-4)  # captured, after that


def test_batches_of_changing_shape_are_not_captured():
    learner, drawn = Learner(True), []

    def draw():
        drawn.append(1)
        frames, controls = learner.experiment.draw()
        return frames[: len(frames) - len(drawn) % 2], controls

    with pytest.warns(NotCapturedWarning, match="draw changes the shape of its batches") as warned:
        losses = learner.train(9, draw)
    assert len(warned) == 1 and len(losses) == len(drawn) == 9


def test_batches_that_are_not_drawn_on_the_device_are_not_captured():
    learner = Learner(True)
    batches = [learner.experiment.draw() for _ in range(9)]
    with pytest.warns(NotCapturedWarning, match="draw gives other frames without a random number"):
        assert len(learner.train(9, iter(batches).__next__)) == 9


def test_noise_from_the_host_is_not_captured():
    learner = Learner(True)

    def draw():
        frames, controls = learner.experiment.draw()
        return (frames + torch.rand(()).item()).clamp(0, 1).round(), controls

    with pytest.warns(NotCapturedWarning, match="it draws random numbers on the CPU"):
        learner.train(6, draw)
