"""The hand-written contestants compute what the library computes; bad options are refused."""

from __future__ import annotations

import importlib.util
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
    sizes = step_time.Sizes(latent=3, width=7, hidden=6, slots=4, heads=2)
    product = step_time.build_product(name, corrects, sizes)
    networks = step_time.build_networks(name, corrects, sizes)
    step_time.copy_weights(product, networks)
    frames = torch.rand(9, 3, *step_time.EVENT).round()

    pyro.set_rng_seed(1)
    expected = step_time.negative_bound(networks, frames.flatten(2))
    theirs = dict(networks.named_parameters())
    theirs = dict(zip(theirs, torch.autograd.grad(expected, list(theirs.values())), strict=True))

    pyro.set_rng_seed(1)
    model = gtm.use_memory(product.memory)(product.program.model)
    guide = gtm.FilteringGuide(model, product.program)
    loss = TraceMeanField_ELBO().differentiable_loss(model, guide, frames)
    ours = product.weights()
    ours = dict(zip(ours, torch.autograd.grad(loss, list(ours.values())), strict=True))

    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=0)
    ours = step_time.as_hand_written(ours)
    ours["memory.cell.bias_hh"] = ours["memory.cell.bias_ih"]
    assert ours.keys() == theirs.keys()
    for parameter, gradient in ours.items():
        size = theirs[parameter].norm().item()
        assert size > 0, parameter
        torch.testing.assert_close(
            gradient, theirs[parameter], rtol=1e-8, atol=1e-8 * size, msg=parameter
        )


def run(arguments):
    return CliRunner().invoke(step_time.main, arguments.split())


def test_each_memory_is_timed_once():
    result = run("--memory vrnn --memory ntm --memory vrnn --turns 1 -T 2 -b 2 --width 4")
    assert result.exit_code == 0, result.output
    _, _, *rows = result.output.splitlines()
    named = [row.split()[0] for row in rows if not row.startswith(" ")]
    assert named == ["vrnn", "ntm"]
    assert [row[15:39].strip() for row in rows[:5]] == [
        "hand-written",
        "stacked",
        "per step",
        "naive pair",
        "naive pair, validated",
    ]


def test_help():
    result = run("-h")
    assert result.exit_code == 0
    assert "dnc, introspective, lru, ntm, vrnn" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory mine", "'mine' has no hand-written counterpart to be timed against"),
        ("--turns 0", "0 is not in the range x>=1"),
        ("-T 0", "0 is not in the range x>=1"),
        ("--posterior none", "'none' is not one of"),
        ("--memory lru --slots 2 --heads 3", "slots must be at least heads=3"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(arguments, words):
    result = run(arguments)
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]
    assert "ms a step" not in result.output


def test_a_ratio_is_taken_turn_by_turn():
    assert step_time.ratio([2.0, 30.0, 4.0], [1.0, 15.0, 1.0]) == 2.0
