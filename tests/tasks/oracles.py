"""The paper's tasks read literally, and what tests of a task share.

Algorithms 1 to 4 are one sequence at a time, in plain lists and the paper's own 1-based indices:
`seq` has a filler at 0, which is cut off at the end.  Run on image indices they give the images
shown; run on the steps 0..l-1 they give the step that each frame shows again.

Source: "Generative Temporal Models with Memory" (arXiv 1702.04649), Algorithms 1 to 4 and
Figures 9 (addresses), 5 and 22 (polarity), 13 (the map).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.tasks import Sequences, Task

FALSE_ALARM = 1e-6
"""The probability with which a chi-square test refuses a right implementation."""

FILLER = -99


def algorithm_1(listed: Sequence[int], k: int) -> list[int]:
    """Perfect and one-shot recall: the first k once more."""
    seq = [FILLER, *listed]
    for j in range(1, k + 1):
        seq.append(seq[j])
    return seq[1:]


def algorithm_2(label: Sequence[int], k: int) -> list[int]:
    """Parity recall: the class of each of the k images that are appended."""
    label = [FILLER, *label]
    classes = []
    for j in range(1, k + 1):
        if label[j] % 2 == 0:
            classes.append(1)  # even: an image of a 1
        else:
            classes.append(0)  # odd: an image of a 0
    return classes


def algorithm_3(listed: Sequence[int], label: Sequence[int], k: int) -> list[int]:
    """Dynamic dependency: the last label is the 0-based address of the next image."""
    l = len(listed)  # noqa: E741
    seq, label = [FILLER, *listed], [FILLER, *label]
    for j in range(1, k + 1):
        address = label[l + j - 1]
        seq.append(seq[1 + address])
        label.append(label[1 + address])
    return seq[1:]


def starts(l: int, k: int) -> list[int]:  # noqa: E741
    """The values of r, which is uniform over 1, ..., l - k (so never l - k + 1)."""
    return [r for r in range(1, l + 1) if r <= l - k]


def algorithm_4(listed: Sequence[int], k: int, r: int) -> list[int]:
    """Similarity-cued recall: seq[r : r + k], the end exclusive."""
    seq = [FILLER, *listed]
    appended = []
    i = r
    while i < r + k:
        appended.append(seq[i])
        i += 1
    return (seq + appended)[1:]


NONE, UP, DOWN, LEFT, RIGHT = range(5)
OFFSETS = {NONE: (0, 0), UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}

Cell = tuple[int, int]


def moves_from(cell: Cell, rows: int, columns: int) -> dict[int, Cell]:
    """The moves that stay in bounds, each as likely as the others, and where they lead."""
    allowed = {}
    for move in (UP, DOWN, LEFT, RIGHT):
        row, column = cell[0] + OFFSETS[move][0], cell[1] + OFFSETS[move][1]
        if 0 <= row < rows and 0 <= column < columns:
            allowed[move] = (row, column)
    return allowed


def cells_of(rows: int, columns: int) -> list[Cell]:
    return [(row, column) for row in range(rows) for column in range(columns)]


def cell_law(rows: int, columns: int, step: int) -> dict[Cell, float]:
    """Where the walk is at a step: uniform at step 0."""
    law = {cell: 1 / (rows * columns) for cell in cells_of(rows, columns)}
    for _ in range(step):
        law = law_after_a_move(law, rows, columns)
    return law


def law_after_a_move(law: dict[Cell, float], rows: int, columns: int) -> dict[Cell, float]:
    """Where the walk is one step after it was distributed like this."""
    after = dict.fromkeys(law, 0.0)
    for cell, probability in law.items():
        allowed = moves_from(cell, rows, columns)
        for to in allowed.values():
            after[to] += probability / len(allowed)
    return after


def walks(
    rows: int, columns: int, num_moves: int, from_step: int = 0
) -> Iterator[tuple[list[Cell], list[int], float]]:
    """Every walk of `num_moves` moves begun at a step: its cells, its moves, its probability."""

    def go_on(cells: list[Cell], moves: list[int], probability: float) -> Iterator[Any]:
        if len(moves) == num_moves:
            yield cells, moves, probability
            return
        allowed = moves_from(cells[-1], rows, columns)
        for move, to in allowed.items():
            yield from go_on([*cells, to], [*moves, move], probability / len(allowed))

    for cell, probability in cell_law(rows, columns, from_step).items():
        yield from go_on([cell], [], probability)


def move_law(rows: int, columns: int, num_moves: int, from_step: int = 0) -> dict[tuple, float]:
    """The probability of each series of moves, whatever the cell it was begun in."""
    law: dict[tuple, float] = {}
    for _, moves, probability in walks(rows, columns, num_moves, from_step):
        law[tuple(moves)] = law.get(tuple(moves), 0.0) + probability
    return law


def paths(controls: Tensor) -> list[list[Cell]]:
    """Where each walk is at each step, seen from its own start, from (T, B, 5) controls alone."""
    moves = controls.argmax(-1).T.tolist()
    walked = []
    for series in moves:
        row, column, path = 0, 0, []
        for move in series:
            row, column = row + OFFSETS[move][0], column + OFFSETS[move][1]
            path.append((row, column))
        walked.append(path)
    return walked


def first_visits(path: Sequence[Cell]) -> list[int]:
    """For each step the first at which its cell was visited; -1 where it is visited first."""
    return [path.index(cell) if path.index(cell) < t else -1 for t, cell in enumerate(path)]


def probability_of_new_cell(rows: int, columns: int, num_steps: int) -> list[float]:
    """P(the cell at t was not visited before t), t = 0..T-1, exact.

    It is the sum over cells of P(the first visit to the cell is at t): for each cell, the walk is
    followed by its law, and what has reached the cell is taken out.
    """
    new = [0.0] * num_steps
    for target in cells_of(rows, columns):
        law = cell_law(rows, columns, 0)
        for t in range(num_steps):
            new[t] += law[target]
            law[target] = 0.0
            law = law_after_a_move(law, rows, columns)
    return new


def noise_images(labels: Iterable[int], seed: int = 0) -> ImageSet:
    """Noise images, all different, with these labels: (N, 2, 3, 5)."""
    labels = torch.tensor(list(labels))
    generator = torch.Generator().manual_seed(seed)
    return ImageSet(torch.rand(len(labels), 2, 3, 5, generator=generator), labels)


def instances(frames: Tensor, images: ImageSet) -> Tensor:
    """Which image each frame is, bit for bit: (T, B); fails if it is none of them."""
    keys = {image.numpy().tobytes(): i for i, image in enumerate(images.images)}
    assert len(keys) == len(images.labels), "two images are the same"
    found = [[keys.get(frame.numpy().tobytes(), -1) for frame in batch] for batch in frames]
    assert all(index >= 0 for batch in found for index in batch), "a frame is no image of the set"
    return torch.tensor(found)


def assert_fits(counts: Sequence[int], law: Sequence[float]) -> None:
    """Pearson's chi-square test of counts against the probabilities of all outcomes.

    A right implementation is refused with probability `FALSE_ALARM`, over seeds.
    """
    total = sum(counts)
    assert len(counts) == len(law) > 0 and abs(sum(law) - 1) < 1e-9
    assert min(law) * total >= 5, "too few draws for a chi-square test"
    statistic = sum((n - total * p) ** 2 / (total * p) for n, p in zip(counts, law, strict=True))
    if len(law) == 1:
        assert statistic == 0
        return
    half = torch.tensor([(len(law) - 1) / 2, statistic / 2], dtype=torch.float64)
    p_value = torch.special.gammaincc(half[0], half[1]).item()
    assert p_value > FALSE_ALARM, f"chi-square {statistic:.1f} over {len(law)} outcomes: {counts}"


def assert_uniform(values: Iterable[Any], outcomes: Sequence[Any]) -> None:
    """Every value is one of the outcomes, and each of them is as likely as the others."""
    counts = dict.fromkeys(outcomes, 0)
    for value in values:
        assert value in counts, f"{value} is none of {list(outcomes)}"
        counts[value] += 1
    assert_fits(list(counts.values()), [1 / len(counts)] * len(counts))


def assert_well_formed(task: Task, batch: Sequences, batch_size: int) -> None:
    """Shapes, types and devices of every field; marks that agree with each other."""
    shape = (task.num_steps, batch_size)
    assert batch.frames.shape == (*shape, *task.event_shape)
    assert batch.frames.dtype == torch.float32
    assert batch.labels.shape == batch.predictable.shape == batch.repeats.shape == shape
    assert batch.labels.dtype == batch.repeats.dtype == torch.int64
    assert batch.predictable.dtype == torch.bool
    if task.control_dim == 0:
        assert batch.controls is None
    else:
        assert batch.controls is not None
        assert batch.controls.shape == (*shape, task.control_dim)
        assert batch.controls.dtype == torch.float32
    assert all(x.device.type == task.device.type for x in batch if x is not None)
    assert 1 <= task.num_given <= task.num_steps

    for b, column in enumerate(batch.repeats.T.tolist()):
        for t, s in enumerate(column):
            assert -1 <= s < t
            if s >= 0:
                assert batch.frames[t, b].equal(batch.frames[s, b])
                assert batch.labels[t, b] == batch.labels[s, b]
                assert batch.predictable[t, b]


def assert_same(one: Sequences, other: Sequences) -> None:
    for name, a, b in zip(one._fields, one, other, strict=True):
        assert (a is None and b is None) or a.equal(b), f"{name} differs"


def assert_seeded(task: Task) -> None:
    """A seed says everything, the next draw and another seed differ, the global state is kept."""

    def draw(seed: int) -> Sequences:
        return task.sample(8, torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert_same(draw(5), draw(5))
    assert not draw(5).frames.equal(draw(6).frames)
    generator = torch.Generator().manual_seed(5)
    assert not task.sample(8, generator).frames.equal(task.sample(8, generator).frames)
    assert torch.get_rng_state().equal(before)

    torch.manual_seed(5)
    first = task.sample(8)
    torch.manual_seed(5)
    assert_same(first, task.sample(8))


def elsewhere() -> Any:
    """What stands for a generator on another device, where there is none."""
    return SimpleNamespace(device=torch.device("meta"))


def refusal(call: Callable[[], Any]) -> str:
    """The message of the ValueError that a call ends in: one sentence, on one line."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    assert not re.search(r"[.!?] +[A-Z]", message), f"more than one sentence: {message}"
    return message
