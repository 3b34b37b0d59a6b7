"""Navigation in an MNIST map against a walk in plain Python, and its law against the exact one.

Controls and frames say where a walk is, seen from where it began; the tests go by them, and by
`MNISTMap.walk` only where the cell itself matters.
"""

from __future__ import annotations

from collections import Counter
from types import ModuleType

import pytest
import torch

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import MNISTMap, NewFrameKL
from pyro_gtm.tasks.mnist_map import ACTIONS, positions

GRIDS = [(4, 4), (1, 2), (2, 3), (3, 1)]


@pytest.fixture(scope="module")
def many(oracles: ModuleType) -> ImageSet:
    """So many images that two cells of a map hardly ever hold the same."""
    return oracles.noise_images([i % 10 for i in range(5_000)])


@pytest.mark.parametrize("rows, columns", GRIDS)
@pytest.mark.parametrize("num_steps, batch_size", [(25, 40), (2, 7), (1, 3), (25, 1)])
def test_frames_are_what_lies_where_the_controls_lead(
    oracles: ModuleType, many: ImageSet, rows: int, columns: int, num_steps: int, batch_size: int
) -> None:
    task = MNISTMap(many, rows=rows, columns=columns, num_frames=num_steps)
    batch = task.sample(batch_size)
    assert (task.num_steps, task.control_dim) == (num_steps, 5)
    oracles.assert_well_formed(task, batch, batch_size)
    assert batch.controls is not None
    assert ((batch.controls == 0) | (batch.controls == 1)).all()
    assert (batch.controls.sum(-1) == 1).all()
    assert (batch.controls[0, :, oracles.NONE] == 1).all()
    assert (batch.controls[1:, :, oracles.NONE] == 0).all()

    images_by_sequence = oracles.instances(batch.frames, many).T.tolist()
    coincidences = 0
    for b, path in enumerate(oracles.paths(batch.controls)):
        for extent, size in zip(zip(*path, strict=True), (rows, columns), strict=True):
            assert max(extent) - min(extent) < size
        shown = images_by_sequence[b]
        on_map = dict(zip(path, shown, strict=True))  # the last seen in each cell
        assert shown == [on_map[cell] for cell in path]
        coincidences += len(on_map) - len(set(on_map.values()))
        first = oracles.first_visits(path)
        assert batch.repeats[:, b].tolist() == first
        assert batch.predictable[:, b].tolist() == [s >= 0 for s in first]
        assert batch.labels[:, b].tolist() == [i % 10 for i in shown]
    # 40 maps of 16 cells hold a pair of equal images 0.96 times on average, and fewer are walked.
    assert coincidences <= 8


@pytest.mark.parametrize(
    "rows, columns, num_moves, from_step",
    [
        (4, 4, 3, 0),
        (4, 4, 2, 22),
        (2, 3, 4, 0),
        (2, 3, 3, 7),
        (3, 1, 4, 0),
        (3, 1, 3, 2),
        (1, 2, 2, 0),
        (1, 4, 4, 0),
        (2, 2, 4, 0),
    ],
)
def test_series_of_moves_are_as_likely_as_they_should_be(
    oracles: ModuleType,
    digits: ImageSet,
    rows: int,
    columns: int,
    num_moves: int,
    from_step: int,
) -> None:
    """Uniform start, uniform moves on the map, the way back among them, no standing still.

    The controls alone show it: each of these would give series of moves another law.
    """
    task = MNISTMap(digits, rows=rows, columns=columns, num_frames=from_step + num_moves + 1)
    controls = task.sample(10_000, torch.Generator().manual_seed(0)).controls
    assert controls is not None
    found = Counter(map(tuple, controls[from_step + 1 :].argmax(-1).T.tolist()))
    law = oracles.move_law(rows, columns, num_moves, from_step)
    assert set(found) <= set(law)
    oracles.assert_fits([found[moves] for moves in law], list(law.values()))


@pytest.mark.parametrize("rows, columns", GRIDS)
def test_the_walk_begins_anywhere_and_moves_to_any_neighbour(
    oracles: ModuleType, digits: ImageSet, rows: int, columns: int
) -> None:
    task = MNISTMap(digits, rows=rows, columns=columns, num_frames=7)
    walk = task.walk(4_000, torch.Generator().manual_seed(1))
    assert walk.cell.shape == walk.action.shape == (7, 4_000)
    cells = [[divmod(cell, columns) for cell in step] for step in walk.cell.tolist()]
    actions = walk.action.tolist()
    assert set(actions[0]) == {oracles.NONE}
    oracles.assert_uniform(cells[0], oracles.cells_of(rows, columns))

    for t in (1, 6):
        moves = list(zip(cells[t - 1], actions[t], cells[t], strict=True))
        for cell in oracles.cells_of(rows, columns):
            allowed = oracles.moves_from(cell, rows, columns)
            made = [(move, to) for before, move, to in moves if before == cell]
            oracles.assert_uniform(made, list(allowed.items()))


