"""Can a memory keep what it is given?  Supervised copying of random bits.

    python benchmarks/copy_task.py
    python benchmarks/copy_task.py --memory ntm --seed 1 --output runs/copy
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
over held-out lists of all lengths; it then stops.  NTM, LRU and DNC begin prepared, as everywhere,
unless ``--initialisation plain`` is given.  No Pyro: a memory is a module with one pure step.
"""

from __future__ import annotations

import csv
import inspect
import io
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import click
import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor, nn
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.files import write_atomically
from pyro_gtm.experiments.plotting.style import GREY, STYLE, TICKS, integer_ticks
from pyro_gtm.memory.registry import memory_class
from pyro_gtm.memory.slots import Initialisation

PASSED = 0.01
FLAGS = 2
HELD_OUT_SEED = 2**31  # more than any --seed, so that no run trains on the held-out lists
HELD_OUT_LISTS = 32  # of each length
CLIP_NORM = 1.0  # most gradients are smaller; this cuts the spikes, of which LRU has most
LEAST_DRAWN = 1e-3

Copier = Callable[[Tensor], Tensor]
"""From the inputs of :class:`Lists` to the logits of its targets."""


class Lists(NamedTuple):
    """A batch of lists, all of one length n, so that nothing is padded."""

    inputs: Tensor
    """What is seen, step by step: ``(2 * n + 2, batch, bits + FLAGS)``."""

    targets: Tensor
    """What is to be said in the last n steps: ``(n, batch, bits)``."""


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


def build_network(memory_name: str, bits: int, seed: int, **sizes: int | str) -> CopyNetwork:
    """An untrained network; its memory is given those of the sizes that it knows.

    Raises:
        ValueError: the memory is unknown, or refuses its sizes.
    """
    known = inspect.signature(memory_class(memory_name)).parameters
    options = {name: size for name, size in sizes.items() if name in known}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CopyNetwork(gtm.make_memory(memory_name, latent_dim=bits + FLAGS, **options), bits)


class Curve(NamedTuple):
    """What came of one run."""

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

    def __str__(self) -> str:
        if self.passed:
            return f"{self.memory}: passed at step {self.steps[-1]:,}"
        return f"{self.memory}: {self.errors[-1]:.3f} after {self.steps[-1]:,} steps"


def train_copy(
    memory_name: str,
    *,
    num_steps: int,
    batch_size: int = 16,
    bits: int = 8,
    max_length: int = 10,
    learning_rate: float = 3e-3,
    seed: int = 0,
    eval_every: int = 50,
    report: Callable[[str], None] = lambda line: None,
    **sizes: int | str,
) -> Curve:
    """Train one memory until it passes, or for ``num_steps`` steps.

    Args:
        memory_name: one of ``gtm.memory_names()``.
        num_steps: the most steps of training, each on lists of one length.
        batch_size: lists in a step.
        bits: size of a vector.
        max_length: the longest list.
        learning_rate: Adam's.
        seed: of the weights and of the lists trained on.
        eval_every: steps from one evaluation to the next.
        report: told of every evaluation in a line.
        **sizes: ``hidden_dim``, ``slots``, ``initialisation`` and so on; a memory is given those it
            knows.
    """
    network = build_network(memory_name, bits, seed, **sizes)
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
            report(f"{memory_name:14}step {step:>6,}   bit error {errors[-1]:.4f}")
            if errors[-1] < PASSED:
                break
    parameters = sum(p.numel() for p in network.parameters())
    return Curve(memory_name, parameters, steps, errors, seconds / steps[-1])


