"""The step that is captured: what it may do, what it gives, and how a loop takes it in blocks.

There is no CUDA device in these tests (``tests/test_cuda.py`` has those).  The step itself runs on
the CPU and on PyTorch's meta device, a second device whose tensors have no values to read; and the
way from warm-up to replay is walked with a stand-in for the graph.
"""

from __future__ import annotations

import gc
import math
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from importlib import import_module

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.util import is_validation_enabled
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyro_gtm.infer import captured
from pyro_gtm.infer.captured import CapturedSVI, DeviceStep, NotCapturedWarning, ReplayGuard
from pyro_gtm.infer.check_observations import InvalidFramesError
from pyro_gtm.infer.elbo import DeviceTrace_ELBO, DeviceTraceMeanField_ELBO
from pyro_gtm.infer.learning_rate import LearningRate
from pyro_gtm.infer.optim import FusedAdam
from pyro_gtm.infer.training import NonFiniteLossError, parameters_are_current, training_steps

BOUNDS = {
    "trace": (DeviceTrace_ELBO, Trace_ELBO),
    "mean-field": (DeviceTraceMeanField_ELBO, TraceMeanField_ELBO),
}
bounds = pytest.mark.parametrize("bound", BOUNDS)
ignores_the_warning = pytest.mark.filterwarnings(
    "ignore::pyro_gtm.infer.captured.NotCapturedWarning"
)

READS = {
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}


class NoReads(TorchDispatchMode):
    """Refuses all operations that wait for a value, or that take data from device to device.

    A number that PyTorch or Pyro puts into a 0-dim tensor on the CPU is an argument, not data.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if is_tensor(leaf)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim() > 0}
        by_mask = name.startswith("index") and any(
            is_tensor(leaf) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1:2])
        )
        assert name not in READS, f"{func} reads a value"
        assert not by_mask, f"{func} has a size that depends on values"
        assert len(devices) <= 1, f"{func} goes from device to device: {devices}"
        return result


def is_tensor(leaf):
    return isinstance(leaf, torch.Tensor)


@pytest.fixture(params=["cpu", "meta"])
def device(request, monkeypatch):
    """``meta`` for a device other than the host's; the optimiser is told that it may be fused."""
    if request.param == "meta":
        for module, name in (
            ("torch.optim.optimizer", "_get_fused_kernels_supported_devices"),
            ("torch.utils._foreach_utils", "_get_foreach_kernels_supported_devices"),
        ):
            supported = [*getattr(import_module(module), name)(), "meta"]
            monkeypatch.setattr(import_module(module), name, lambda new=supported: new)
        # In place, it has nothing to say of shapes; PyTorch has it for a learning rate as a number.
        with torch.library._scoped_library("aten", "IMPL", "Meta") as library:
            library.impl("_fused_adam_.tensor_lr", lambda *args, **kwargs: None)
            yield request.param
    else:
        # PyTorch's own checks its argument, on the CPU and nowhere else.
        monkeypatch.setattr(torch.nn.functional, "one_hot", one_hot)
        yield request.param


def one_hot(index, size):
    return (index.unsqueeze(-1) == torch.arange(size)).long()


def learner(pair, bound="trace", **options):
    options = {"device": "cpu", "read_every": 4, **options}
    loss = BOUNDS[bound][0]()
    return CapturedSVI(pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), loss, **options)


class Draws:
    """Frames and controls, ``(5, 3, 1, 5, 5)`` and ``(5, 3, 2)``, from a generator of its own."""

    def __init__(self):
        self.generator, self.number = torch.Generator().manual_seed(5), 0

    def __call__(self):
        self.number += 1
        frames = torch.rand(5, 3, 1, 5, 5, generator=self.generator).round()
        return frames, torch.rand(5, 3, 2, generator=self.generator)


@pytest.fixture
def draw():
    return Draws()


def parameters_of(pair):
    return {name: value.clone() for name, value in pair.modules().state_dict().items()}


