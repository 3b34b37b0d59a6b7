"""The hand-written contestants compute what the library computes; bad options are refused."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pyro
import pytest
import torch
from click.testing import CliRunner
from pyro.infer import TraceMeanField_ELBO

import pyro_gtm as gtm

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(FOLDER))  # where a script finds the modules beside it
SPEC = importlib.util.spec_from_file_location("step_time", FOLDER / "step_time.py")
step_time = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(step_time)
from contestants import floor, measure, models, parts, steps  # noqa: E402

HAND_WRITTEN = sorted(step_time.MEMORIES)


def test_every_memory_of_the_library_has_a_counterpart():
    ours = {
        name
        for name in gtm.memory_names()
        if gtm.memory.registry.memory_class(name).__module__.startswith("pyro_gtm.")
    }
    assert set(HAND_WRITTEN) == ours


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("corrects", [True, False], ids=["correction", "direct"])
@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_hand_written_equals_ours(name, corrects):
    """With fewer slots than steps, so that slots are used again."""
    sizes = models.Sizes(latent=3, width=7, hidden=6, slots=4, heads=2)
    product = models.build_product(name, corrects, sizes)
    networks = models.build_networks(name, corrects, sizes)
    models.copy_weights(product, networks)
    frames = torch.rand(9, 3, *models.EVENT).round()

    pyro.set_rng_seed(1)
    expected = steps.negative_bound(networks, frames.flatten(2))
    theirs = dict(networks.named_parameters())
    theirs = dict(zip(theirs, torch.autograd.grad(expected, list(theirs.values())), strict=True))

    pyro.set_rng_seed(1)
    model = gtm.use_memory(product.memory)(product.program.model)
    guide = gtm.FilteringGuide(model, product.program)
    loss = TraceMeanField_ELBO().differentiable_loss(model, guide, frames)
    ours = product.weights()
    ours = dict(zip(ours, torch.autograd.grad(loss, list(ours.values())), strict=True))

    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=0)
    ours = models.as_hand_written(ours)
    ours["memory.cell.bias_hh"] = ours["memory.cell.bias_ih"]
    assert ours.keys() == theirs.keys()
    for parameter, gradient in ours.items():
        size = theirs[parameter].norm().item()
        assert size > 0, parameter
        torch.testing.assert_close(
            gradient, theirs[parameter], rtol=1e-8, atol=1e-8 * size, msg=parameter
        )


SMALL = "--turns 1 -T 3 -b 2 --width 4 --hidden-dim 4 --latent-dim 2"
IN_PYTORCH = ["hand-written", "stacked", "per step", "naive pair", "naive pair, validated"]
NO_SCAN = " ".join(f'--contestant "{label}"' for label in IN_PYTORCH)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A machine that need not be measured, and settings of PyTorch as they were."""
    monkeypatch.setattr(floor, "measure", lambda device: floor.Machine(1e9, 1e9))
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    for variable in ("PJRT_NPROC", "XLA_PYTHON_CLIENT_PREALLOCATE"):
        monkeypatch.setenv(variable, "")  # so that it is put back
        monkeypatch.delenv(variable)
    yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)


def run(arguments):
    return CliRunner().invoke(step_time.main, shlex.split(arguments))


def rows_of(output):
    """Of the table: memory, contestant, and the numbers."""
    _, header, *lines = output.splitlines()
    assert header == step_time.HEADER
    rows = [line for line in lines if not line.strip().startswith("floor")]
    return [(row[:15].strip(), row[15:39].strip(), row[39:].split()) for row in rows]


def test_each_memory_is_timed_once():
    result = run(f"--memory vrnn --memory ntm --memory vrnn {SMALL} {NO_SCAN}")
    assert result.exit_code == 0, result.output
    rows = rows_of(result.output)
    assert [name for name, _, _ in rows if name] == ["vrnn", "ntm"]
    assert [label for _, label, _ in rows] == 2 * IN_PYTORCH