def test_the_walk_is_the_one_that_a_sample_shows(oracles: ModuleType, digits: ImageSet) -> None:
    task = MNISTMap(digits, rows=3, columns=2, num_frames=9)
    walk = task.walk(30, torch.Generator().manual_seed(2))
    controls = task.sample(30, torch.Generator().manual_seed(2)).controls
    assert controls is not None and controls.argmax(-1).equal(walk.action)
    for cells, path in zip(walk.cell.T.tolist(), oracles.paths(controls), strict=True):
        row, column = divmod(cells[0], 2)
        assert [divmod(cell, 2) for cell in cells] == [(row + r, column + c) for r, c in path]


def test_images_of_a_map_are_uniform_and_independent(oracles: ModuleType) -> None:
    images = oracles.noise_images(range(5))
    batch = MNISTMap(images, rows=1, columns=2, num_frames=3).sample(
        2_000, torch.Generator().manual_seed(0)
    )
    first, second, third = oracles.instances(batch.frames, images).tolist()
    assert third == first  # between two cells there is but one way
    pairs = [(i, j) for i in range(5) for j in range(5)]
    oracles.assert_uniform(zip(first, second, strict=True), pairs)
    assert batch.controls is not None
    action = batch.controls[1].argmax(-1).tolist()
    sides = [(i, move) for i in range(5) for move in (oracles.LEFT, oracles.RIGHT)]
    oracles.assert_uniform(zip(first, action, strict=True), sides)


def test_a_cell_that_is_come_back_to_is_bit_identical(oracles: ModuleType) -> None:
    """Cells with the same image are nevertheless two cells: the second is new."""
    one = oracles.noise_images([4])
    batch = MNISTMap(one, rows=2, columns=2, num_frames=4).sample(50)
    assert batch.frames.equal(one.images.expand(4, 50, -1, -1, -1))
    assert not batch.predictable[:2].any()
    back = batch.repeats[2] == 0
    assert back.any() and not back.all()
    assert (batch.repeats[2][~back] == -1).all()


def test_actions_are_named_in_the_order_of_the_control(oracles: ModuleType) -> None:
    assert ACTIONS == ("none", "up", "down", "left", "right")
    named = [getattr(oracles, name.upper()) for name in ACTIONS]
    assert named == list(range(5))


def test_positions_follow_the_controls(oracles: ModuleType, digits: ImageSet) -> None:
    controls = MNISTMap(digits, rows=3, columns=4, num_frames=8).sample(20).controls
    assert controls is not None
    row, column = positions(controls)
    for b, path in enumerate(oracles.paths(controls)):
        top, left = min(r for r, _ in path), min(c for _, c in path)
        found = list(zip(row[:, b].tolist(), column[:, b].tolist(), strict=True))
        assert found == [(r - top, c - left) for r, c in path]


def test_the_defaults_are_the_setting_of_the_paper(digits: ImageSet) -> None:
    task = MNISTMap(digits)
    assert (task.rows, task.columns, task.num_steps) == (4, 4, 25)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_walks_are_drawn_on_the_gpu(oracles: ModuleType, digits: ImageSet) -> None:
    task = MNISTMap(digits.to("cuda"))
    batch = task.sample(4, torch.Generator("cuda").manual_seed(0))
    assert all(x.is_cuda for x in batch if x is not None)
    oracles.assert_well_formed(task, batch, 4)


def test_a_map_larger_than_any_walk_is_refused(digits: ImageSet) -> None:
    with pytest.raises(ValueError, match=r"rows, columns: got 100000 and 4, .* at most 2,500"):
        MNISTMap(digits, rows=100_000)
    largest = MNISTMap(digits, rows=50, columns=50)
    assert largest.oracle_kl(NewFrameKL(1.0))[0] == pytest.approx(1.0)


def test_a_map_of_one_cell_is_refused(oracles: ModuleType, digits: ImageSet) -> None:
    message = oracles.refusal(lambda: MNISTMap(digits, rows=1, columns=1))
    assert "rows, columns: got 1 and 1, must make a map of at least two cells" in message