def assert_equal(one, other):
    for name in other:
        torch.testing.assert_close(one[name], other[name], rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.thinned(3)
@bounds
def test_a_step_reads_nothing_back(memory_name, layout, bound, device, make_model):
    with torch.device(device):
        pair = make_model(memory_name, layout=layout, control_dim=2)

        def draw():
            frames = torch.rand(5, 3, 1, 5, 5, device=device).round()
            return frames, torch.rand(5, 3, 2, device=device)

        step = DeviceStep(learner(pair, bound, device=device), draw, scales=True, paces=True)
        step.pace(0.01)
    pyro.enable_validation(False)
    step()  # creates the optimiser's state
    with NoReads():
        step.scale(0.5)
        step.pace(0.02)
        step()


def test_what_the_test_above_refuses():
    """It could not fail otherwise."""
    here, there = torch.ones(3), torch.ones(3, device="meta")
    for read in (
        lambda: here.sum().item(),
        lambda: bool(here.sum() > 2),
        lambda: here[here > 0],
        lambda: here.nonzero(),
        lambda: here.equal(here),
        lambda: here.unique(),
        lambda: here.to("meta"),
        lambda: there[torch.tensor([0, 1])],
    ):
        with pytest.raises(AssertionError), NoReads():
            read()


def test_steps_leave_no_graph_of_gradients_behind(make_model, draw):
    """A capture must find no node that was made on another stream."""
    pair = make_model("vrnn", control_dim=2)
    svi = learner(pair)
    step = DeviceStep(svi, draw)
    step()
    assert not svi.guide.trace.nodes
    assert all(parameter.grad is None for parameter in pair.modules().parameters())


pytestmark = pytest.mark.usefixtures("float64")


def train(pair, weights, svi, num_steps, draw=None, **options):
    """From these weights and one seed; losses, and the weights in the end."""
    pair.modules().load_state_dict(weights)
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    draw = draw or Draws()
    losses = [loss for _, loss in training_steps(svi, draw, num_steps=num_steps, **options)]
    return losses, parameters_of(pair)


@pytest.mark.thinned(2)
@bounds
def test_the_same_training_as_one_by_one(memory_name, layout, bound, make_model):
    """Losses, weights and norms, with Pyro's own bounds, through KL annealing and a schedule."""
    pair = make_model(memory_name, layout=layout, control_dim=2)
    start = parameters_of(pair)
    ours = learner(pair, bound)
    plain = SVI(pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), BOUNDS[bound][1]())
    rate = LearningRate(0.02, num_steps=9, warmup=4, schedule="cosine")
    options = {"num_steps": 9, "start": 1, "kl_annealing": 5, "learning_rate": rate}
    with pytest.warns(NotCapturedWarning):
        losses, end = train(pair, start, ours, **options)
    expected, expected_end = train(pair, start, plain, **options)
    assert ours.optim.lr == plain.optim.lr == rate(9)
    assert len(losses) == 8 and losses == pytest.approx(expected, rel=1e-11)
    assert ours.optim.gradient_norm == pytest.approx(plain.optim.gradient_norm, rel=1e-9)
    assert any(not end[name].equal(start[name]) for name in start)
    assert_equal(end, expected_end)


@ignores_the_warning
def test_a_block_ends_where_the_caller_pauses(make_model, draw):
    svi = learner(make_model("vrnn", control_dim=2))
    taken, ends = [], []
    for step, _ in training_steps(
        svi, draw, num_steps=10, start=1, pause=lambda step: step in (3, 4)
    ):
        taken.append((step, 1 + draw.number))
        if parameters_are_current(svi):
            ends.append(step)
    assert taken == [(2, 3), (3, 3), (4, 4), *((n, 8) for n in range(5, 9)), (9, 10), (10, 10)]
    assert ends == [3, 4, 8, 10]


@ignores_the_warning
def test_a_pause_finds_the_parameters_of_its_step(make_model):
    pair = make_model("vrnn", control_dim=2)
    start, found = parameters_of(pair), {}

    def pause(step):
        if step == 6:
            found.update(parameters_of(pair))
        return step == 6

    train(pair, start, learner(pair), 8, pause=pause)
    _, expected = train(pair, start, learner(pair), 6)
    assert_equal(found, expected)


@ignores_the_warning
def test_it_can_be_closed_between_any_two_steps(make_model, draw):
    svi = learner(make_model("vrnn", control_dim=2))
    with closing(training_steps(svi, draw, num_steps=20)) as steps:
        assert next(steps)[0] == 1
        assert not parameters_are_current(svi)
    assert is_validation_enabled()
    assert [step for step, _ in training_steps(svi, draw, start=4, num_steps=6)] == [5, 6]
    assert parameters_are_current(svi)


