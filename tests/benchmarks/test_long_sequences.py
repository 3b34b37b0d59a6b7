"""Long sequences with checkpoints: what is measured, and what it must show."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pyro
import pytest
import torch
from click.testing import CliRunner

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(FOLDER))  # where a script finds the modules beside it
SPEC = importlib.util.spec_from_file_location("long_sequences", FOLDER / "long_sequences.py")
long_sequences = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(long_sequences)
First = long_sequences.First

SMALL = long_sequences.Sizes(latent=2, width=8, hidden=4, slots=3, heads=1)
TINY = "-T 4 -b 1 --width 4 --hidden-dim 3 --latent-dim 2 --slots 2 --heads 1 --turns 1"


def build(name):
    pyro.set_rng_seed(0)
    return long_sequences.build_product(name, True, SMALL)


def draw(num_steps, batch_size):
    return (torch.rand(num_steps, batch_size, *long_sequences.EVENT) > 0.8).float()


def test_checkpoints_keep_the_loss_and_save_memory(memory_name):
    """A batch large beside the weights, so that what is saved can be seen."""
    firsts, times = long_sequences.measure(memory_name, build(memory_name), draw(9, 32), [3], 1)
    assert firsts[3].loss == pytest.approx(firsts[0].loss, rel=1e-5)
    assert firsts[3].peak < 0.7 * firsts[0].peak
    assert [len(seconds) for seconds in times.values()] == [1, 1]


@pytest.mark.parametrize(("every", "decoder", "controller"), [(0, 1, 6), (2, 3 + 3, 1 + 6 + 6)])
def test_program_and_recurrence_are_run_again_in_blocks(every, decoder, controller):
    product = build("vrnn")
    calls = []
    product.program.decoder.register_forward_pre_hook(lambda *_: calls.append("decoder"))
    product.memory.controller.register_forward_pre_hook(lambda *_: calls.append("controller"))
    long_sequences.build_step(product, every, "counted")(draw(6, 2))
    assert (calls.count("decoder"), calls.count("controller")) == (decoder, controller)


def test_each_step_trains_a_copy_of_the_same_weights():
    product = build("vrnn")
    before = [weight.clone() for weight in product.modules().parameters()]
    long_sequences.build_step(product, 0, "trained")(draw(6, 2))
    assert all(
        weight.equal(old)
        for weight, old in zip(product.modules().parameters(), before, strict=True)
    )
    assert {name.split("$")[0] for name in pyro.get_param_store()} == {
        "trained",
        "memory of trained",
    }


def test_the_peak_leaves_weights_and_moments_out():
    kept = []

    def step(frames):
        if not kept:
            kept.append(torch.ones(2 * 256))  # moments of weights of 1024 bytes
        torch.ones(128)
        return 1.5

    assert long_sequences.take_first(step, torch.ones(1), 1024) == First(1.5, 512)


def test_a_line_for_each_way_with_its_ratios():
    firsts = {0: First(-200.0, 10 * 2**20), 8: First(-201.0, 2 * 2**20)}
    first, second = long_sequences.table("dnc", firsts, {0: [1.0, 2.0], 8: [1.5, 3.0]}).splitlines()
    assert first.split() == ["dnc", "kept", "10.0", "1.0", "1.50", "1.00", "0.0e+00"]
    assert second.split() == ["8", "2.0", "5.0", "2.25", "1.50", "5.0e-03"]


def test_the_default_is_the_root_of_the_length():
    result = CliRunner().invoke(long_sequences.main, [*TINY.split(), "--memory", "vrnn"])
    assert result.exit_code == 0, result.output
    assert [line.split()[-6] for line in result.output.splitlines()[2:]] == ["kept", "2"]


def test_every_length_asked_for_is_shown_once():
    arguments = "--memory lru --checkpoint-every 3 --checkpoint-every 1 --checkpoint-every 3"
    result = CliRunner().invoke(long_sequences.main, [*TINY.split(), *arguments.split()])
    assert result.exit_code == 0, result.output
    assert [line.split()[-6] for line in result.output.splitlines()[2:]] == ["kept", "1", "3"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory none", "'none' is not one of"),
        ("--checkpoint-every 0", "0 is not in the range x>=1"),
        ("-T 1", "1 is not in the range x>=2"),
        ("--memory lru --heads 3", "slots must be at least heads=3"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(arguments, words):
    result = CliRunner().invoke(long_sequences.main, [*TINY.split(), *arguments.split()])
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]
