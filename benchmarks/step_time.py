"""Time of a gradient step, against hand-written PyTorch, XLA, and what the machine can do.

    python benchmarks/step_time.py
    python benchmarks/step_time.py --memory vrnn --memory ntm --num-steps 25 --batch-size 16
    python benchmarks/step_time.py --memory dnc --contestant stacked --profile
    python benchmarks/step_time.py --device cuda --matmul-precision high
    python benchmarks/step_time.py -T 1000 -b 4 --contestant stacked --contestant "checkpointed, 32"

Contestants, with the same sizes, weights at first, batches, Adam and gradient clip:

- ``hand-written``: a plain PyTorch loop as a careful person writes it (``benchmarks/handwritten``):
  encoder before the loop, ``nn.LSTMCell``, memory, prior and posterior in it, decoder after it, the
  KL in closed form.  A test holds its loss and its gradients to be the library's.
- ``XLA scan``: the same in JAX (``benchmarks/xla``), compiled to one program; held to be the same
  by a test.  It needs the extra ``benchmark``.
- ``stacked``, ``per step``: this library's two site layouts; the first is what
  ``examples/train.py`` trains.  ``bfloat16``: the first with ``--precision bfloat16``;
  ``captured``: as it is trained on CUDA, its losses read after every step.  Only where asked for:
  ``compiled, 4`` and the like, with ``--compile-steps 4``, on CUDA ``captured, compiled, 5``;
  ``checkpointed, 32``, with ``--checkpoint-every 32``, which is for sequences of hundreds of steps;
  and ``oneDNN``, with ``--products onednn``, which is for some processors (``products.py``).  All
  others have ``--products mkl``.
- ``naive pair``: a Pyro model and guide as the tutorials teach them: two functions, each with its
  own loop, every network called in every step, ``pyro.optim.ClippedAdam``; once with Pyro's
  validation off and once with it on, which is Pyro's default.  Its memory is the hand-written one.

The contestants take turns, one step each, and wait for the device.  The table gives

- the median time of each, the updates a second, and the hours that the paper's million updates
  would take at that rate, with nothing drawn, evaluated or saved between them;
- medians of the ratios to others' steps of the same turn;
- the most memory that a step needs beside weights, moments and frames: in PyTorch what its
  allocator gives out (on the CPU by its profiler), in JAX what XLA planned when it compiled;
- the time as a multiple of the *roofline* (``contestants/roofline.py``): the longer of the step's
  matrix products at the rate of large float32 products on this machine, and its traffic at the rate
  of a large copy, both measured first.

With ``--matmul-precision high`` or ``medium`` GPUs multiply in TensorFloat32 or bfloat16, and so
may PyTorch on a CPU; XLA on a CPU stays with float32.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import click
import pyro
import torch
from torch import Tensor

from common.command_line import (
    command,
    device_option,
    names_option,
    refusing_bad_input,
    size_option,
)
from common.measure import ratio
from contestants import backend, roofline
from contestants.models import EVENT, PIXELS, Product, build_product, copy_weights
from contestants.steps import ASKED_FOR, CAPTURED, NAMES, REFERENCE, SCAN, STACKED, in_pytorch
from contestants.turns import Contestant, TorchContestant, allocated, time_in_turns
from handwritten import MEMORIES, Networks, Sizes

CLOCKS = {"wall": time.perf_counter, "process": time.process_time}
MILLION = 1_000_000


class Setup(NamedTuple):
    """The model and batch that are timed."""

    memory: str
    sizes: Sizes
    num_steps: int
    batch_size: int
    device: torch.device
    precision: str = "highest"

    def draw(self) -> Tensor:
        """A batch of frames: ``(T, B, *EVENT)``, on the device."""
        shape = (self.num_steps, self.batch_size, *EVENT)
        return (torch.rand(shape) > 0.8).float().to(self.device)

    def build(self) -> tuple[Product, Networks]:
        """The library's networks and the hand-written ones, with the same weights."""
        product = build_product(self.memory, self.sizes)
        networks = Networks(self.memory, PIXELS, self.sizes)
        copy_weights(product, networks)
        product.modules().to(self.device)
        return product, networks.to(self.device)

    def contestant(self, label: str, product: Product, networks: Networks) -> Contestant:
        """One of ``NAMES``, with a copy of these weights."""
        if label != SCAN:
            return in_pytorch(label, product, networks)
        from contestants.scan import ScanContestant

        return ScanContestant(self.memory, networks, self.sizes, self.device, self.precision)

    def contestants(self, labels: list[str]) -> tuple[dict[str, Contestant], dict[str, int]]:
        """Those asked for, each with its copy of the same weights; and the peak memory of each."""
        product, networks = self.build()
        frames = self.draw()
        contestants, peaks = {}, {}
        for label in labels:
            before = allocated(self.device)
            contestant = self.contestant(label, product, networks)
            peaks[label] = contestant.peak(contestant.prepare(frames), before)
            contestants[label] = contestant
        return contestants, peaks


