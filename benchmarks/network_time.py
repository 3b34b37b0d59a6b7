"""What an encoder and a decoder cost: whole training steps, with each network in turn.

    python benchmarks/network_time.py
    python benchmarks/network_time.py --task rotation_3d --latent-dim 64 --network small_conv

Each network is given the same sequences, with the defaults of the preset ``small`` otherwise.  The
table gives the median of its steps in processor time, and that of the ratios to the first network,
turn by turn.
"""

from __future__ import annotations

import statistics
import time

import click
import pyro
import torch

from common.command_line import command, names_option, refusing_bad_input, size_option
from common.measure import ratio
from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import make_config
from pyro_gtm.memory import memory_names
from pyro_gtm.model.networks import NETWORKS
from pyro_gtm.tasks import task_names


class Contestant:
    """A training run with one of the networks, and a parameter store of its own.

    Args:
        settings: of the run.
    """

    def __init__(self, **settings: object) -> None:
        self.store = pyro.get_param_store()
        with self.store.scope() as self.parameters:
            self.experiment = build_experiment(make_config(**settings))

    def step(self, frames: torch.Tensor, controls: torch.Tensor | None) -> float:
        """Take a training step; its seconds of processor time."""
        with self.store.scope(self.parameters):
            begun = time.process_time()
            self.experiment.svi.step(frames, controls)
            return time.process_time() - begun


@command()
@click.option("--task", type=click.Choice(task_names()), default="rotation_3d")
@names_option("--network", "networks", NETWORKS.names(), ("mlp", "small_conv"))
@click.option("--memory", type=click.Choice(memory_names()), default="introspective")
@size_option("--latent-dim", default=None, help="Size of z; by default that of the task.")
@size_option("-b", "--batch-size", default=32)
@size_option("--threads", default=1, help="CPU threads.")
@size_option("--turns", default=10, help="Steps with each network.")
def main(
    task: str,
    networks: list[str],
    memory: str,
    latent_dim: int | None,
    batch_size: int,
    threads: int,
    turns: int,
) -> None:
    """Time a training step with each network."""
    torch.set_num_threads(threads)
    pyro.enable_validation(False)
    settings = {"task": task, "memory": memory, "batch_size": batch_size, "device": "cpu"}
    if latent_dim is not None:
        settings["latent_dim"] = latent_dim
    with refusing_bad_input():
        contestants = {name: Contestant(network=name, **settings) for name in networks}
    first = contestants[networks[0]]
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(-2, turns):  # two to warm
        frames, controls = first.experiment.draw()
        for name, contestant in contestants.items():
            taken = contestant.step(frames, controls)
            if turn >= 0:
                seconds[name].append(taken)
    click.echo(
        f"{task}, {memory} memory, B={batch_size}, Z={first.experiment.config.latent_dim}, "
        f"{threads} thread(s), PyTorch {torch.__version__}, {turns} turns"
    )
    click.echo(f"{'network':16}{'parameters':>12}{'ms a step':>12}{'ratio':>9}")
    for name, contestant in contestants.items():
        click.echo(
            f"{name:16}{contestant.experiment.num_parameters:12,}"
            f"{1e3 * statistics.median(seconds[name]):12.1f}"
            f"{ratio(seconds[name], seconds[networks[0]]):9.2f}"
        )


if __name__ == "__main__":
    main()
