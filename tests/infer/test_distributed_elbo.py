"""Several processes that train one model: the steps of one process with all their sequences.

Processes are forked here; ``experiments/cli/test_ranks.py`` has ``torchrun`` itself.
"""

from __future__ import annotations

import math
import sys

import pyro
import pytest
import torch
from pyro.infer import SVI
from torch.overrides import TorchFunctionMode

from pyro_gtm.handlers import FilteringGuide
from pyro_gtm.infer import (
    CapturedSVI,
    DeviceTrace_ELBO,
    DeviceTraceMeanField_ELBO,
    DistributedELBO,
    FusedAdam,
    InvalidFramesError,
    LearningRate,
    NonFiniteLossError,
    training_steps,
)
from pyro_gtm.infer.ranks import ALONE, Ranks

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

STEPS, T, B = 50, 5, 3
BOUNDS = {"trace": DeviceTrace_ELBO, "mean-field": DeviceTraceMeanField_ELBO}


class NoiseOf(TorchFunctionMode):
    """The noise that some ranks draw, beside each other along the batch as their sequences are."""

    def __init__(self, ranks):
        super().__init__()
        self.generators = [torch.Generator().manual_seed(100 + rank) for rank in ranks]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.Tensor.normal_:
            return func(*args, **(kwargs or {}))
        *batch, sequences, size = args[0].shape
        shape = (*batch, sequences // len(self.generators), size)
        parts = [torch.randn(shape, generator=one) for one in self.generators]
        return args[0].copy_(torch.cat(parts, dim=-2))


class Draws:
    """Frames ``(T, size * B, 1, 5, 5)``, of which a rank takes its share."""

    def __init__(self, ranks, size):
        self.ranks, self.size = ranks, size
        self.generator = torch.Generator().manual_seed(5)
        self.spoil = lambda step, frames: frames
        self.step = 0

    def __call__(self):
        self.step += 1
        frames = torch.rand(T, self.size * B, 1, 5, 5, generator=self.generator).round()
        return (self.ranks.share(self.spoil(self.step, frames)),)


def learner(model, ranks, bound="trace", clip_norm=10.0, kind=SVI, **options):
    elbo = BOUNDS[bound]()
    if ranks.size > 1:
        elbo = DistributedELBO(elbo, ranks)
    optimizer = FusedAdam(lr=0.01, clip_norm=clip_norm)
    return kind(model.model(), model.filtering_guide(), optimizer, elbo, **options)


def weights():
    store = pyro.get_param_store()
    return {name: value.detach().clone() for name, value in store.items()}


def at_first(model):
    """The parameters before the first step."""
    model.model()(torch.zeros(T, B, 1, 5, 5))
    before = weights()
    pyro.clear_param_store()
    return before


def greatest_difference(one, other):
    assert one.keys() == other.keys() and one
    return max((one[name] - other[name]).abs().max().item() for name in one)


def trained(model, ranks, noise_of, draws, bound="trace", clip_norm=10.0, steps=STEPS):
    """Losses, the norm of the last gradient, and parameters after some steps."""
    svi = learner(model, ranks, bound, clip_norm)
    rate = LearningRate(0.01, num_steps=steps, warmup=5, schedule="cosine")
    with NoiseOf(noise_of):
        taken = training_steps(
            svi, draws, num_steps=steps, kl_annealing=steps // 2, learning_rate=rate
        )
        losses = [loss for _, loss in taken]
    return losses, svi.optim.gradient_norm, weights()


@pytest.mark.parametrize(
    ("memory", "bound", "clip_norm"),
    [("introspective", "trace", 10.0), ("associative", "mean-field", None), ("vrnn", "trace", 1e9)],
)
def test_two_ranks_take_the_steps_of_one_process_with_twice_the_batch(
    memory, bound, clip_norm, make_model, in_ranks, float64
):
    """Loss, gradient's norm and every parameter after 50 steps: clipped, and not."""
    model = make_model(memory)
    before = at_first(model)
    told = in_ranks(
        lambda ranks: trained(model, ranks, [ranks.rank], Draws(ranks, 2), bound, clip_norm)
    )
    losses, norm, alone = trained(model, ALONE, [0, 1], Draws(ALONE, 2), bound, clip_norm)
    for its_losses, its_norm, its in told:
        assert its_losses == pytest.approx(losses, rel=1e-9)
        assert its_norm == pytest.approx(norm, rel=1e-6)
        assert greatest_difference(its, alone) < 1e-6
    assert greatest_difference(told[0][2], told[1][2]) == 0, "ranks never drift apart"
    assert greatest_difference(alone, before) > 0.1, "they had far to go"


def test_other_sequences_or_other_noise_would_be_noticed(make_model, in_ranks, float64):
    """That the equality above is no accident: it fails where ranks share what they must not."""
    model = make_model("vrnn")

    def same_noise(ranks):
        return trained(model, ranks, [0], Draws(ranks, 2), steps=3)[2]

    def same_sequences(ranks):
        return trained(model, ranks, [ranks.rank], Draws(ALONE, 1), steps=3)[2]

    told = [in_ranks(same_noise)[0], in_ranks(same_sequences)[0]]
    alone = trained(model, ALONE, [0, 1], Draws(ALONE, 2), steps=3)[2]
    assert all(greatest_difference(one, alone) > 1e-4 for one in told)


def test_three_ranks(make_model, in_ranks, float64):
    model = make_model("vrnn")
    told = in_ranks(lambda ranks: trained(model, ranks, [ranks.rank], Draws(ranks, 3))[2], size=3)
    alone = trained(model, ALONE, [0, 1, 2], Draws(ALONE, 3))[2]
    assert all(greatest_difference(one, alone) < 1e-6 for one in told)


@pytest.mark.filterwarnings("ignore::pyro_gtm.infer.captured.NotCapturedWarning")
def test_the_step_that_can_be_captured_is_the_same(make_model, in_ranks, float64):
    """On the CPU it is taken, not captured."""
    model = make_model("vrnn")

    def in_blocks(ranks):
        svi = learner(model, ranks, kind=CapturedSVI, device="cpu", read_every=4)
        with NoiseOf([ranks.rank] if ranks.size > 1 else [0, 1]):
            losses = [loss for _, loss in training_steps(svi, Draws(ranks, 2), num_steps=10)]
        return losses, weights()

    told, (losses, alone) = in_ranks(in_blocks), in_blocks(ALONE)
    for its_losses, its in told:
        assert its_losses == pytest.approx(losses, rel=1e-9)
        assert greatest_difference(its, alone) < 1e-6


def test_all_begin_with_the_first_ones_parameters(make_model, in_ranks, float64):
    """Those that a step makes by itself too, with random numbers of its own."""
    model = make_model("vrnn")
    program = model.model()

    def with_offset(frames):
        offset = pyro.param("offset", lambda: torch.randn(3))
        pyro.factor("regularization", -offset.square().sum())
        return program(frames)

    def two_steps(ranks):
        torch.manual_seed(ranks.rank)
        for parameter in model.modules().parameters():
            parameter.data.add_(0.01 * ranks.rank)
        elbo = DistributedELBO(DeviceTrace_ELBO(), ranks)
        svi = SVI(with_offset, FilteringGuide(with_offset), FusedAdam(lr=1e-6), elbo)
        list(training_steps(svi, Draws(ranks, 2), num_steps=2))
        return weights()

    first, second = in_ranks(two_steps)
    assert greatest_difference(first, second) == 0
    mine = {name: value for name, value in model.modules().named_parameters()}
    its = {name.replace("$$$", "."): value for name, value in first.items()}
    torch.manual_seed(0)
    assert greatest_difference(its, {**mine, "offset": torch.randn(3)}) < 1e-4


def bad_frames(value, rank, step):
    def spoil(now, frames):
        if now == step:
            frames[0, rank * B] = value
        return frames

    return spoil


@pytest.mark.parametrize("step", [1, 4])
def test_frames_without_a_density_in_one_rank_stop_all_in_that_step(
    step, make_model, in_ranks, float64
):
    """In the first, Pyro's validation raises in that rank alone; no other waits for it."""
    model = make_model("vrnn")

    def stopped(ranks):
        draws = Draws(ranks, 2)
        draws.spoil = bad_frames(7.0, 1, step)
        try:
            list(training_steps(learner(model, ranks), draws, num_steps=6))
        except (InvalidFramesError, NonFiniteLossError) as error:
            return error.step, weights(), type(error).__name__
        return None

    (at, first, _), (also_at, second, kind) = in_ranks(stopped)
    assert at == also_at == step and kind == "InvalidFramesError"
    if step > 1:
        assert greatest_difference(first, second) == 0, "parameters are those of the step before"


def test_a_loss_that_is_nan_in_one_rank_stops_all(make_model, in_ranks, float64, monkeypatch):
    model = make_model("vrnn")

    def stopped(ranks):
        svi = learner(model, ranks)
        own, calls = svi.loss_and_grads.__self__.elbo.loss_and_grads, []

        def spoilt(*args):
            calls.append(1)
            return own(*args) * (math.nan if ranks.rank == 1 and len(calls) == 3 else 1.0)

        svi.loss_and_grads.__self__.elbo.loss_and_grads = spoilt
        try:
            list(training_steps(svi, Draws(ranks, 2), num_steps=6))
        except NonFiniteLossError as error:
            return str(error)
        return None

    assert in_ranks(stopped) == ["training stopped in step 3: the loss is nan"] * 2


def test_alone_nothing_is_said_to_anybody():
    ones = torch.ones(2)
    ALONE.sum_([ones])
    assert ALONE.first and ones.tolist() == [1, 1] and ALONE.share(ones) is ones
    assert (ALONE.gather("a"), ALONE.greatest(3), ALONE.from_first(lambda: 4)) == (["a"], 3, 4)
    assert not ALONE.broadcast_([ones]) and Ranks.here() == ALONE
