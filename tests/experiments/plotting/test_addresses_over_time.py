"""Addresses: what was expected beside what was found, and the right ones ringed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pyro_gtm.experiments.plotting import addresses_over_time
from pyro_gtm.infer import Addresses


def shares(num_frames: int, sequences: int, seed: int) -> np.ndarray:
    """Over the steps before each one, and something new."""
    drawn = np.random.default_rng(seed).random((num_frames, sequences, num_frames + 1))
    drawn[:, :, :-1] *= np.tri(num_frames, k=-1)[:, None]
    return drawn / drawn.sum(-1, keepdims=True)


@pytest.mark.parametrize("num_frames, sequences", [(1, 1), (6, 3), (25, 2), (55, 4)])
def test_shares_are_drawn_and_the_right_ones_averaged(
    num_frames: int, sequences: int, assert_reads_well: Callable[[Figure], None]
) -> None:
    """As :meth:`Addresses.log_weight_of_right` has it."""
    steps = np.arange(num_frames)[:, None]
    repeats = np.where(steps % 3 == 2, steps - 2, -1).repeat(sequences, 1)
    weights, found = (shares(num_frames, sequences, seed) for seed in (0, 1))
    figure = addresses_over_time(weights, found, repeats >= 0, repeats)
    assert_reads_well(figure)
    left, below_left, right, below_right, _ = figure.axes
    for axes, below, values in ((left, below_left, weights), (right, below_right, found)):
        rows = axes.images[0].get_array().filled(0).T
        assert np.array_equal(rows[:, :num_frames], values[:, 0, :-1])
        assert np.array_equal(rows[:, -1], values[:, 0, -1]), "something new"
        logarithms = torch.as_tensor(values).log()
        of_right = Addresses(logarithms, logarithms).log_weight_of_right(torch.as_tensor(repeats))
        assert np.allclose(below.lines[0].get_ydata(), of_right.exp().mean(1).numpy())


def test_all_that_showed_the_same_are_ringed_and_their_weight_is_in_the_title() -> None:
    repeats = np.array([[-1], [0], [1], [-1]])
    weights = np.zeros((4, 1, 5))
    weights[[0, 3], 0, 4] = 1
    weights[1, 0, 0] = 1
    weights[2, 0, [0, 1, 4]] = 0.3, 0.5, 0.2
    figure = addresses_over_time(weights, weights, repeats >= 0, repeats)
    (rings,) = (line for line in figure.axes[0].lines if line.get_gid() == "same")
    assert rings.get_xydata().tolist() == [[1, 0], [2, 0], [2, 1]]
    assert "slots have weight 0.90 on average (one sequence)" in figure.get_suptitle()
    nothing = np.full((4, 1), -1)
    figure = addresses_over_time(weights, weights, nothing >= 0, nothing)
    assert "no frame is shown again" in figure.get_suptitle()