def draw_curves(curves: Sequence[Curve], title: str) -> Figure:
    """Bit error against steps, one line a memory; errors below ``LEAST_DRAWN`` lie at it."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            drawn = [max(error, LEAST_DRAWN) for error in curve.errors]
            axes.plot(curve.steps, drawn, label=str(curve), markevery=[-1], clip_on=False)
        axes.axhline(PASSED, color=GREY, linestyle="--", linewidth=0.8, zorder=0)
        axes.set_yscale("log")
        axes.set_ylim(LEAST_DRAWN, 1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(integer_ticks(8))
        axes.set_title(title)
        axes.set_xlabel("training step")
        axes.set_ylabel("bit error, held-out lists")
        axes.tick_params(**TICKS)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def curves_as_csv(curves: Iterable[Curve], seed: int) -> bytes:
    """One row an evaluation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["memory", "seed", "step", "bit_error"])
    for curve in curves:
        for step, error in zip(curve.steps, curve.errors, strict=True):
            writer.writerow([curve.memory, seed, step, f"{error:.6f}"])
    return text.getvalue().encode()


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--memory",
    "memories",
    type=click.Choice(gtm.memory_names()),
    multiple=True,
    default=["vrnn", "ntm", "lru", "dnc"],
    help="May be given more than once.",
)
@click.option("-n", "--num-steps", type=click.IntRange(1), default=1000, help="The most steps.")
@click.option("-b", "--batch-size", type=click.IntRange(1), default=16)
@click.option("--bits", type=click.IntRange(1), default=8, help="Size of a vector.")
@click.option("--max-length", type=click.IntRange(1), default=10, help="Vectors in a list.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True, max=1), default=3e-3)
@click.option("--hidden-dim", type=click.IntRange(1), default=64, help="Of the LSTM.")
@click.option("--slots", type=click.IntRange(1), default=20)
@click.option("--heads", type=click.IntRange(1), default=1, help="Reads in a step.")
@click.option("--word-size", type=click.IntRange(1), default=16, help="Of a slot.")
@click.option(
    "--initialisation",
    type=click.Choice(get_args(Initialisation)),
    default="prepared",
    help="Of the memories with slots.",
)
@click.option("--eval-every", type=click.IntRange(1), default=50, help="Steps between two looks.")
@click.option("--seed", type=click.IntRange(0, HELD_OUT_SEED - 1), default=0)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Folder for copy_task.csv and copy_task.png.",
)
def main(
    memories: tuple[str, ...],
    num_steps: int,
    batch_size: int,
    bits: int,
    max_length: int,
    learning_rate: float,
    hidden_dim: int,
    slots: int,
    heads: int,
    word_size: int,
    initialisation: str,
    eval_every: int,
    seed: int,
    output: Path | None,
) -> None:
    """Train memories to copy lists of random bits, on one CPU thread."""
    sizes: dict[str, int | str] = {
        "hidden_dim": hidden_dim,
        "slots": slots,
        "heads": heads,
        "word_size": word_size,
        "initialisation": initialisation,
    }
    memories = tuple(dict.fromkeys(memories))
    try:
        for memory in memories:
            build_network(memory, bits, seed, **sizes)
        if math.isnan(learning_rate):
            raise ValueError("--learning-rate must be a number")
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"{error.filename} cannot be used: {error.strerror}") from error
    torch.set_num_threads(1)
    curves = [
        train_copy(
            memory,
            num_steps=num_steps,
            batch_size=batch_size,
            bits=bits,
            max_length=max_length,
            learning_rate=learning_rate,
            seed=seed,
            eval_every=eval_every,
            report=click.echo,
            **sizes,
        )
        for memory in memories
    ]

    title = f"Copying 1 to {max_length} vectors of {bits} bits, seed {seed}"
    click.echo(f"\n{title}; passed: bit error below {PASSED}")
    click.echo(
        f"{'':14}{'parameters':>10}{'ms a step':>12}{'steps':>9}{'bit error':>12}{'passed':>9}"
    )
    for curve in curves:
        click.echo(
            f"{curve.memory:14}{curve.parameters:>10,}{1e3 * curve.seconds_per_step:>12.1f}"
            f"{curve.steps[-1]:>9,}{curve.errors[-1]:>12.4f}{'yes' if curve.passed else 'no':>9}"
        )
    if output is not None:
        write_atomically(output / "copy_task.csv", curves_as_csv(curves, seed))
        plotting.save(draw_curves(curves, title), output / "copy_task.png")
        click.echo(f"wrote {output / 'copy_task.csv'} and {output / 'copy_task.png'}")


if __name__ == "__main__":
    main()
