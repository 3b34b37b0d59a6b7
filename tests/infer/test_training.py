"""The training loop: which steps it takes, under which validation and weights, and how it stops."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import SVI, TraceMeanField_ELBO
from pyro.infer.util import is_validation_enabled

from pyro_gtm.infer import (
    FusedAdam,
    InvalidFramesError,
    NonFiniteGradientError,
    NonFiniteLossError,
    training_steps,
)
from pyro_gtm.infer.elbo import DeviceTraceMeanField_ELBO
from pyro_gtm.infer.training import parameters_are_current


class Spy:
    """In the place of SVI: notes what holds in each step; its loss is what it is told."""

    guide = staticmethod(print)  # an ordinary function

    def __init__(self, losses=None):
        self.validation, self.weights, self.losses = [], [], losses

    def program(self):
        z = pyro.sample("z", Normal(0.0, 1.0))
        pyro.sample("x", Normal(z, 1.0), obs=torch.tensor(0.0))

    def step(self, frames, controls=None):
        return self.loss_and_grads(frames, controls)

    def loss_and_grads(self, frames, controls):
        nodes = poutine.trace(self.program).get_trace().nodes
        assert nodes["x"]["scale"] == 1.0
        self.weights.append(nodes["z"]["scale"])
        self.validation.append((is_validation_enabled(), poutine.util.is_validation_enabled()))
        loss = self.losses[len(self.weights) - 1] if self.losses else 1.0
        if isinstance(loss, Exception):
            raise loss
        return loss


def draw():
    return torch.zeros(1), None


@pytest.mark.parametrize("start, end", [(0, 4), (3, 5), (5, 5), (6, 5)])
def test_takes_the_steps_that_are_left(start, end):
    steps = training_steps(Spy(), draw, start=start, num_steps=end)
    assert [step for step, _ in steps] == list(range(start + 1, end + 1))


def test_gives_the_loss_of_each_step():
    steps = training_steps(Spy([3.0, torch.tensor(2.0), 1]), draw, num_steps=3)
    assert list(steps) == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_each_step_draws_its_own_batch(make_frames):
    batches, seen = iter(range(10)), []

    class Seer(Spy):
        def step(self, frames, controls):
            seen.append((frames.item(), controls.item()))
            return 0.0

    list(
        training_steps(Seer(), lambda: (torch.tensor(next(batches)), torch.tensor(7)), num_steps=3)
    )
    assert seen == [(0, 7), (1, 7), (2, 7)]


@pytest.mark.parametrize("start", [0, 10])
def test_validates_the_first_step_only(start):
    spy = Spy()
    list(training_steps(spy, draw, start=start, num_steps=start + 4))
    assert spy.validation == [(True, True)] + 3 * [(False, False)]


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("ending", ["end", "error", "break"])
def test_validation_is_restored(enabled, ending):
    pyro.enable_validation(enabled)
    steps = training_steps(
        Spy([1.0, 1.0, KeyError("x") if ending == "error" else 1.0]), draw, num_steps=3
    )
    if ending == "error":
        with pytest.raises(KeyError):
            list(steps)
    else:
        for step, _ in steps:
            if ending == "break" and step == 2:
                break
        steps.close()
    assert is_validation_enabled() == poutine.util.is_validation_enabled() == enabled


def test_every_step_is_settled(make_model, make_frames):
    """Whatever the caller asks for: only a ``CapturedSVI`` goes ahead of it."""
    svi, frames = learner(make_model("vrnn")), make_frames()
    drawn = []

    def draw():
        drawn.append(1)
        return frames, None

    for step, _ in training_steps(svi, draw, num_steps=3, pause=lambda step: step == 2):
        assert parameters_are_current(svi) and len(drawn) == step


@pytest.mark.parametrize("start", [0, 2])
def test_annealed_weights(start):
    """The KL term grows from 0 (exclusive) to 1, a resumed run going on where it was."""
    spy = Spy()
    list(training_steps(spy, draw, start=start, num_steps=7, kl_annealing=5))
    assert spy.weights == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0][start:])


def test_without_annealing_there_is_no_weight():
    spy = Spy()
    list(training_steps(spy, draw, num_steps=3))
    assert spy.weights == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "failure", [math.nan, math.inf, -math.inf, NonFiniteGradientError("the gradient's norm is nan")]
)
def test_non_finite_step_is_named(failure):
    taken = []
    with pytest.raises(NonFiniteLossError, match=r"stopped in step 13: .*(nan|inf)") as caught:
        for step, _ in training_steps(Spy([1.0, 1.0, failure]), draw, start=10, num_steps=20):
            taken.append(step)
    assert caught.value.step == 13
    assert taken == [11, 12]


def learner(pair):
    return SVI(pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), TraceMeanField_ELBO())


@pytest.mark.thinned(2)
def test_a_model_learns(memory_name, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames()
    losses = [
        loss for _, loss in training_steps(learner(pair), lambda: (frames, None), num_steps=150)
    ]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


SPOILT = {
    "frames of NaN": (
        lambda frames, controls: (frames * math.nan, controls),
        InvalidFramesError,
        r"frames at time 0, sequence 0 \(the first of 15\) hold values from nan to nan, nan among "
        r"them, and BernoulliLikelihood allows finite values in \{0, 1\}",
    ),
    "frames outside the support": (
        lambda frames, controls: (frames * 255, controls),
        InvalidFramesError,
        r"hold values from 0 to 255, 255 among them, and BernoulliLikelihood allows",
    ),
    "controls of NaN": (
        lambda frames, controls: (frames, controls * math.nan),
        NonFiniteLossError,
        "the loss is nan",
    ),
}


@pytest.mark.filterwarnings("ignore:Encountered NaN")
@pytest.mark.parametrize("bad", SPOILT)
def test_a_bad_batch_leaves_the_parameters_of_the_step_before(
    memory_name, bad, make_model, make_frames
):
    spoil, error, sentence = SPOILT[bad]
    pair, frames, drawn, kept = make_model(memory_name, control_dim=2), make_frames(), [], {}
    modules = pair.modules()

    def draw():
        drawn.append(1)
        batch = frames, torch.ones(5, 3, 2)
        return batch if len(drawn) < 4 else spoil(*batch)

    with pytest.raises(error, match=f"^training stopped in step 4: .*{sentence}") as caught:
        for _ in training_steps(learner(pair), draw, num_steps=9):
            kept = {name: value.clone() for name, value in modules.state_dict().items()}
    assert caught.value.step == 4
    assert all(value.equal(kept[name]) for name, value in modules.state_dict().items())


def test_nan_is_warned_of_too(make_model, make_frames):
    """As Pyro does in any step of its own."""
    pair, frames, drawn = make_model("vrnn"), make_frames(), []

    def draw():
        drawn.append(1)
        return (frames if len(drawn) < 4 else frames * math.nan), None

    with pytest.warns(UserWarning, match="Encountered NaN"), pytest.raises(InvalidFramesError):
        list(training_steps(learner(pair), draw, num_steps=9))


@pytest.mark.parametrize(
    "bad, error", [(name, error) for name, (_, error, _) in SPOILT.items()], ids=list(SPOILT)
)
def test_a_loss_that_stays_a_tensor_is_refused_like_a_number(bad, error, make_model, make_frames):
    spoil, _, sentence = SPOILT[bad]
    pair, frames, drawn = make_model("vrnn", control_dim=2), make_frames(), []
    svi = SVI(pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), DeviceTraceMeanField_ELBO())

    def draw():
        drawn.append(1)
        batch = frames, torch.ones(5, 3, 2)
        return batch if len(drawn) < 3 else spoil(*batch)

    losses = []
    with pytest.raises(error, match=f"step 3: .*{sentence}"):
        for _, loss in training_steps(svi, draw, num_steps=9):
            losses.append(loss)
    assert [type(loss) for loss in losses] == [float, float]


def test_an_infinite_loss_with_a_finite_gradient_changes_nothing():
    """A term that is infinite and constant: a user's factor, an impossible observation."""

    def model(frames):
        pyro.sample("x", Normal(pyro.param("mean", torch.tensor(0.0)), 1.0), obs=torch.tensor(1.0))
        pyro.factor("impossible", torch.tensor(-math.inf))

    svi = SVI(model, lambda frames: None, FusedAdam(lr=0.01), TraceMeanField_ELBO())
    with pytest.raises(NonFiniteLossError):
        list(training_steps(svi, draw, num_steps=3))
    assert pyro.param("mean").item() == 0.0


def test_parameters_that_are_not_finite_are_named_in_the_first_step(make_model, make_frames):
    """A run saved after it diverged: Pyro's validation would speak of a distribution's argument."""
    pair, frames = make_model("vrnn"), make_frames()
    svi = learner(pair)
    list(training_steps(svi, lambda: (frames, None), num_steps=1))
    with torch.no_grad():
        pair.program.prior_head.hidden.weight.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="step 2: a parameter is not finite"):
        list(training_steps(svi, lambda: (frames, None), start=1, num_steps=3))
