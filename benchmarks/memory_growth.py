"""Growth of a memory's time and peak memory with sequences, slots, heads and the batch.

    python benchmarks/memory_growth.py
    python benchmarks/memory_growth.py --memory dnc --slots 64,128,256,512 --figure growth.png

Measured is a sequence of T steps of a memory alone, forward and backward (to the weights and to the
latents), on one CPU thread: no Pyro, no other networks.  One of the four sizes grows, the others
stay at the least of their lists.  Times are medians of turns, each memory and size once in every
turn; the longest take part in fewer.  They are of the processor, so that waiting for a core does
not count.  Peak memory is the most that PyTorch's allocator has given out at once, by its
profiler's events, beside weights and latents; gradients are included.  The DNC with 1024 slots, and
the profiler, make the whole need 8 GiB.

The exponent p between two sizes says that growth by a factor f took f^p times as much.  What it
should be, of time and memory alike:

- steps T: **1**.  A state of fixed size makes a step cost the same throughout a sequence, and each
  step keeps as much for the backward pass.
- sequences B: **to 1**.  Under the work of a sequence lies what each operator costs however small
  its tensors are (time), and the gradients of the weights (memory), so p comes from below.
- slots N: the VRNN has none.  The others' p goes **to 1** in the same way, as each step goes
  through all slots a fixed number of times.  **The DNC's goes to 2**: it keeps how much each slot
  was written after each other slot, N x N links for every sequence of the batch and every step.
  With many slots take another memory.
- heads R: **at most 1**.

p can be above these over a stretch in which tensors outgrow a cache.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch

from common.command_line import command, memories_option, refusing_bad_input, size_option
from growth.curves import UNITS, curves_of, table
from growth.figure import draw_growth
from growth.sequences import build_run, measure, points_of
from pyro_gtm.experiments import plotting


class Growing(click.ParamType):
    """Positive integers with commas between them, each more than the one before."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(number) for number in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) < 2 or numbers[0] < 1 or any(a >= b for a, b in pairwise(numbers)):
            self.fail(f"{value!r} must be growing positive integers, at least two, such as 8,16")
        return numbers


@command()
@memories_option()
@click.option("-T", "--num-steps", type=Growing(), default="20,200,2000", help="Of a sequence.")
@click.option("--slots", type=Growing(), default="16,64,256,1024")
@click.option("--heads", type=Growing(), default="1,2,4,8")
@click.option("-b", "--batch-size", type=Growing(), default="8,64,512", help="Sequences at once.")
@size_option("--latent-dim", default=32)
@size_option("--hidden-dim", default=128, help="Of the LSTM.")
@size_option("--word-size", default=32, help="Of a slot.")
@size_option("--turns", default=15, help="Of every measurement of time; the longest take fewer.")
@click.option(
    "--figure",
    "path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also draw it, to this file.",
)
def main(
    memories: list[str],
    num_steps: tuple[int, ...],
    slots: tuple[int, ...],
    heads: tuple[int, ...],
    batch_size: tuple[int, ...],
    latent_dim: int,
    hidden_dim: int,
    word_size: int,
    turns: int,
    path: Path | None,
) -> None:
    """Measure memories as sequences, slots, heads and batch grow, on one CPU thread."""
    lists = {"num_steps": num_steps, "slots": slots, "heads": heads, "batch_size": batch_size}
    options = {"latent_dim": latent_dim, "hidden_dim": hidden_dim, "word_size": word_size}
    points = points_of(memories, lists)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with refusing_bad_input():
        runs = [build_run(point, **options) for point in points]
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    curves = curves_of(points, measure(runs, turns, report=click.echo))
    click.echo(
        f"\nlatent {latent_dim}, LSTM {hidden_dim}, words {word_size}, one thread, "
        f"PyTorch {torch.__version__}; a sequence forward and backward, medians of up to {turns}; "
        "what does not grow is at its least; the exponent is of the last two sizes"
    )
    grid = {curve.grown: lists[curve.grown] for curve in curves}  # what some memory has
    for grown in grid:
        for measured in UNITS:
            click.echo("\n" + table(curves, grown, measured))
    if path is not None:
        plotting.save(draw_growth(curves, grid), path)
        click.echo(f"\nwrote {path}")


if __name__ == "__main__":
    main()
