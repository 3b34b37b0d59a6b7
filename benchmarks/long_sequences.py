"""What does it save, and cost, to keep only every n-th step of a long sequence?

    python benchmarks/long_sequences.py
    python benchmarks/long_sequences.py --memory dnc --checkpoint-every 16 --checkpoint-every 64

Measured is a whole step of SVI in the stacked layout (the filtering guide, ``Trace_ELBO``,
``gtm.optim.Adam``) on sequences of T frames, with everything kept for the backward pass and with
``checkpoint_every=n`` of both the program, for its encoder and decoder, and of ``gtm.Unrolling``,
for the recurrence.  All start from the same weights, and take turns, on one CPU thread.

Shown for each n:

- the most memory that a step needs beside weights, moments and frames, and how many times less
  that is than with everything kept: at least 5 times is aimed at;
- the median time of a step, of the processor, so that waiting for a core does not count, and the
  median of its ratio to the step of the same turn with everything kept: at most 1.5 is aimed at,
  since the forward pass is made twice;
- how far the loss of the first step is from that with everything kept, as a share of it: rounding
  alone, as the draws are the same.

Where n is near the root of T, the part of the recurrence is least.  What remains grows with T all
the same: features, contexts, latents, and the Gaussians' parameters of every step.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import click
import pyro
import torch
from contestants.measure import Step, allocations, highest, ratio
from contestants.models import EVENT, Product, Sizes, build_product
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import pyro_gtm as gtm

MEBI = 2**20
ALL_KEPT = 0
SEED = 0


class First(NamedTuple):
    """Of the first steps."""

    loss: float
    """In nats, of the very first."""

    peak: int
    """Bytes beside weights, moments and frames."""


def build_step(product: Product, checkpoint_every: int, label: str) -> Step:
    """A step of SVI that trains a copy of ``product``.

    Args:
        product: what is copied.
        checkpoint_every: of the program and of the recurrence.
        label: tells the copy from others in Pyro's parameter store.
    """
    program, memory = copy.deepcopy(product)
    program.name, program.checkpoint_every = label, checkpoint_every
    unrolling = gtm.Unrolling(checkpoint_every=checkpoint_every)
    model = gtm.use_memory(memory, name=f"memory of {label}", unrolling=unrolling)(program.model)
    guide = gtm.FilteringGuide(model, program)
    svi = SVI(model, guide, gtm.optim.Adam(lr=1e-3, clip_norm=10.0), Trace_ELBO())

    def step(frames: Tensor) -> float:
        with pyro.validation_enabled(False):
            return float(svi.step(frames))

    return step


def take_first(step: Step, frames: Tensor, weights: int) -> First:
    """Two steps: the second has what the first leaves behind, moments above all.

    Args:
        step: not taken before.
        frames: ``(T, B, *EVENT)``.
        weights: bytes of all of them.
    """
    pyro.set_rng_seed(SEED)
    losses: list[float] = []
    changes: list[int] = []
    for _ in range(2):  # a profile each: one of millions of events takes gigabytes
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            losses.append(step(frames))
        changes += allocations(profiler)
        del profiler
    return First(losses[0], highest(changes) - 2 * weights)


def time_in_turns(steps: Mapping[int, Step], frames: Tensor, turns: int) -> dict[int, list[float]]:
    """Seconds of the processor of every step, all of them once in each turn."""
    times: dict[int, list[float]] = {every: [] for every in steps}
    for _ in range(turns):
        for every, step in steps.items():
            begun = time.process_time()
            step(frames)
            times[every].append(time.process_time() - begun)
    return times


HEADER = (
    f"{'':15}{'every':>7}{'peak MiB':>10}{'times less':>12}{'s a step':>10}"
    f"{'times as long':>15}{'loss differs':>14}"
)


def table(name: str, firsts: Mapping[int, First], times: Mapping[int, list[float]]) -> str:
    """A line for each ``checkpoint_every``."""
    kept = firsts[ALL_KEPT]
    lines = []
    for every, first in firsts.items():
        difference = abs(first.loss - kept.loss) / abs(kept.loss)
        lines.append(
            f"{name:15}{every or 'kept':>7}{first.peak / MEBI:10.1f}{kept.peak / first.peak:12.1f}"
            f"{statistics.median(times[every]):10.2f}{ratio(times[every], times[ALL_KEPT]):15.2f}"
            f"{difference:14.1e}"
        )
        name = ""
    return "\n".join(lines)


def measure(
    name: str, product: Product, frames: Tensor, lengths: list[int], turns: int
) -> tuple[dict[int, First], dict[int, list[float]]]:
    """Of one memory, with everything kept and with every length of blocks."""
    every_way = [ALL_KEPT, *lengths]
    steps = {every: build_step(product, every, f"{name}, {every}") for every in every_way}
    weights = sum(weight.nbytes for weight in product.weights().values())
    firsts = {every: take_first(step, frames, weights) for every, step in steps.items()}
    return firsts, time_in_turns(steps, frames, turns)


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--memory",
    "memories",
    type=click.Choice(gtm.memory_names()),
    multiple=True,
    default=gtm.memory_names(),
    help="May be given more than once.",
)
@click.option("-T", "--num-steps", type=click.IntRange(2), default=1000, help="Of a sequence.")
@click.option(
    "--checkpoint-every",
    "lengths",
    type=click.IntRange(1),
    multiple=True,
    show_default="the root of T",
    help="May be given more than once.",
)
@click.option("-b", "--batch-size", type=click.IntRange(1), default=4)
@click.option("--width", type=click.IntRange(1), default=256, help="Of the MLPs.")
@click.option("--hidden-dim", type=click.IntRange(1), default=128, help="Of the LSTM.")
@click.option("--latent-dim", type=click.IntRange(1), default=32)
@click.option("--slots", type=click.IntRange(1), default=16)
@click.option("--heads", type=click.IntRange(1), default=3)
@click.option("--turns", type=click.IntRange(1), default=3, help="Timed steps of each way.")
def main(
    memories: tuple[str, ...],
    num_steps: int,
    lengths: tuple[int, ...],
    batch_size: int,
    width: int,
    hidden_dim: int,
    latent_dim: int,
    slots: int,
    heads: int,
    turns: int,
) -> None:
    """Measure a step of SVI on long sequences, with and without checkpoints, on the CPU."""
    blocks = sorted(set(lengths)) or [round(math.sqrt(num_steps))]
    sizes = Sizes(latent_dim, width, hidden_dim, slots, heads)
    torch.set_num_threads(1)
    pyro.set_rng_seed(SEED)
    try:
        products = {name: build_product(name, True, sizes) for name in dict.fromkeys(memories)}
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    click.echo(
        f"T={num_steps}, B={batch_size}, {slots} slots, {heads} heads, latent {latent_dim}, "
        f"MLPs {width}, LSTM {hidden_dim}, one thread, PyTorch {torch.__version__}, "
        f"{turns} turns"
    )
    click.echo(HEADER)
    frames = (torch.rand(num_steps, batch_size, *EVENT) > 0.8).float()
    for name, product in products.items():
        pyro.clear_param_store()
        click.echo(table(name, *measure(name, product, frames, blocks, turns)))


if __name__ == "__main__":
    main()
