"""What two processes that train one model together gain over one, on the cores of this machine.

    python benchmarks/ranks.py
    python benchmarks/ranks.py --batch-size 256 --steps 8 --turns 2

The same batch is trained on by one process and, shared out, by several; by one process that has a
share of it, which no share can be faster than; and by several with as many sequences each, so that
the batch grows.  They take turns, so that whatever else the machine does falls on all alike.  Of a
turn the table has the median over its steps; of the turns, the median and, for what other work
disturbs, the best.  Of the first rank it tells wall and processor time, and the time in which it
waits for the sum of the gradients or makes it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
import torch

from common.command_line import command, size_option
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import make_config
from pyro_gtm.infer.ranks import ALONE, Ranks, joined, started_by_launcher
from pyro_gtm.infer.training import training_steps
from pyro_gtm.memory import memory_names

WARM_UP = 5


class TimedRanks(Ranks):
    """Ranks whose sums are timed."""

    seconds = 0.0

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        begun = time.perf_counter()
        super().sum_(tensors)
        TimedRanks.seconds += time.perf_counter() - begun


@command()
@click.option("--memory", type=click.Choice(memory_names()), default="introspective")
@size_option("-b", "--batch-size", default=32, help="Sequences that one process trains on.")
@size_option("--ranks", default=2, help="Processes that share them.")
@size_option("--steps", default=20, help="Timed steps of a turn.")
@size_option("--turns", default=3, help="Turns of each.")
def main(memory: str, batch_size: int, ranks: int, steps: int, turns: int) -> None:
    """Time the steps of one process, and of several."""
    if started_by_launcher():
        with joined() as here:
            _take_steps(here, memory, batch_size, steps)
        return
    if os.environ.get("RANKS_ALONE"):
        _take_steps(ALONE, memory, batch_size, steps)
        return
    if batch_size % ranks:
        raise click.BadParameter(f"got {batch_size}, must be a multiple of --ranks")
    contestants = {
        f"one process of {batch_size}": (1, batch_size),
        f"one process of {batch_size // ranks}": (1, batch_size // ranks),
        f"{ranks} ranks of {batch_size // ranks}": (ranks, batch_size // ranks),
        f"{ranks} ranks of {batch_size}": (ranks, batch_size),
    }
    told: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, (size, sequences) in contestants.items():
            told[name].append(
                _turn(size, ["--memory", memory, f"-b{sequences}", f"--steps={steps}"])
            )
    click.echo(
        f"perfect_recall, {memory} memory, one thread a process, {os.cpu_count()} cores, PyTorch "
        f"{torch.__version__}, {turns} turns of {steps} steps; milliseconds a step"
    )
    click.echo(f"{'':30}{'wall':>9}{'best':>9}{'processor':>11}{'sum':>8}{'sequences/s':>13}")
    for name, (size, sequences) in contestants.items():
        wall, processor, summing = (
            [1e3 * turn[what] for turn in told[name]] for what in ("wall", "processor", "sum")
        )
        middle = statistics.median(wall)
        click.echo(
            f"{name:30}{middle:9.1f}{min(wall):9.1f}{statistics.median(processor):11.1f}"
            f"{statistics.median(summing):8.1f}{1e3 * size * sequences / middle:13.0f}"
        )


def _turn(size: int, arguments: list[str]) -> dict[str, float]:
    """What the first of some processes tells of its steps."""
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={size}"] if size > 1 else []
    finished = subprocess.run(
        [sys.executable, *launcher, __file__, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RANKS_ALONE": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(finished.stdout)


def _take_steps(here: Ranks, memory: str, batch_size: int, steps: int) -> None:
    torch.set_num_threads(1)
    config = make_config(memory=memory, batch_size=batch_size, ranks=here.size, device="cpu")
    experiment = build_experiment(config)
    if here.size > 1:
        elbo: Any = experiment.svi.loss_and_grads.__self__
        elbo.ranks = TimedRanks(here.rank, here.size)
    wall, processor, summing = [], [], []
    before = time.perf_counter(), time.process_time(), TimedRanks.seconds
    for _ in training_steps(experiment.svi, experiment.draw, num_steps=WARM_UP + steps):
        now = time.perf_counter(), time.process_time(), TimedRanks.seconds
        for seconds, one, other in zip((wall, processor, summing), before, now, strict=True):
            seconds.append(other - one)
        before = now
    if here.first:
        medians = [statistics.median(one[WARM_UP:]) for one in (wall, processor, summing)]
        click.echo(json.dumps(dict(zip(("wall", "processor", "sum"), medians, strict=True))))


if __name__ == "__main__":
    main()
