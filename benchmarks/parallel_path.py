"""What it gains to take all steps of the associative memory at once.

    python benchmarks/parallel_path.py
    python benchmarks/parallel_path.py -T 25,100 --batch-size 32

A sequence of T latents is written and read, forward and backward to the weights and to the latents,
once step by step and once with ``gtm.unroll(latents)``; both are checked to give the same contexts.
Times are of the processor, one thread, medians of turns in which each takes its turn; peak memory
is the most that PyTorch's allocator has given out at once.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import click
import pyro
import torch
from torch import Tensor

import pyro_gtm as gtm
from common.command_line import command, size_option
from common.measure import peak_allocated, ratio


def stepwise(memory: gtm.AssociativeMemory, latents: Tensor) -> Tensor:
    """The contexts, one step after the other."""

    def cell(context: Tensor, latent: Tensor) -> tuple[Tensor, None]:
        return latent, None

    with gtm.use_memory(memory):
        return gtm.unroll(cell, latents).contexts


def at_once(memory: gtm.AssociativeMemory, latents: Tensor) -> Tensor:
    """The contexts, all steps at once."""
    with gtm.use_memory(memory):
        return gtm.unroll(latents).contexts


Way = Callable[[gtm.AssociativeMemory, Tensor], Tensor]
WAYS: dict[str, Way] = {"stepwise": stepwise, "at once": at_once}


def run(way: Way, memory: gtm.AssociativeMemory, latents: Tensor) -> None:
    """There and back."""
    way(memory, latents).square().sum().backward()


@command()
@click.option("-T", "--num-steps", default="25,100,500,2000", help="Lengths, commas between them.")
@size_option("-b", "--batch-size", default=4, help="Sequences at once.")
@size_option("--latent-dim", default=32)
@size_option("--turns", default=3, help="Of every measurement of time.")
def main(num_steps: str, batch_size: int, latent_dim: int, turns: int) -> None:
    """Time both ways through a sequence, on one CPU thread."""
    try:
        lengths = [int(length) for length in num_steps.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise click.BadParameter(
            f"{num_steps!r} must be positive integers with commas between them, such as 25,100",
            param_hint="--num-steps",
        )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    click.echo(f"B={batch_size}, Z={latent_dim}, one thread, PyTorch {torch.__version__}")
    click.echo(
        f"{'T':>6}{'ms stepwise':>14}{'ms at once':>14}{'gain':>8}{'MiB stepwise':>15}"
        f"{'MiB at once':>14}"
    )
    for length in lengths:
        pyro.clear_param_store()
        memory = gtm.AssociativeMemory(latent_dim, slots=length)
        latents = torch.randn(length, batch_size, latent_dim, requires_grad=True)
        with torch.no_grad():
            one, other = (way(memory, latents) for way in WAYS.values())
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        for turn in range(-1, turns):
            for name, way in WAYS.items():
                begun = time.process_time()
                run(way, memory, latents)
                if turn >= 0:
                    seconds[name].append(time.process_time() - begun)
        peaks = [peak_allocated(partial(run, way, memory, latents)) for way in WAYS.values()]
        times = [1e3 * statistics.median(taken) for taken in seconds.values()]
        gain = ratio(seconds["stepwise"], seconds["at once"])
        click.echo(
            f"{length:6}{times[0]:14.1f}{times[1]:14.1f}{gain:8.1f}"
            f"{peaks[0] / 2**20:15.1f}{peaks[1] / 2**20:14.1f}"
        )


if __name__ == "__main__":
    main()
