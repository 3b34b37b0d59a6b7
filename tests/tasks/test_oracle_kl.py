"""The least KL that a perfect memory could have, frame by frame, against brute force."""

from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import NewFrameKL, Task, make_task, task_class

NEW_FRAME = NewFrameKL(22.4, {digit: 20.0 + digit for digit in range(10)})

LENGTHS = {
    "perfect_recall": [(10, 5), (1, 1), (4, 4), (50, 5)],
    "parity_recall": [(10, 5), (1, 1), (4, 4)],
    "one_shot_recall": [(20, 5), (1, 1), (4, 4)],
    "dynamic_dependency": [(20, 5), (10, 1), (10, 14)],
    "similarity_cued_recall": [(20, 5), (6, 1), (2, 1)],
}


def make(name: str, images: ImageSet, l: int, k: int) -> Task:  # noqa: E741
    return make_task(name, images, list_length=l, recall_length=k)


def assert_oracle_kl(task: Task, new_frame: NewFrameKL, expected: list[float]) -> None:
    kl = task.oracle_kl(new_frame)
    assert kl.shape == (task.num_steps,) and kl.is_floating_point()
    torch.testing.assert_close(
        kl.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=1e-6
    )


@pytest.mark.parametrize(
    "name, l, k",
    [
        (name, *lengths)
        for name in ("perfect_recall", "one_shot_recall", "dynamic_dependency")
        for lengths in LENGTHS[name]
    ],
)
def test_where_the_image_comes_again_for_certain_nothing_is_left(
    digits: ImageSet,
    name: str,
    l: int,  # noqa: E741
    k: int,
) -> None:
    assert_oracle_kl(make(name, digits, l, k), NEW_FRAME, [22.4] * l + [0.0] * k)


@pytest.mark.parametrize("mean", [22.4, 2.0, 0.0])
@pytest.mark.parametrize("l, k", [(20, 5), (10, 5), (6, 1), (2, 1), (5, 4)])
def test_the_cue_costs_the_choice_of_a_place(
    oracles: ModuleType,
    digits: ImageSet,
    l: int,  # noqa: E741
    k: int,
    mean: float,
) -> None:
    """The entropy of r, counted from Algorithm 4; ln 15 = 2.71 nats in the paper's setting."""
    places = oracles.starts(l, k)
    entropy = -sum(math.log(1 / len(places)) / len(places) for _ in places)
    expected = [mean] * l + [min(mean, entropy)] + [0.0] * (k - 1)
    assert_oracle_kl(make("similarity_cued_recall", digits, l, k), NewFrameKL(mean, {}), expected)


@pytest.mark.parametrize(
    "labels",
    [
        [i % 10 for i in range(40)],
        [0, 1],
        [0, 0, 0, 1, 2, 4, 6, 6],  # few odd
        [1, 1, 1, 1, 3, 5, 0, 9, 9],  # few even
        [0, 1, *[8] * 60],
    ],
    ids=str,
)
@pytest.mark.parametrize("base", [20.0, 3.0, 1.0, 0.0])
def test_an_image_of_a_known_class_costs_what_is_left_of_it(
    oracles: ModuleType, labels: list[int], base: float
) -> None:
    """Every image that could be asked about, one by one; what the class tells is taken off.

    The last bases are worth less than the class tells, and there nothing is left.
    """
    new_frame = NewFrameKL(99.0, {digit: base + digit for digit in range(10)})
    nats = []
    for asked in labels:
        (wanted,) = oracles.algorithm_2([asked], 1)
        share = sum(label == wanted for label in labels) / len(labels)
        nats.append(max(0.0, new_frame.by_class[wanted] - math.log(1 / share)))
        assert 0 <= nats[-1] <= new_frame.by_class[wanted]
    mean = sum(nats) / len(nats)
    task = make("parity_recall", oracles.noise_images(labels), 4, 3)
    assert_oracle_kl(task, new_frame, [99.0] * 4 + [mean] * 3)


def test_parity_is_worth_at_most_log_2(oracles: ModuleType) -> None:
    """A set of zeros and ones alone, equal in number and KL: the parity is the image's class."""
    task = make("parity_recall", oracles.noise_images([0, 1] * 5), 4, 2)
    new_frame = NewFrameKL(22.4, {0: 22.4, 1: 22.4})
    assert_oracle_kl(task, new_frame, [22.4] * 4 + [22.4 - math.log(2)] * 2)


def test_without_costs_by_class_the_mean_stands_in(digits: ImageSet) -> None:
    """Ten classes as many each: a known class is worth ln 10 of the mean KL."""
    task = make("parity_recall", digits, 3, 2)
    assert_oracle_kl(task, NewFrameKL(22.4, {}), [22.4] * 3 + [22.4 - math.log(10)] * 2)
    assert_oracle_kl(task, NewFrameKL(22.4), [22.4] * 3 + [22.4 - math.log(10)] * 2)


