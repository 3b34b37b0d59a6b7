"""The table has a line for each layer, with rates that are those of its seconds."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

import products
from pyro_gtm.internals.products import through, why_not_onednn


@pytest.fixture(autouse=True)
def as_before():
    threads = torch.get_num_threads()
    with through("mkl"):
        yield
    torch.set_num_threads(threads)


def run(*arguments):
    return CliRunner().invoke(products.main, list(arguments))


def test_a_line_for_each_layer_and_what_is_chosen(monkeypatch):
    if reason := why_not_onednn():
        pytest.skip(reason)
    monkeypatch.setattr(products, "LAYERS", [(640, 784, 400), (3, 4, 5)])
    result = run("--turns", "2")
    assert result.exit_code == 0, result.output
    *_, first, second, choice = result.output.splitlines()
    assert first.startswith("(640 x 784) (784 x 400) ") and first.endswith(" yes")
    assert second.startswith("(3 x 4) (4 x 5) ") and second.endswith(" no")
    assert choice.startswith("--products auto: ")


def test_both_compute_the_same_and_what_they_should():
    if reason := why_not_onednn():
        pytest.skip(reason)
    timings = products.time_layer(40, 30, 20, turns=1)
    shapes = [(40, 20), (40, 30), (20, 30)]
    for own, other, shape in zip(*(timings[name].results for name in timings), shapes, strict=True):
        assert own.shape == shape
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_rates_and_ratio():
    results = [torch.ones(2)] * 3
    timings = {
        "mkl": products.Timing([1.0, 2.0, 1.0], results),
        "onednn": products.Timing([0.5, 1.0, 0.5], results),
    }
    numbers = products.line(1000, 1000, 1000, timings).split(") (1000 x 1000) ")[1].split()
    assert numbers == ["2", "1", "2", "4", "2", "4", "0.50", "0e+00", "yes"]


def test_where_there_is_no_onednn_a_sentence_says_so(monkeypatch):
    monkeypatch.setattr(products, "why_not_onednn", lambda: "this PyTorch has none")
    result = run()
    assert result.exit_code == 0
    assert result.output == "There is nothing to compare: this PyTorch has none.\n"


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--turns", "0"]])
def test_bad_values_are_refused_in_a_sentence(arguments):
    result = run(*arguments)
    assert result.exit_code == 2 and "0 is not in the range x>=1" in result.output
