"""Share of a training step that is spent on making its sequences.

    python benchmarks/sequence_time.py
    python benchmarks/sequence_time.py --task rotation_3d --task mnist_map --batch-size 32

For each task, a batch is drawn and a gradient step taken on it, in turns, with the networks and the
defaults of the preset ``small``.  The table gives medians, the drawing as a share of the step, and
how many frames are drawn in a second.
"""

from __future__ import annotations

import statistics
import time

import click
import pyro
import torch

from common.command_line import (
    command,
    device_option,
    names_option,
    refusing_bad_input,
    size_option,
)
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.memory import memory_names
from pyro_gtm.tasks import task_names


def times(experiment: Experiment, turns: int) -> list[list[float]]:
    """Seconds of every drawing and of every step, after two of each to warm."""

    def now() -> float:
        if experiment.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    seconds: list[list[float]] = [[], []]
    for turn in range(-2, turns):
        begun = now()
        batch = experiment.draw()
        drawn = now()
        experiment.svi.step(*[part for part in batch if part is not None])
        if turn >= 0:
            seconds[0].append(drawn - begun)
            seconds[1].append(now() - drawn)
    return seconds


@command()
@names_option("--task", "tasks", task_names(), task_names())
@click.option("--memory", type=click.Choice(memory_names()), default="introspective")
@size_option("-b", "--batch-size", default=64)
@device_option()
@size_option("--threads", default=1, help="CPU threads.")
@size_option("--turns", default=10, help="Steps of each task.")
def main(
    tasks: list[str],
    memory: str,
    batch_size: int,
    device: torch.device,
    threads: int,
    turns: int,
) -> None:
    """Time the making of sequences beside a training step."""
    torch.set_num_threads(threads)
    pyro.enable_validation(False)
    click.echo(
        f"{memory} memory, B={batch_size}, {device}, {threads} thread(s), "
        f"PyTorch {torch.__version__}, {turns} turns"
    )
    click.echo(f"{'task':26}{'ms a batch':>12}{'ms a step':>12}{'share':>9}{'frames a second':>16}")
    for task in tasks:
        with refusing_bad_input():
            experiment = build_experiment(
                make_config(task=task, memory=memory, batch_size=batch_size, device=str(device))
            )
        drawing, step = map(statistics.median, times(experiment, turns))
        frames = batch_size * experiment.training_task.num_steps / drawing
        click.echo(
            f"{task:26}{1e3 * drawing:12.1f}{1e3 * step:12.1f}{drawing / step:9.1%}{frames:16,.0f}"
        )


if __name__ == "__main__":
    main()
