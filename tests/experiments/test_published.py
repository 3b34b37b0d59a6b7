"""The paper's values beside ours: for its own sizes, and for no others."""

from __future__ import annotations

import pytest
import torch

from pyro_gtm.experiments.data import ImageSet, Rooms
from pyro_gtm.experiments.published import published_results
from pyro_gtm.tasks import make_task, task_names


def task(name, **options):
    source = ImageSet(torch.rand(20, 1, 2, 2), torch.arange(20) % 10)
    return make_task(name, Rooms() if name == "rotation_3d" else source, **options)


def results_of(made, data):
    return published_results(made.name, made.published_as, data)


@pytest.mark.parametrize("name", task_names())
def test_every_task_as_published_has_a_value_for_every_memory(name):
    made = task(name)
    results = results_of(made, made.sources[0])
    assert set(results) == {"vrnn", "introspective", "ntm", "lru", "dnc"}
    assert {result.updates for result in results.values()} == {1_000_000}


def test_values_are_those_of_the_plots():
    fifty = task("perfect_recall", list_length=50)
    assert results_of(fifty, "mnist")["ntm"] == (500_000, 11.0, 87.5)
    cued = task("similarity_cued_recall")
    assert results_of(cued, "digits")["dnc"] == (1_000_000, 1.45, 83.3)
    parity = results_of(task("parity_recall", list_length=20), "digits")
    assert set(parity.values()) == {(350_000, 13.9, 86.5)}, "no curve can be told from another"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("perfect_recall", {"list_length": 11}),
        ("perfect_recall", {"list_length": 11, "recall_length": 4}),
        ("mnist_map", {"num_frames": 24}),
        ("mnist_map", {"rows": 5}),
        ("rotation_3d", {"num_frames": 31}),
        ("rotation_3d", {"degrees": 3.0}),
    ],
)
def test_other_sizes_have_none(name, options):
    made = task(name, **options)
    assert results_of(made, made.sources[0]) == {}


def test_other_data_have_none():
    """The paper showed MNIST digits, and Omniglot in one-shot recall."""
    assert results_of(task("perfect_recall"), "strokes") == {}
    assert results_of(task("mnist_map"), "omniglot") == {}
    assert results_of(task("rotation_3d"), "recorded") == {}


def test_densities_of_unknown_frames_are_no_bound():
    results = results_of(task("rotation_3d"), "rooms")
    assert {result.negative_elbo_per_frame for result in results.values()} == {None}
