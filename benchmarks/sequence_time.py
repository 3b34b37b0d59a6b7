"""What share of a training step is spent on making its sequences?

    python benchmarks/sequence_time.py
    python benchmarks/sequence_time.py --task rotation_3d --task mnist_map --batch-size 32

For each task, a batch is drawn and a gradient step taken on it, in turns, with the networks and the
defaults of the preset ``small``.  The table gives medians, the drawing as a share of the step, and
how many frames are drawn in a second.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

import click
import pyro
import torch

from pyro_gtm.experiments.build import Experiment, build_experiment, pick_device
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.infer.evaluation import arguments
from pyro_gtm.memory import memory_names
from pyro_gtm.tasks import task_names


def times(experiment: Experiment, turns: int) -> list[list[float]]:
    """Seconds of every drawing and of every step, after two of each to warm."""

    def synchronise() -> None:
        if experiment.device.type == "cuda":
            torch.cuda.synchronize()

    seconds: list[list[float]] = [[], []]
    for turn in range(-2, turns):
        synchronise()
        begun = time.perf_counter()
        batch = experiment.draw()
        synchronise()
        drawn = time.perf_counter()
        experiment.svi.step(*arguments(*batch))
        synchronise()
        if turn >= 0:
            seconds[0].append(drawn - begun)
            seconds[1].append(time.perf_counter() - drawn)
    return seconds


def known(_: click.Context, __: click.Parameter, names: Iterable[str]) -> list[str]:
    """The tasks asked for, or all."""
    for name in names:
        if name not in task_names():
            raise click.BadParameter(f"{name!r} is none of {', '.join(task_names())}.")
    return list(names) or list(task_names())


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--task", "tasks", multiple=True, callback=known, help="Repeatable. [default: all]")
@click.option("--memory", type=click.Choice(memory_names()), default="introspective")
@click.option("-b", "--batch-size", type=click.IntRange(1), default=64)
@click.option("--device", default="cpu", help="auto, cpu, cuda, ...")
@click.option("--threads", type=click.IntRange(1), default=1, help="CPU threads.")
@click.option("--turns", type=click.IntRange(1), default=10, help="Steps of each task.")
def main(
    tasks: list[str], memory: str, batch_size: int, device: str, threads: int, turns: int
) -> None:
    """Time the making of sequences beside a training step."""
    torch.set_num_threads(threads)
    pyro.enable_validation(False)
    try:
        where = pick_device(device)
        click.echo(
            f"{memory} memory, B={batch_size}, {where}, {threads} thread(s), "
            f"PyTorch {torch.__version__}, {turns} turns"
        )
        click.echo(
            f"{'task':26}{'ms a batch':>12}{'ms a step':>12}{'share':>9}{'frames a second':>16}"
        )
        for task in tasks:
            experiment = build_experiment(
                make_config(task=task, memory=memory, batch_size=batch_size, device=str(where))
            )
            drawing, step = map(statistics.median, times(experiment, turns))
            frames = batch_size * experiment.training_task.num_steps / drawing
            click.echo(
                f"{task:26}{1e3 * drawing:12.1f}{1e3 * step:12.1f}{drawing / step:9.1%}"
                f"{frames:16,.0f}"
            )
    except (ValueError, MissingDataError) as error:
        raise click.UsageError(str(error)) from error


if __name__ == "__main__":
    main()