def test_numbers_of_a_row_fit_each_other():
    """With one turn a ratio is that of the times, and the floor that of the line above."""
    result = run(f"--memory vrnn {SMALL} {NO_SCAN}")
    (_, _, reference), *others, pair, _ = rows_of(result.output)
    least = float(re.search(r"floor (\S+) ms", result.output)[1])
    for _, _, (ms, to_reference, to_pair, to_scan, peak, multiple) in others:
        assert float(to_reference) == pytest.approx(float(ms) / float(reference[0]), abs=0.1)
        assert float(to_pair) == pytest.approx(float(ms) / float(pair[2][0]), abs=0.1)
        assert to_scan == "-"
        assert float(peak) > 0
        assert float(multiple) == pytest.approx(float(ms) / least, rel=0.2, abs=0.2)


def test_scan_takes_part():
    pytest.importorskip("jax", reason="needs the extra 'benchmark': JAX is not installed")
    result = run(f"--memory vrnn {SMALL} --contestant 'XLA scan' --matmul-precision high")
    assert result.exit_code == 0, result.output
    ((_, label, numbers),) = rows_of(result.output)
    assert label == "XLA scan"
    assert [number for number in numbers if number != "-"][1] == "1.00"


def test_without_jax_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run(f"--memory vrnn {SMALL} --contestant stacked --contestant 'XLA scan'")
    assert result.exit_code == 0, result.output
    first, *others = result.output.splitlines()
    assert first == (
        "No XLA scan: JAX is not installed; it comes with pip install -e '.[benchmark]'."
    )
    assert [label for _, label, _ in rows_of("\n".join(others))] == ["stacked"]


def test_settings_of_pytorch_are_as_asked():
    result = run(
        f"--memory vrnn {SMALL} --contestant stacked --threads 2 --matmul-precision medium"
    )
    assert result.exit_code == 0, result.output
    assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_num_threads() == 2
    assert "2 threads, wall clock, matmul precision medium" in result.output


def test_profile_names_the_parts():
    result = run(f"--memory ntm {SMALL} --contestant stacked --profile")
    assert result.exit_code == 0, result.output
    table, operators = result.output.split("under the profiler")[1].split("\n\n")[:2]
    shares = {line[:44].strip(): float(line[44:52].strip(" %")) for line in table.splitlines()[2:]}
    assert sum(shares.values()) == pytest.approx(100, abs=0.05 * len(shares) + 0.1)
    forward = {
        "encoder",
        "memory: controller",
        "memory: interface",
        "memory: addressing",
        "prior head",
        "posterior head",
        "decoder",
        "likelihood",
    }
    assert forward <= shares.keys()
    assert {f"backward of {part}" for part in forward} <= shares.keys()
    assert {"optimiser, with the clip", parts.REST} <= shares.keys()
    assert "aten::addmm" in operators


def test_profile_gives_every_linear_map_its_products():
    """One product forward; backward one for the weights, and one for the input if it needs one."""
    sizes = models.Sizes(latent=2, width=4, hidden=4, slots=3, heads=2)
    product = models.build_product("ntm", True, sizes)
    contestant = steps.library(product, "stacked", steps.SETTINGS["stacked"])
    frames = torch.rand(3, 2, *models.EVENT).round()
    events = parts.sort_into_parts(parts.record(product, contestant, frames))
    products = {}
    for event, part in events:
        if event.name in ("aten::mm", "aten::addmm"):
            products[part] = products.get(part, 0) + 1 / parts.STEPS
    encoder, decoder = 2, 3
    assert products["encoder"] == pytest.approx(encoder)
    assert products["backward of encoder"] == pytest.approx(2 * encoder - 1)
    assert products["decoder"] == pytest.approx(decoder)
    assert products["backward of decoder"] == pytest.approx(2 * decoder)
    assert products["memory: interface"] == pytest.approx(3)
    assert products["memory: controller"] == pytest.approx(3)
    assert products["prior head"] == pytest.approx(2 * 3)
    assert parts.REST not in products
    assert parts.ENGINE not in products


