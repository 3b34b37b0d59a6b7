"""Hand-written contestants compute what the library computes; the table shows what was timed."""

from __future__ import annotations

import importlib.util
import shlex

import pyro
import pytest
import torch
from click.testing import CliRunner
from pyro.infer import TraceMeanField_ELBO

import pyro_gtm as gtm
import step_time
from common import measure
from contestants import models, roofline, turns
from contestants.models import EVENT, PIXELS
from handwritten import MEMORIES, Networks, Sizes, negative_elbo

SMALL = "--turns 1 -T 3 -b 2 --width 4 --hidden-dim 4 --latent-dim 2 --slots 3"
TINY = Sizes(latent_dim=2, width=4, hidden_dim=4, slots=3, heads=2)
IN_PYTORCH = ["hand-written", "stacked", "per step", "bfloat16"]
IN_PYTORCH += ["checkpointed, 32", "naive pair", "naive pair, validated"]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "slots", "num_steps"),
    # Fewer slots than steps, so that slots are used again; and more than have logits of their own.
    [*((name, 4, 9) for name in MEMORIES), ("associative", 130, 132)],
)
def test_hand_written_equals_ours(name, slots, num_steps):
    sizes = Sizes(latent_dim=3, width=7, hidden_dim=6, slots=slots, heads=2)
    product, networks = models.build_product(name, sizes), Networks(name, PIXELS, sizes)
    models.copy_weights(product, networks)
    frames = torch.rand(num_steps, 3, *EVENT).round()

    pyro.set_rng_seed(1)
    expected = negative_elbo(networks, frames.flatten(2))
    theirs = dict(networks.named_parameters())
    theirs = dict(zip(theirs, torch.autograd.grad(expected, list(theirs.values())), strict=True))

    pyro.set_rng_seed(1)
    model = gtm.use_memory(product.memory)(product.program.model)
    guide = gtm.FilteringGuide(model)
    loss = TraceMeanField_ELBO().differentiable_loss(model, guide, frames)
    ours = product.weights()
    ours = dict(zip(ours, torch.autograd.grad(loss, list(ours.values())), strict=True))

    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=0)
    ours = models.as_hand_written(ours)
    ours["memory.cell.bias_hh"] = ours["memory.cell.bias_ih"]
    assert ours.keys() == theirs.keys()
    for parameter, gradient in ours.items():
        # A key's bias adds the same to all logits of a head: its gradient is zero, rounding aside.
        size = theirs[parameter.replace("key.bias", "key.weight")].norm().item()
        assert size > 0, parameter
        torch.testing.assert_close(
            gradient, theirs[parameter], rtol=1e-8, atol=1e-8 * size, msg=parameter
        )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A machine that need not be measured, and settings of PyTorch as they were."""
    monkeypatch.setattr(roofline, "measure", lambda device: roofline.Machine(1e9, 1e9))
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    for variable in ("PJRT_NPROC", "XLA_PYTHON_CLIENT_PREALLOCATE"):
        monkeypatch.setenv(variable, "")  # so that it is put back
        monkeypatch.delenv(variable)
    yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)


def run(arguments, *labels):
    """The command's result, with these contestants."""
    chosen = [word for label in labels for word in ("--contestant", label)]
    return CliRunner().invoke(step_time.main, [*shlex.split(arguments), *chosen])


def labels_of(output):
    return [
        line[:24].strip() for line in output.splitlines() if line.startswith(tuple(step_time.NAMES))
    ]


def test_each_memory_is_timed_once():
    result = run(f"--memory vrnn --memory ntm --memory vrnn {SMALL}", *IN_PYTORCH)
    assert result.exit_code == 0, result.output
    assert labels_of(result.output) == 2 * IN_PYTORCH
    headings = [line.split(",")[0] for line in result.output.splitlines() if ", roofline" in line]
    assert headings == ["vrnn", "ntm"]


def test_numbers_of_a_row():
    times = {"hand-written": [0.5, 1.0, 3.0], "stacked": [0.7, 2.0, 3.0]}
    peaks = {"hand-written": 2**20, "stacked": 3 * 2**20}
    header, first, second = step_time.table(times, peaks, least=0.25).splitlines()
    assert header == step_time.HEADER
    numbers = first.removeprefix("hand-written").split()
    assert numbers == ["1000.0", "1.00", "277.8", "1.00", "-", "0.71", "1.0", "4.0"]
    numbers = second.removeprefix("stacked").split()
    assert numbers == ["2000.0", "0.50", "555.6", "1.40", "-", "1.00", "3.0", "8.0"]


def test_a_ratio_is_taken_turn_by_turn():
    assert measure.ratio([2.0, 30.0, 4.0], [1.0, 15.0, 1.0]) == 2.0


def test_scan_takes_part():
    pytest.importorskip("jax", reason="needs the extra 'benchmark': JAX is not installed")
    result = run(f"--memory vrnn {SMALL} --matmul-precision high", "XLA scan")
    assert result.exit_code == 0, result.output
    assert labels_of(result.output) == ["XLA scan"]


def test_without_jax_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run(f"--memory vrnn {SMALL}", "stacked", "XLA scan")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == (
        "No XLA scan: JAX is not installed; it comes with pip install -e '.[benchmark]'."
    )
    assert labels_of(result.output) == ["stacked"]