PUBLISHED = {
    **{0: 22.4, 1: 22.4, 2: 14.8, 3: 14.9, 5: 12.3, 7: 10.7, 10: 8.7, 12: 7.8},
    **{15: 7.1, 19: 6.0, 20: 5.5, 24: 4.7},
}
"""By step, for new frames of 22.4 nats on the 4 x 4 map: simulated elsewhere, to a decimal."""


@pytest.mark.parametrize(
    "rows, columns, num_steps", [(2, 2, 5), (1, 2, 5), (2, 3, 6), (3, 1, 7), (1, 4, 8), (2, 2, 1)]
)
def test_new_cells_are_as_likely_as_all_walks_together_say(
    oracles: ModuleType, rows: int, columns: int, num_steps: int
) -> None:
    """The law of first visits, by which larger maps are judged, against every single walk."""
    counted = [0.0] * num_steps
    for cells, _, probability in oracles.walks(rows, columns, num_steps - 1):
        for t, cell in enumerate(cells):
            counted[t] += probability * (cell not in cells[:t])
    assert oracles.probability_of_new_cell(rows, columns, num_steps) == pytest.approx(counted)


def test_new_cells_of_the_smallest_square(oracles: ModuleType) -> None:
    """By hand: the third is the way back or not, the fourth is new after one of these alone..."""
    assert oracles.probability_of_new_cell(2, 2, 5) == pytest.approx([1, 1, 1 / 2, 1 / 2, 1 / 4])


def assert_oracle_kl_of_map(task: Task, mean: float, exact: list[float]) -> None:
    """Exact, to rounding in single precision."""
    kl: Tensor = task.oracle_kl(NewFrameKL(mean, {}))
    assert kl.shape == (task.num_steps,) and kl.is_floating_point()
    for t, probability in enumerate(exact):
        assert kl[t].item() == pytest.approx(mean * probability, abs=1e-5)


@pytest.mark.parametrize("mean", [22.4, 1.0, 0.0])
@pytest.mark.parametrize(
    "rows, columns, num_steps",
    [(4, 4, 25), (2, 2, 5), (2, 2, 6), (1, 2, 4), (2, 3, 25), (3, 1, 9), (4, 4, 1), (5, 2, 12)],
)
def test_a_cell_costs_a_frame_the_first_time(
    oracles: ModuleType, digits: ImageSet, rows: int, columns: int, num_steps: int, mean: float
) -> None:
    task = make_task("mnist_map", digits, rows=rows, columns=columns, num_frames=num_steps)
    assert_oracle_kl_of_map(task, mean, oracles.probability_of_new_cell(rows, columns, num_steps))


def test_the_oracle_kl_of_the_papers_map(oracles: ModuleType, digits: ImageSet) -> None:
    exact = oracles.probability_of_new_cell(4, 4, 25)
    kl = make_task("mnist_map", digits).oracle_kl(NewFrameKL(22.4, {}))
    for t, nats in PUBLISHED.items():
        assert 22.4 * exact[t] == pytest.approx(nats, abs=0.1)
        assert kl[t].item() == pytest.approx(nats, abs=0.1)
    assert kl.mean().item() == pytest.approx(9.5, abs=0.1)


@pytest.mark.parametrize("name, l, k", [(name, *at) for name in LENGTHS for at in LENGTHS[name]])
def test_the_oracle_kl_of_the_recall_phase_is_its_mean(
    digits: ImageSet,
    name: str,
    l: int,  # noqa: E741
    k: int,
) -> None:
    task = make(name, digits, l, k)
    expected = sum(task.oracle_kl(NEW_FRAME)[l:].tolist()) / k
    assert task.recall_oracle_kl(NEW_FRAME) == pytest.approx(expected, abs=1e-5)


def test_a_cell_that_is_come_back_to_costs_nothing(digits: ImageSet) -> None:
    assert make_task("mnist_map", digits).recall_oracle_kl(NEW_FRAME) == 0.0


@pytest.mark.parametrize("name", [*LENGTHS, "mnist_map"])
def test_the_oracle_kl_draws_nothing_and_says_the_same_again(digits: ImageSet, name: str) -> None:
    task = make_task(name, digits, **task_class(name).debug_options)
    before = torch.get_rng_state()
    kl = task.oracle_kl(NEW_FRAME)
    assert torch.get_rng_state().equal(before)
    assert task.oracle_kl(NEW_FRAME).equal(kl)
    assert ((kl >= 0) & (kl <= 22.4 + 1e-5)).all()


@pytest.mark.parametrize("name", [*LENGTHS, "mnist_map"])
def test_the_oracle_kl_lies_below_that_of_a_new_frame_only_where_the_past_tells_something(
    digits: ImageSet, name: str
) -> None:
    task = make_task(name, digits, **task_class(name).debug_options)
    tells = task.sample(200).predictable.any(1)
    kl = task.oracle_kl(NEW_FRAME)
    assert (kl[tells] < 22.4).all()
    assert kl[~tells].tolist() == pytest.approx([22.4] * int((~tells).sum()))