@ignores_the_warning
def test_validates_the_first_step_only(make_model, draw):
    pair, seen = make_model("vrnn", control_dim=2), []
    svi = learner(pair)

    def noting():
        seen.append(is_validation_enabled())
        return draw()

    list(training_steps(svi, noting, start=2, num_steps=8))
    assert seen == [True] + 5 * [False]
    assert is_validation_enabled()


def test_no_step_is_no_step(make_model, draw):
    svi = learner(make_model("vrnn", control_dim=2))
    assert list(training_steps(svi, draw, num_steps=3, start=3)) == []


@pytest.mark.thinned(3)
@ignores_the_warning
@pytest.mark.parametrize("first_bad", [2, 4, 5, 7])
@pytest.mark.parametrize(
    "spoil, error, sentence",
    [
        (
            lambda frames, controls: (frames * math.nan, controls),
            InvalidFramesError,
            "frames hold values outside the support of the likelihood, or NaN or infinity",
        ),
        (
            lambda frames, controls: (frames + 0.5, controls),
            InvalidFramesError,
            "frames hold values outside the support of the likelihood, or NaN or infinity",
        ),
        (
            lambda frames, controls: (frames, controls * math.nan),
            NonFiniteLossError,
            "the loss is nan",
        ),
    ],
    ids=["frames of NaN", "frames outside the support", "controls of NaN"],
)
def test_a_bad_batch_leaves_the_parameters_of_the_step_before(
    first_bad, spoil, error, sentence, make_model
):
    """Steps of its block were taken after it, on good batches, and change nothing."""
    pair = make_model("introspective", control_dim=2)
    start, taken = parameters_of(pair), []
    draw = Draws()

    def with_a_bad_one():
        frames, controls = draw()
        return spoil(frames, controls) if draw.number == first_bad else (frames, controls)

    _, expected = train(pair, start, learner(pair), first_bad - 1)
    pair.modules().load_state_dict(start)
    pyro.clear_param_store()
    pyro.set_rng_seed(1)
    with pytest.raises(error, match=f"stopped in step {first_bad}: {sentence}$") as caught:
        for step, _ in training_steps(learner(pair), with_a_bad_one, num_steps=20):
            taken.append(step)
    assert caught.value.step == first_bad
    assert taken == list(range(1, first_bad))
    assert draw.number == (4 if first_bad <= 4 else 8)
    assert_equal(parameters_of(pair), expected)


@ignores_the_warning
@pytest.mark.parametrize("bound", [DeviceTrace_ELBO, DeviceTraceMeanField_ELBO])
def test_a_bad_gradient_of_a_finite_loss_is_named(bound):
    steps = []

    def model(frames):
        mean = pyro.param("mean", torch.tensor(0.5))
        steps.append(1)
        root = (mean - mean).sqrt() if len(steps) == 3 else 0.0  # 0, of infinite slope
        pyro.sample("x", Normal(mean + root, 1.0), obs=torch.tensor(1.0))

    svi = CapturedSVI(model, lambda frames: None, FusedAdam(lr=0.01), bound(), device="cpu")
    with pytest.raises(NonFiniteLossError, match="step 3: the gradient's norm is nan"):
        list(training_steps(svi, lambda: (torch.zeros(1), None), num_steps=5))
    assert pyro.param("mean").item() == pytest.approx(0.52, abs=1e-4)  # two steps of 0.01


@ignores_the_warning
def test_parameters_that_are_not_finite_are_named_in_the_first_step(make_model, draw):
    """A run saved after it diverged: Pyro's validation would speak of a distribution's argument."""
    pair = make_model("vrnn", control_dim=2)
    svi = learner(pair)
    list(training_steps(svi, draw, num_steps=1))
    with torch.no_grad():
        pair.program.prior_head.hidden.weight.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="step 2: a parameter is not finite"):
        list(training_steps(svi, draw, start=1, num_steps=3))


def test_without_cuda_one_sentence_says_why(make_model, draw):
    svi = learner(make_model("vrnn", control_dim=2))
    with pytest.warns(NotCapturedWarning, match="one by one.*: the device is cpu") as warned:
        list(training_steps(svi, draw, num_steps=9))
    assert len(warned) == 1


class HostGenerator:
    """A generator as CUDA's are: its whole state can be exchanged."""

    device = torch.device("cpu")

    def __init__(self, generator):
        self.generator = generator
        self.get_state, self.set_state = generator.get_state, generator.set_state

    def clone_state(self):
        return self.get_state()

    graphsafe_set_state = property(lambda self: self.set_state)