COLUMNS = [REFERENCE, SCAN, STACKED]
HEADER = (
    f"{'':24}{'ms a step':>10}{'a second':>10}{'a million, h':>14}"
    + "".join(f"{f'to {column}':>17}" for column in COLUMNS)
    + f"{'peak MiB':>10}{'x roofline':>12}"
)


def table(times: Mapping[str, list[float]], peaks: Mapping[str, int], least: float) -> str:
    """A line for each contestant; ``least`` is the roofline, in seconds."""
    lines = [HEADER]
    for label, seconds in times.items():
        median = statistics.median(seconds)
        ratios = "".join(
            f"{ratio(seconds, times[other]):17.2f}" if other in times else f"{'-':>17}"
            for other in COLUMNS
        )
        lines.append(
            f"{label:24}{1e3 * median:10.1f}{1 / median:10.2f}{MILLION * median / 3600:14.1f}"
            f"{ratios}{peaks[label] / 2**20:10.1f}{median / least:12.1f}"
        )
    return "\n".join(lines)


def describe_roofline(work: roofline.Work, machine: roofline.Machine) -> str:
    return (
        f"roofline {1e3 * roofline.least_time(work, machine):.2f} ms: "
        f"{work.operations / 1e9:.2f} G operations at {machine.operations / 1e9:.0f} G/s, "
        f"{work.traffic / 1e6:.0f} MB at {machine.bandwidth / 1e9:.1f} GB/s"
    )


def in_order(_: click.Context, __: click.Parameter, labels: tuple[str, ...]) -> list[str]:
    """Those asked for, or all but those that must be."""
    return [label for label in NAMES if label in (labels or set(NAMES).difference(ASKED_FOR))]


@command()
@names_option("--memory", "memories", list(MEMORIES), ["introspective"])
@click.option(
    "--contestant",
    "labels",
    multiple=True,
    type=click.Choice(NAMES),
    callback=in_order,
    help="Repeatable.  [default: all but the compiled, the checkpointed and oneDNN]",
)
@size_option("-T", "--num-steps", default=20, help="Frames in a sequence.")
@size_option("-b", "--batch-size", default=32)
@size_option("--width", default=400, help="Of the MLPs.")
@size_option("--hidden-dim", default=128, help="Of the LSTM.")
@size_option("--latent-dim", default=32)
@size_option("--slots", default=20)
@size_option("--heads", default=3)
@size_option("--turns", default=40, help="Steps of each contestant.")
@device_option()
@size_option("--threads", default=None, show_default="as PyTorch has it", help="CPU's.")
@click.option(
    "--matmul-precision", type=click.Choice(["highest", "high", "medium"]), default="highest"
)
@click.option(
    "--clock",
    type=click.Choice(list(CLOCKS)),
    default="wall",
    help="process: time on the CPU, which other processes disturb least; for one thread.",
)
@click.option("--profile", "profiles", is_flag=True, help="Also a step's operators, in PyTorch.")
def main(
    memories: list[str],
    labels: list[str],
    num_steps: int,
    batch_size: int,
    width: int,
    hidden_dim: int,
    latent_dim: int,
    slots: int,
    heads: int,
    turns: int,
    device: torch.device,
    threads: int | None,
    matmul_precision: str,
    clock: str,
    profiles: bool,
) -> None:
    """Time one gradient step of each contestant, in turns."""
    sizes = Sizes(latent_dim, width, hidden_dim, slots, heads)
    with refusing_bad_input():
        for name in memories:
            build_product(name, sizes)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(matmul_precision)
    backend.configure(torch.get_num_threads())
    if device.type != "cuda":
        labels = [label for label in labels if not label.startswith(CAPTURED)]
    if SCAN in labels and (reason := backend.why_not(device)):
        click.echo(f"No {SCAN}: {reason}")
        labels.remove(SCAN)

    click.echo(
        f"T={num_steps}, B={batch_size}, {slots} slots, {heads} heads, {device}, "
        f"{torch.get_num_threads()} threads, {clock} clock, matmul precision {matmul_precision}, "
        f"PyTorch {torch.__version__}, {turns} turns"
    )
    machine = roofline.measure(device)
    for name in memories:
        pyro.set_rng_seed(0)
        pyro.clear_param_store()
        setup = Setup(name, sizes, num_steps, batch_size, device, matmul_precision)
        work = roofline.count(setup.build()[1], setup.draw().flatten(2))
        click.echo(f"\n{name}, {describe_roofline(work, machine)}")
        contestants, peaks = setup.contestants(labels)
        times = time_in_turns(contestants, setup.draw, turns, CLOCKS[clock])
        click.echo(table(times, peaks, roofline.least_time(work, machine)))
        for label, contestant in contestants.items():
            if profiles and isinstance(contestant, TorchContestant):
                click.echo(f"\n{name}, {label}:\n{contestant.profile(setup.draw())}")


if __name__ == "__main__":
    main()