def test_settings_of_pytorch_are_as_asked():
    result = run(f"--memory vrnn {SMALL} --threads 2 --matmul-precision medium", "stacked")
    assert result.exit_code == 0, result.output
    assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_num_threads() == 2
    assert "2 threads, wall clock, matmul precision medium" in result.output


def test_profile_shows_the_operators_of_each_contestant():
    result = run(f"--memory vrnn {SMALL} --profile", "hand-written", "stacked")
    assert result.exit_code == 0, result.output
    assert "vrnn, hand-written:\n" in result.output and "vrnn, stacked:\n" in result.output
    assert result.output.count("Self CPU time total") == 2


def test_work_is_that_of_the_products_and_of_what_is_touched():
    """Counted by hand for the VRNN; backward is twice forward but for what needs no gradient."""
    t, b, z, w, h = 3, 2, 5, 7, 6
    networks = Networks("vrnn", PIXELS, Sizes(z, w, h, slots=1, heads=1))
    frames = torch.rand(t, b, PIXELS).round()
    first = PIXELS * w
    encoder = first + w * w
    decoder = (z + h) * w + w * w + w * PIXELS
    heads = 2 * (h * w + w * 2 * z)
    lstm = (z + h) * 4 * h
    every = t * b * (encoder + decoder + heads + lstm)
    unneeded = t * b * first + b * (z + h) * 4 * h  # to frames, and to the first h and z
    work = roofline.count(networks, frames)
    assert work.operations == 2 * (3 * every - unneeded)
    weights = 4 * sum(weight.numel() for weight in networks.parameters())
    kept = work.traffic - 11 * weights - 3 * frames.nbytes
    # At the least the hidden layers, the logits, the latents and the contexts are kept.
    least = 2 * 4 * t * b * (5 * w + PIXELS + z + h)
    assert least < kept < 4 * least
    assert all(weight.grad is None for weight in networks.parameters())


def test_roofline_is_the_longer_of_the_two():
    work = roofline.Work(operations=600, traffic=230)
    assert roofline.least_time(work, roofline.Machine(100.0, 23.0)) == 10.0
    assert roofline.least_time(work, roofline.Machine(10.0, 23.0)) == 60.0


def test_peak_is_what_lives_at_once_and_not_what_was_there():
    """Two tensors live together, a third after them; the weights' moments do not count."""
    module = torch.nn.Linear(1000, 100, bias=False)
    moments = []

    def step(frames):
        if not moments:
            moments.extend([torch.zeros(100, 1000), torch.zeros(100, 1000)])
        one, other = torch.ones(200_000), torch.ones(300_000)
        del one, other
        return float(torch.ones(400_000)[0])

    contestant = turns.TorchContestant(step, module)
    assert contestant.peak(torch.zeros(1), before=0) == pytest.approx(4 * 500_000, rel=0.001)


@pytest.mark.thinned(6)
@pytest.mark.parametrize("memory", step_time.MEMORIES)
def test_checkpoints_keep_the_loss_and_save_memory(memory):
    """Sequences of three blocks, in a batch that is large beside the weights."""
    setup = step_time.Setup(memory, TINY, 96, 16, torch.device("cpu"))
    product, networks = setup.build()
    frames = setup.draw()
    losses, peaks = [], []
    for label in ("stacked", "checkpointed, 32"):
        contestant = setup.contestant(label, product, networks)
        pyro.set_rng_seed(1)
        losses.append(contestant.step(frames))
        peaks.append(contestant.peak(frames, before=0))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert peaks[1] < 0.6 * peaks[0]


def test_scan_plans_room_for_the_logits():
    pytest.importorskip("jax", reason="needs the extra 'benchmark': JAX is not installed")
    from contestants.scan import ScanContestant

    scan = ScanContestant("vrnn", Networks("vrnn", PIXELS, TINY), TINY, torch.device("cpu"))
    frames = torch.rand(30, 20, *EVENT)
    assert frames.nbytes < scan.peak(scan.prepare(frames), before=0) < 5 * frames.nbytes


def test_contestants_begin_with_the_same_weights():
    """Logits that are 2 everywhere, nearly, make a loss that no fresh weights would give."""
    setup = step_time.Setup("ntm", TINY, 3, 2, torch.device("cpu"))
    product, networks = setup.build()
    with torch.no_grad():
        product.weights()["program.decoder.layers.4.bias"].fill_(2.0)
    models.copy_weights(product, networks)
    frames = setup.draw()
    twos = torch.full_like(frames, 2.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(twos, frames, reduction="sum")
    for label in IN_PYTORCH:
        loss = setup.contestant(label, product, networks).step(frames)
        assert loss == pytest.approx(expected.item(), rel=0.05), label


def test_those_that_take_long_are_only_asked_for():
    assert step_time.in_order(None, None, ()) == [
        "hand-written",
        "XLA scan",
        "stacked",
        "per step",
        "bfloat16",
        "captured",
        "naive pair",
        "naive pair, validated",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory mine", "'mine' is not one of"),
        ("--turns 0", "0 is not in the range x>=1"),
        ("-T 0", "0 is not in the range x>=1"),
        ("--contestant fastest", "'fastest' is not one of"),
        ("--threads 0", "0 is not in the range x>=1"),
        ("--matmul-precision low", "'low' is not one of"),
        ("--memory lru --slots 2 --heads 3", "slots must be at least heads=3"),
        ("--device abacus", "abacus"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(arguments, words):
    result = run(arguments)
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]
    assert "ms a step" not in result.output