class StandIn:
    """In the place of ``torch.cuda``: what is captured leaves all as it was, and can be replayed.

    Args:
        generators: whose states a step changes.
        failure: what the step raises in the capture; the end of the capture then fails as well.
    """

    def __init__(self, monkeypatch, generators, failure=None):
        self.generators, self.failure = generators, failure
        self.events, self.step = [], None
        stream = type("Stream", (), {"wait_stream": lambda *_: None})
        for name, value in (
            ("Stream", lambda device: stream()),
            ("current_stream", lambda device: stream()),
            ("stream", lambda stream: nullcontext()),
            ("CUDAGraph", lambda: self),
            ("graph", self.capturing),
        ):
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(captured, "_has_graphs", lambda device: True)
        monkeypatch.setattr(captured, "_default_generator", lambda device: generators[0])
        call = DeviceStep.__call__

        def noted(step):
            self.step = partial(call, step)
            self.events.append("step")
            call(step)
            if self.failure and "capture" in self.events:
                failure, self.failure = self.failure, None
                raise failure

        monkeypatch.setattr(DeviceStep, "__call__", noted)

    def register_generator_state(self, generator):
        assert generator in self.generators
        self.events.append("register")

    @contextmanager
    def capturing(self, graph, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        self.events.append("capture")
        before = [(tensor, tensor.detach().clone()) for tensor in all_tensors()]
        states = [generator.get_state() for generator in self.generators]
        try:
            yield
            for generator, state in zip(self.generators, states, strict=True):
                generator.set_state(state)
        except RuntimeError:  # the generators stay as they are: spoilt, until set anew
            raise RuntimeError("the capture is spoilt")  # noqa: B904  (as its end does)
        finally:
            for tensor, value in before:
                tensor.data.copy_(value)

    def replay(self):
        self.events.append("replay")
        self.step()


def all_tensors():
    """All that a step might change, whatever it belongs to; of views, what they look at."""
    tensors = [found for found in gc.get_objects() if type(found) in (torch.Tensor, nn.Parameter)]
    return [tensor for tensor in tensors if tensor.is_contiguous()]


@pytest.fixture
def stand_in(monkeypatch):
    """Makes a stand-in for CUDA's graphs, and a learner on its generators."""

    def make(pair, draw, failure=None, device_noise=True):
        generators = [HostGenerator(torch.default_generator), HostGenerator(draw.generator)]
        if device_noise:  # the noise comes from the CPU here, and is not to be found there
            monkeypatch.setattr(torch, "get_rng_state", lambda: torch.zeros(1))
        cuda = StandIn(monkeypatch, generators, failure)
        return cuda, learner(pair, generators=generators[1:])

    return make


@pytest.mark.parametrize("memory_name", ["vrnn", "dnc"])
def test_warm_up_capture_and_replay_are_one_training(memory_name, make_model, stand_in):
    """No step is lost or taken twice on the way, nor a random number."""
    pair = make_model(memory_name, control_dim=2)
    start = parameters_of(pair)
    plain = SVI(pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), Trace_ELBO())
    options = {"num_steps": 11, "kl_annealing": 7}
    expected, expected_end = train(pair, start, plain, **options)
    draw = Draws()
    cuda, svi = stand_in(pair, draw)
    losses, end = train(pair, start, svi, draw=draw, **options)
    assert cuda.events == [*3 * ["step"], "register", "capture", "step", *8 * ["replay"]]
    assert losses == pytest.approx(expected, rel=1e-11)
    assert_equal(end, expected_end)


def test_what_is_captured_checks_no_distribution(make_model, stand_in):
    """Validation reads values; it may be on in the first warm-up step."""
    pair, draw, seen = make_model("vrnn", control_dim=2), Draws(), []
    cuda, svi = stand_in(pair, draw)

    def noting():
        seen.append((list(cuda.events[-2:]), is_validation_enabled()))
        return draw()

    list(training_steps(svi, noting, num_steps=4))
    assert [enabled for _, enabled in seen[:4]] == [True, False, False, False]
    assert seen[3][0] == ["capture", "step"]


