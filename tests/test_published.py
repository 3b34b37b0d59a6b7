"""The paper's values beside ours: for its own sizes, and for no others."""

from __future__ import annotations

import pytest
import torch

from pyro_gtm.data import ImageSet, Rooms
from pyro_gtm.published import published_results
from pyro_gtm.tasks import make_task, task_names


def task(name, **options):
    source = ImageSet(torch.rand(20, 1, 2, 2), torch.arange(20) % 10)
    return make_task(name, Rooms() if name == "rotation_3d" else source, **options)


@pytest.mark.parametrize("name", task_names())
def test_every_task_as_published_has_a_value_for_every_memory(name):
    results = published_results(task(name))
    assert set(results) == {"vrnn", "introspective", "ntm", "lru", "dnc"}
    assert {result.updates for result in results.values()} == {1_000_000}


def test_values_are_those_of_the_plots():
    assert published_results(task("perfect_recall", list_length=50))["ntm"] == (500_000, 11.0, 87.5)
    assert published_results(task("similarity_cued_recall"))["dnc"] == (1_000_000, 1.45, 83.3)
    parity = published_results(task("parity_recall", list_length=20))
    assert set(parity.values()) == {(350_000, 13.9, 86.5)}, "no curve can be told from another"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("perfect_recall", {"list_length": 11}),
        ("perfect_recall", {"list_length": 11, "recall_length": 4}),
        ("mnist_map", {"num_steps": 24}),
        ("mnist_map", {"rows": 5}),
        ("rotation_3d", {"num_steps": 31}),
    ],
)
def test_other_sizes_have_none(name, options):
    assert published_results(task(name, **options)) == {}
