"""Can a memory keep what it is given?  Supervised copying of random bits.

    python benchmarks/copy_task.py
    python benchmarks/copy_task.py --memory ntm --seed 1
    python benchmarks/copy_task.py --memory vrnn --hidden-dim 128

Source: Graves, Wayne, Danihelka 2014 (arXiv 1410.5401), section 4.1, with shorter sequences.

A list of n random vectors of bits, n uniform in 1..N, then as many blank steps in which the list is
to be given back, in order.  With n = 3::

    time         0   1   2   3   4   5   6   7
    bits in      .   A   B   C   .   .   .   .
    start flag   *   .   .   .   .   .   .   .
    end flag     .   .   .   .   *   .   .   .
    bits out     -   -   -   -   -   A   B   C

A dot is zeros, and a dash an output that nobody looks at.  Every vector is new, so nothing but a
memory helps: whoever keeps nothing has half of the bits wrong.

A linear map of the context gives the logits of the bits, and the loss is their cross-entropy, in
bits out alone.  All memories have the same width of LSTM, the same lists and the same optimiser,
Adam with a clip of the gradient's norm.  A memory has passed when less than 1 bit in 100 is wrong
over held-out lists of all lengths; it then stops.  NTM, LRU and DNC begin with their structured
initialisation, as everywhere, unless ``--initialisation plain`` is given.  No Pyro: a memory is a
module with one pure step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_args

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import pyro_gtm as gtm
from common.command_line import command, memories_option, refusing_bad_input, size_option
from common.memories import build_memory
from pyro_gtm.memory.slots import Initialisation

PASSED = 0.01
FLAGS = 2
HELD_OUT_SEED = 2**31  # more than any --seed, so that no run trains on the held-out lists
HELD_OUT_LISTS = 32  # of each length
CLIP_NORM = 1.0  # most gradients are smaller; this cuts the spikes, of which LRU has most

Copier = Callable[[Tensor], Tensor]
"""From the inputs of :class:`Lists` to the logits of its targets."""


class Lists(NamedTuple):
    """A batch of lists, all of one length n, so that nothing is padded."""

    inputs: Tensor
    """The inputs, step by step: ``(2 * n + 2, batch, bits + FLAGS)``."""

    targets: Tensor
    """The targets of the last n steps: ``(n, batch, bits)``."""


def draw_lists(length: int, batch_size: int, bits: int, generator: torch.Generator) -> Lists:
    """Random lists of ``length`` vectors."""
    vectors = torch.randint(2, (length, batch_size, bits), generator=generator).float()
    inputs = torch.zeros(2 * length + 2, batch_size, bits + FLAGS)
    inputs[0, :, bits] = 1.0
    inputs[1 : length + 1, :, :bits] = vectors
    inputs[length + 1, :, bits + 1] = 1.0
    return Lists(inputs, vectors)


def held_out_lists(max_length: int, bits: int) -> list[Lists]:
    """The same lists for every run: ``HELD_OUT_LISTS`` of each length from 1 to ``max_length``."""
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    return [draw_lists(n, HELD_OUT_LISTS, bits, generator) for n in range(1, max_length + 1)]


@torch.no_grad()
def bit_error(copier: Copier, batches: Iterable[Lists]) -> float:
    """Share of all bits of all lists that are wrong, of which long lists have more."""
    wrong = total = 0
    for inputs, targets in batches:
        wrong += int(((copier(inputs) > 0) != (targets > 0.5)).sum())
        total += targets.numel()
    return wrong / total


class CopyNetwork(nn.Module):
    """A memory, and a linear map from its context to the logits of the bits."""

    def __init__(self, memory: gtm.MemoryModule, bits: int) -> None:
        super().__init__()
        self.memory = memory
        self.readout = nn.Linear(memory.context_dim, bits)

    def forward(self, inputs: Tensor) -> Tensor:
        state = self.memory.initial_state(inputs.shape[1:-1])
        contexts = []
        for step_input in inputs:  # (batch, bits + FLAGS)
            state, context, _ = self.memory.step(state, step_input)
            contexts.append(context)
        length = len(inputs) // 2 - 1
        logits: Tensor = self.readout(torch.stack(contexts[-length:]))  # (n, batch, bits)
        return logits


def build_network(memory: str, bits: int, seed: int, **options: Any) -> CopyNetwork:
    """An untrained network; its memory is given those of the options that it knows.

    Raises:
        ValueError: the memory is unknown, or refuses its options.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CopyNetwork(build_memory(memory, latent_dim=bits + FLAGS, **options), bits)