def test_a_capture_that_fails_is_named_and_training_goes_on(make_model, stand_in):
    pair = make_model("vrnn", control_dim=2)
    start = parameters_of(pair)
    plain = SVI(pair.model(), pair.filtering_guide(), FusedAdam(lr=0.01), Trace_ELBO())
    expected, expected_end = train(pair, start, plain, 9)
    draw = Draws()
    cuda, svi = stand_in(pair, draw, RuntimeError("operation not permitted\nCUDA says more"))
    with pytest.warns(NotCapturedWarning) as warned:
        losses, end = train(pair, start, svi, 9, draw)
    (warning,) = warned
    assert str(warning.message).endswith("the capture failed: operation not permitted")
    assert "replay" not in cuda.events
    assert losses == pytest.approx(expected, rel=1e-11)
    assert_equal(end, expected_end)


def test_other_errors_of_a_step_are_the_users(make_model, stand_in):
    pair, draw = make_model("vrnn", control_dim=2), Draws()
    _, svi = stand_in(pair, draw, KeyError("mine"))
    with pytest.raises(KeyError, match="mine"):
        list(training_steps(svi, draw, num_steps=9))


class TestWhatCannotBeReplayed:
    """Is found in the warm-up, and taken one by one: each batch that is drawn is trained on."""

    def check(self, pair, stand_in, draw, source, reason, **options):
        cuda, svi = stand_in(pair, source, **options)
        with pytest.warns(NotCapturedWarning, match=reason) as warned:
            steps = list(training_steps(svi, draw, num_steps=7))
        assert len(warned) == 1 and len(steps) == 7
        assert cuda.events == 7 * ["step"]

    def test_batches_of_changing_shape(self, make_model, stand_in):
        draws = Draws()

        def draw():
            frames, controls = draws()
            return frames[: 3 + draws.number % 2], controls[: 3 + draws.number % 2]

        reason = r"draw changes the shape of its batches, frames of \(3, .* after \(4,"
        self.check(make_model("vrnn", control_dim=2), stand_in, draw, draws, reason)

    def test_controls_now_and_then(self, make_model, stand_in):
        draws = Draws()

        def draw():
            frames, _ = draws()
            return frames, None if draws.number < 3 else torch.zeros(5, 3, 0)

        reason = "draw gives controls in some steps only"
        self.check(make_model("vrnn"), stand_in, draw, draws, reason)

    def test_batches_from_a_list(self, make_model, stand_in):
        batches = iter([Draws()(), *(Draws.__call__(d) for d in 7 * [Draws()])])
        reason = "draw gives other frames without a random number"
        # The first two are the same batch.
        self.check(
            make_model("vrnn", control_dim=2), stand_in, lambda: next(batches), Draws(), reason
        )

    def test_noise_from_the_host(self, make_model, stand_in):
        draws, reason = Draws(), "it draws random numbers on the CPU"
        pair = make_model("vrnn", control_dim=2)
        self.check(pair, stand_in, draws, draws, reason, device_noise=False)


def test_a_batch_that_is_always_the_same_can_be_replayed():
    batch = Draws()()
    watch = ReplayGuard(lambda: batch, [torch.Generator()])
    for _ in range(3):
        frames, controls, mask = watch()
        assert frames is batch[0] and controls is batch[1] and mask is None
    assert watch.objection is None


def test_random_batches_can_be_replayed():
    draw = Draws()
    watch = ReplayGuard(draw, [torch.Generator(), draw.generator])
    for _ in range(3):
        watch()
    assert watch.objection is None


def test_arguments_that_cannot_be_are_named(make_model):
    pair = make_model("vrnn")
    programs = pair.model(), pair.filtering_guide()
    loss = DeviceTrace_ELBO()
    with pytest.raises(TypeError, match="loss must be a bound that reads nothing back"):
        CapturedSVI(*programs, FusedAdam(), Trace_ELBO(), device="cpu")
    with pytest.raises(TypeError, match=r"optim must be a pyro_gtm.infer.FusedAdam"):
        CapturedSVI(*programs, pyro.optim.Adam({"lr": 0.1}), loss, device="cpu")
    with pytest.raises(ValueError, match="read_every must be a positive integer, got 0"):
        CapturedSVI(*programs, FusedAdam(), loss, device="cpu", read_every=0)
    with pytest.raises(ValueError, match="generators must be on cuda, got one on cpu"):
        CapturedSVI(*programs, FusedAdam(), loss, device="cuda", generators=[torch.Generator()])