def test_operations_are_those_of_the_products():
    """Counted by hand for the VRNN; backward is twice forward but for what needs no gradient."""
    t, b, z, w, h = 3, 2, 5, 7, 6
    networks = models.build_networks("vrnn", True, models.Sizes(z, w, h, slots=1, heads=1))
    frames = torch.rand(t, b, models.PIXELS).round()
    first = models.PIXELS * w
    encoder = first + w * w
    decoder = (z + h) * w + w * w + w * models.PIXELS
    heads = 2 * (h * w + w * 2 * z)
    lstm = (z + h) * 4 * h
    every = t * b * (encoder + decoder + heads + lstm)
    unneeded = t * b * first + b * (z + h) * 4 * h  # to frames, and to the first h and z
    work = floor.count(networks, frames)
    assert work.operations == 2 * (3 * every - unneeded)
    assert work.weights == 4 * sum(weight.numel() for weight in networks.parameters())
    assert work.frames == 4 * frames.numel()
    # At the least the hidden layers, the logits, the latents and the contexts are kept.
    least = 4 * t * b * (5 * w + models.PIXELS + z + h)
    assert least < work.kept < 4 * least
    assert all(weight.grad is None for weight in networks.parameters())


def test_floor_is_the_longer_of_the_two():
    work = floor.Work(operations=600, weights=10, frames=20, kept=30)
    assert work.traffic == 11 * 10 + 3 * 20 + 2 * 30
    assert floor.floor(work, floor.Machine(100.0, 23.0)) == (6.0, 10.0)
    assert floor.floor(work, floor.Machine(100.0, 23.0)).least == 10.0
    assert floor.floor(work, floor.Machine(10.0, 23.0)).least == 60.0


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

    contestant = measure.TorchContestant(step, module)
    assert contestant.peak(torch.zeros(1), before=0) == pytest.approx(4 * 500_000, rel=0.001)


def test_scan_plans_room_for_the_logits():
    pytest.importorskip("jax", reason="needs the extra 'benchmark': JAX is not installed")
    from contestants.scan import ScanContestant

    sizes = models.Sizes(latent=2, width=4, hidden=4, slots=3, heads=2)
    networks = models.build_networks("vrnn", False, sizes)
    scan = ScanContestant("vrnn", networks, sizes, torch.device("cpu"))
    frames = torch.rand(30, 20, *models.EVENT)
    assert frames.nbytes < scan.peak(scan.prepare(frames), before=0) < 5 * frames.nbytes


def test_contestants_begin_with_the_same_weights():
    """Logits that are 2 everywhere, nearly, make a loss that no fresh weights would give."""
    sizes = models.Sizes(latent=2, width=4, hidden=4, slots=3, heads=2)
    setup = step_time.Setup("ntm", True, sizes, 3, 2, torch.device("cpu"), "highest")
    product, networks = setup.build()
    with torch.no_grad():
        product.weights()["program.decoder.layers.4.bias"].fill_(2.0)
    models.copy_weights(product, networks)
    frames = setup.draw()
    twos = torch.full_like(frames, 2.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(twos, frames, reduction="sum")
    for label in IN_PYTORCH:
        loss = step_time.build_contestant(label, setup, product, networks).step(frames)
        assert loss == pytest.approx(expected.item(), rel=0.05), label


def test_help():
    result = run("-h")
    assert result.exit_code == 0
    assert "Repeatable: dnc, introspective, lru, ntm, vrnn." in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory mine", "'mine' has no hand-written counterpart to be timed against"),
        ("--turns 0", "0 is not in the range x>=1"),
        ("-T 0", "0 is not in the range x>=1"),
        ("--contestant fastest", "'fastest' is not one of"),
        ("--threads 0", "0 is not in the range x>=1"),
        ("--matmul-precision low", "'low' is not one of"),
        ("--posterior none", "'none' is not one of"),
        ("--memory lru --slots 2 --heads 3", "slots must be at least heads=3"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(arguments, words):
    result = run(arguments)
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]
    assert "ms a step" not in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    result = run("--device cuda")
    assert result.exit_code == 2
    assert "'cuda' is not" in result.output.splitlines()[-1]


def test_a_ratio_is_taken_turn_by_turn():
    assert measure.ratio([2.0, 30.0, 4.0], [1.0, 15.0, 1.0]) == 2.0