class Curve(NamedTuple):
    """The result of one run."""

    memory: str
    parameters: int
    steps: list[int]
    """Training steps after which the held-out error was taken, from 0."""
    errors: list[float]
    """Share of held-out bits that were wrong then."""
    seconds_per_step: float
    """Of training alone, without the evaluations."""

    @property
    def passed(self) -> bool:
        return self.errors[-1] < PASSED


def train_copy(
    memory: str,
    *,
    num_steps: int,
    batch_size: int = 16,
    bits: int = 8,
    max_length: int = 10,
    learning_rate: float = 3e-3,
    seed: int = 0,
    eval_every: int = 50,
    report: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Curve:
    """Train one memory until it passes, or for ``num_steps`` steps.

    Args:
        memory: one of ``gtm.memory.memory_names()``.
        num_steps: the most steps of training, each on lists of one length.
        batch_size: lists in a step.
        bits: size of a vector.
        max_length: the longest list.
        learning_rate: Adam's.
        seed: of the weights and of the lists trained on.
        eval_every: steps from one evaluation to the next.
        report: told of every evaluation in a line.
        **options: of the memory, which is given those it knows.
    """
    network = build_network(memory, bits, seed, **options)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    held_out = held_out_lists(max_length, bits)
    steps, errors = [0], [bit_error(network, held_out)]
    seconds = 0.0
    for step in range(1, num_steps + 1):
        begun = time.perf_counter()
        length = int(torch.randint(1, max_length + 1, (), generator=generator))
        inputs, targets = draw_lists(length, batch_size, bits, generator)
        loss = F.binary_cross_entropy_with_logits(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM, error_if_nonfinite=True)
        optimizer.step()
        seconds += time.perf_counter() - begun
        if step % eval_every == 0 or step == num_steps:
            steps.append(step)
            errors.append(bit_error(network, held_out))
            report(f"{memory:14}step {step:>6,}   bit error {errors[-1]:.4f}")
            if errors[-1] < PASSED:
                break
    parameters = sum(p.numel() for p in network.parameters())
    return Curve(memory, parameters, steps, errors, seconds / steps[-1])


@command()
@memories_option("vrnn", "ntm", "lru", "dnc")
@size_option("-n", "--num-steps", default=1000, help="The most steps.")
@size_option("-b", "--batch-size", default=16)
@size_option("--bits", default=8, help="Size of a vector.")
@size_option("--max-length", default=10, help="Vectors in a list.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True, max=1), default=3e-3)
@size_option("--hidden-dim", default=64, help="Of the LSTM.")
@size_option("--slots", default=20)
@size_option("--heads", default=1, help="Reads in a step.")
@size_option("--word-size", default=16, help="Of a slot.")
@click.option(
    "--initialisation",
    type=click.Choice(get_args(Initialisation)),
    show_default="the memory's",
    help="Of the memories with slots.",
)
@size_option("--eval-every", default=50, help="Steps between two looks.")
@click.option("--seed", type=click.IntRange(0, HELD_OUT_SEED - 1), default=0)
def main(memories: list[str], seed: int, initialisation: str | None, **options: Any) -> None:
    """Train memories to copy lists of random bits, on one CPU thread."""
    if initialisation is not None:
        options["initialisation"] = initialisation
    with refusing_bad_input():
        if math.isnan(options["learning_rate"]):
            raise ValueError("--learning-rate: nan is not a number")
        for memory in memories:
            build_network(memory, seed=seed, **options)
    torch.set_num_threads(1)
    curves = [train_copy(memory, seed=seed, report=click.echo, **options) for memory in memories]

    click.echo(
        f"\nCopying 1 to {options['max_length']} vectors of {options['bits']} bits, seed {seed}; "
        f"passed: bit error below {PASSED}"
    )
    click.echo(
        f"{'':14}{'parameters':>10}{'ms a step':>12}{'steps':>9}{'bit error':>12}{'passed':>9}"
    )
    for curve in curves:
        click.echo(
            f"{curve.memory:14}{curve.parameters:>10,}{1e3 * curve.seconds_per_step:>12.1f}"
            f"{curve.steps[-1]:>9,}{curve.errors[-1]:>12.4f}{'yes' if curve.passed else 'no':>9}"
        )


if __name__ == "__main__":
    main()
