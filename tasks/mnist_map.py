"""Navigation in an MNIST map: walk about a grid of digits, and know what comes again.

Source: Gemici et al. 2017 (arXiv 1702.04649), Figures 13 to 15 ("MNIST maze"). The paper walks 25
steps on 4 x 4 cells.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.internals.checks import check_positive
from pyro_gtm.tasks.base import ImageTask, NewFrameKL, Sequences, register_task

ACTIONS = ("none", "up", "down", "left", "right")
"""The meaning of a one-hot control, the move into a frame; "none" before the first."""
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # rows down, columns right

SHORTEST = 8
"""The frames of the first walk of a curriculum."""

MOST_CELLS = 2_500
"""The oracle KL takes a matrix of cells by cells; no walk comes to so many."""


class Walk(NamedTuple):
    """Paths on the grid."""

    cell: Tensor
    """row * columns + column: ``(T, B)`` of int64."""

    action: Tensor
    """The move into that cell, an index into ``ACTIONS``: ``(T, B)`` of int64."""


@register_task("mnist_map")
class MNISTMap(ImageTask):
    """A walk over a grid of iid images; each frame is what lies in the cell stepped on.

    ::

        the map           time         0     1     2     3     4     5
        A  B  C  D        action       none  right down  left  up    right
        E  F  G  H        frame        A     B     F     E     A     B
        I  J  K  L        predictable  .     .     .     .     *     *
        M  N  O  P        repeats                              0     1

    The walk begins in a uniform cell; each move is uniform over those that stay on the map, the way
    back among them, and standing still is none. The paper does not say so, but the KL of its best
    memory fits this walk and no other that we tried. Maps and walks are new in every sequence.
    The move into a frame is the control of that step; it is told to the model and not modelled.

    Oracle KL: that of a new frame times the probability that the cell has not been stepped on
    before: the moves are known, and so is where one is relative to where one was.  That probability
    is exact, the sum over cells of the probability that the walk comes to the cell for the first
    time at this step.  (Two cells may by chance hold the same image; that counts for nothing.)

    Args:
        images: the N images that maps are drawn from: ``(N, C, H, W)``.
        rows: of the grid, at least 1.
        columns: of the grid, at least 1, and 2 for a single row; 2,500 cells at most.
        num_frames: T, at least 1.

    Raises:
        ValueError: a size is impossible.
    """

    debug_options: ClassVar[dict[str, Any]] = {"rows": 2, "columns": 2, "num_frames": 6}
    control_dim: ClassVar[int] = len(ACTIONS)

    def __init__(
        self, images: ImageSet, rows: int = 4, columns: int = 4, num_frames: int = 25
    ) -> None:
        super().__init__(images)
        check_positive("MNISTMap", rows=rows, columns=columns, num_frames=num_frames)
        if rows * columns < 2:
            raise ValueError(
                f"rows, columns: got {rows} and {columns}, must make a map of at least two cells"
            )
        if rows * columns > MOST_CELLS:
            raise ValueError(
                f"rows, columns: got {rows} and {columns}, must make a map of at most "
                f"{MOST_CELLS:,} cells"
            )
        self.rows = rows
        self.columns = columns
        self._num_steps = num_frames
        # For each cell its moves, those that stay on the map first, and how many these are.
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        down, right = torch.tensor(MOVES[1:]).unbind(1)
        to_row = row.flatten().unsqueeze(1) + down  # (cells, 4)
        to_column = column.flatten().unsqueeze(1) + right
        stays = (to_row >= 0) & (to_row < rows) & (to_column >= 0) & (to_column < columns)
        order = stays.int().argsort(dim=1, descending=True, stable=True)
        self._num_moves = stays.sum(1).to(self.device)
        self._moves = (order + 1).to(self.device)
        self._neighbours = (to_row * columns + to_column).gather(1, order).to(self.device)

    @property
    def num_steps(self) -> int:
        return self._num_steps

    @property
    def num_given(self) -> int:
        """The length of the first half of the walk."""
        return max(1, self.num_steps // 2)

    def curriculum(self) -> list[dict[str, Any]]:
        """Walks of 8 frames and on, by fours, on the same grid."""
        return [{"num_frames": frames} for frames in range(SHORTEST, self.num_steps, 4)]

    @property
    def published_as(self) -> dict[str, int] | None:
        return {"frames": self.num_steps} if (self.rows, self.columns) == (4, 4) else None

    @property
    def figure_names(self) -> tuple[str, ...]:
        return ("map",)

    def figures(self, batch: Sequences, generated: Tensor, num_given: int) -> dict[str, Figure]:
        """``map``: the visits to each cell, one over the other (the paper's Figure 15).

        Raises:
            ValueError: the batch has no controls.
        """
        if batch.controls is None:
            raise ValueError("batch: got no controls, must have those of the walk")
        row, column = positions(batch.controls)
        shown = generated.shape[1]
        return {"map": plotting.map_visits(generated, row, column, num_given, shown)}

    def walk(self, batch_size: int, generator: torch.Generator | None = None) -> Walk:
        """Draw ``batch_size`` independent walks of T steps."""
        cells = self.rows * self.columns
        cell = torch.randint(cells, (batch_size,), generator=generator, device=self.device)
        uniform = torch.rand(
            self.num_steps, batch_size, generator=generator, device=self.device, dtype=torch.float64
        )
        path, actions = [cell], [torch.zeros_like(cell)]
        for t in range(1, self.num_steps):
            move = (uniform[t] * self._num_moves[cell]).long()  # uniform over those on the map
            actions.append(self._moves[cell, move])
            cell = self._neighbours[cell, move]
            path.append(cell)
        return Walk(torch.stack(path), torch.stack(actions))

    def oracle_kl(self, new_frame: NewFrameKL) -> Tensor:
        cells = self.rows * self.columns
        counts, neighbours = self._num_moves.cpu(), self._neighbours.cpu()
        numbers = torch.arange(neighbours.shape[1], device="cpu")
        start, number = (numbers < counts.unsqueeze(1)).nonzero().unbind(1)
        # Sparse, as each cell has four neighbours at most, and there may be thousands of cells.
        move = torch.sparse_coo_tensor(
            torch.stack([neighbours[start, number], start]),
            1 / counts[start].double(),
            (cells, cells),
            check_invariants=True,
        )
        # missed[i, c]: the probability to be in cell i now, never having been in c before.
        missed = torch.full((cells, cells), 1 / cells, dtype=torch.float64, device="cpu")
        is_new = []
        for _ in range(self.num_steps):
            is_new.append(missed.diagonal().sum())
            missed = torch.sparse.mm(move, missed.fill_diagonal_(0))
        return new_frame.mean * torch.stack(is_new).float()

    def _sample(self, batch_size: int, generator: torch.Generator | None) -> Sequences:
        cell, action = self.walk(batch_size, generator)
        on_map = self._draw(self.rows * self.columns, batch_size, generator=generator)
        first = first_visit(cell)
        predictable = first < torch.arange(self.num_steps, device=self.device).unsqueeze(1)
        return self._show(
            on_map.gather(0, cell),
            predictable,
            repeats=torch.where(predictable, first, -1),
            controls=(
                action.unsqueeze(-1) == torch.arange(self.control_dim, device=self.device)
            ).float(),
        )


def first_visit(cell: Tensor) -> Tensor:
    """The step at which the cell of each step was first stepped on: ``(T, B)`` to ``(T, B)``."""
    same = cell.unsqueeze(0) == cell.unsqueeze(1)  # (T, T, B), symmetric
    return same.int().argmax(0)  # the first of equal maxima


def positions(controls: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns along walks, counted from the least that each walk came to.

    Args:
        controls: one-hot actions, ``(T, B, 5)``.

    Returns:
        Rows and columns, ``(T, B)`` of int64 each.
    """
    moves = torch.tensor(MOVES, device=controls.device)[controls.argmax(-1)]  # (T, B, 2)
    path = moves.cumsum(0)
    row, column = (path - path.amin(0)).unbind(-1)
    return row, column
