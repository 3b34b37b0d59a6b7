"""How long is a gradient step, against hand-written PyTorch, XLA, and what the machine can do?

    python benchmarks/step_time.py
    python benchmarks/step_time.py --memory vrnn --memory ntm --num-steps 25 --batch-size 16
    python benchmarks/step_time.py --memory dnc --contestant stacked --profile
    python benchmarks/step_time.py --device cuda --matmul-precision high

Contestants, all with the same sizes of network, the same weights at first, the same batch, Adam and
a gradient clip:

- ``hand-written``: a plain PyTorch loop as a careful person writes it (``benchmarks/handwritten``):
  encoder once before the loop, ``nn.LSTMCell``, memory and posterior in it, decoder once after it
  (and the prior, with ``--posterior direct``), the KL in closed form.  A test holds its loss and
  its gradients to be the library's.
- ``XLA scan``: the same in JAX (``benchmarks/xla``), compiled to one program; held to be the same
  by a test.  It needs the extra ``benchmark``.
- ``stacked``, ``per step``: this library's two site layouts; the first is what
  ``examples/train.py`` trains.
- ``bfloat16``: the first with ``--precision bfloat16``; ``compiled, 5`` and the like, which are not
  among those run by default: with ``--compile-steps 5``; ``captured``: on CUDA, as it is trained
  there, its losses read after every step.
- ``naive pair``: a Pyro model and guide as the tutorials teach them: two functions, each with its
  own loop, every network called in every step, ``pyro.optim.ClippedAdam``; once with Pyro's
  validation off and once with it on, which is Pyro's default.  Its memory is the hand-written one.

The contestants take turns, one step each, and wait for the device.  The table gives

- the median time of each, and medians of the ratios to others' steps of the same turn;
- the most memory that a step needs beside weights, moments and frames: in PyTorch what its
  allocator gives out (on the CPU by its profiler), in JAX what XLA planned when it compiled;
- the time as a multiple of the *floor*: the longer of the step's matrix products at the rate of
  large float32 products on this machine, and its traffic at the rate of a large copy, both measured
  first; ``contestants/floor.py`` says what is counted.

``--matmul-precision`` is for all.  With ``high`` or ``medium`` GPUs multiply in TensorFloat32 or
bfloat16, and so may PyTorch on a CPU; XLA on a CPU stays with float32.

With ``--profile`` it then shows where the time of the stacked layout goes.  The profiler costs
time for each operator, so that parts with many small ones look somewhat longer than they are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import NamedTuple

import click
import pyro
import torch
from contestants import backend, floor, parts
from contestants.measure import Contestant, Times, allocated, ratio, time_in_turns
from contestants.models import EVENT, Product, Sizes, build_networks, build_product, copy_weights
from contestants.steps import ASKED_FOR, NAMES, PAIR, REFERENCE, SCAN, SETTINGS, in_pytorch, library
from handwritten import MEMORIES, Networks
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.experiments.build import pick_device

MEBI = 2**20
PROFILED = "stacked"
CAPTURED = "captured"
CLOCKS = {"wall": time.perf_counter, "process": time.process_time}
OPERATORS = 12  # how many are shown


class Setup(NamedTuple):
    """What is timed."""

    memory: str
    corrects: bool
    sizes: Sizes
    num_steps: int
    batch_size: int
    device: torch.device
    precision: str

    def draw(self) -> Tensor:
        """A batch of frames: ``(T, B, *EVENT)``, on the device."""
        shape = (self.num_steps, self.batch_size, *EVENT)
        return (torch.rand(shape) > 0.8).float().to(self.device)

    def build(self) -> tuple[Product, Networks]:
        """The library's networks and the hand-written ones, with the same weights."""
        product = build_product(self.memory, self.corrects, self.sizes)
        networks = build_networks(self.memory, self.corrects, self.sizes)
        copy_weights(product, networks)
        product.modules().to(self.device)
        return product, networks.to(self.device)


def build_contestant(label: str, setup: Setup, product: Product, networks: Networks) -> Contestant:
    """One of ``NAMES``, with a copy of these weights."""
    if label != SCAN:
        return in_pytorch(label, product, networks)
    from contestants.scan import ScanContestant

    return ScanContestant(setup.memory, networks, setup.sizes, setup.device, setup.precision)


def build_contestants(
    setup: Setup, labels: list[str]
) -> tuple[dict[str, Contestant], dict[str, int]]:
    """Those asked for, each with its copy of the same weights; and the peak memory of each."""
    product, networks = setup.build()
    frames = setup.draw()
    contestants, peaks = {}, {}
    for label in labels:
        before = allocated(setup.device)
        contestant = build_contestant(label, setup, product, networks)
        peaks[label] = contestant.peak(contestant.prepare(frames), before)
        contestants[label] = contestant
    return contestants, peaks


COLUMNS = {"to hand-written": REFERENCE, "to naive pair": PAIR, "to XLA scan": SCAN}
HEADER = (
    f"{'':15}{'':24}{'ms a step':>10}"
    + "".join(f"{column:>17}" for column in COLUMNS)
    + f"{'peak MiB':>10}{'x floor':>9}"
)


def table(name: str, times: Times, peaks: Mapping[str, int], least: float) -> str:
    """A line for each contestant; ``least`` is the floor, in seconds."""
    lines = []
    for contestant, seconds in times.items():
        median = statistics.median(seconds)
        ratios = "".join(
            f"{ratio(seconds, times[other]):17.2f}" if other in times else f"{'-':>17}"
            for other in COLUMNS.values()
        )
        peak = peaks[contestant] / MEBI
        lines.append(
            f"{name:15}{contestant:24}{1e3 * median:10.1f}{ratios}{peak:10.1f}{median / least:9.1f}"
        )
        name = ""
    return "\n".join(lines)


def describe_floor(work: floor.Work, machine: floor.Machine, least: floor.Floor) -> str:
    return (
        f"{'':15}floor {1e3 * least.least:.2f} ms: {work.operations / 1e9:.2f} G operations at "
        f"{machine.operations / 1e9:.0f} G/s take {1e3 * least.arithmetic:.2f} ms, "
        f"{work.traffic / 1e6:.0f} MB at {machine.bandwidth / 1e9:.1f} GB/s "
        f"{1e3 * least.traffic:.2f} ms"
    )


def describe_parts(title: str, rows: list[parts.Part], total: float, cuda: bool) -> str:
    """A table of times; ``total`` is what the shares are of, in milliseconds."""
    lines = [
        f"{title:44}{'share':>8}{'operators ms':>14}{'Python ms':>11}{'calls':>8}"
        + (f"{'kernels ms':>12}" if cuda else "")
    ]
    for row in rows:
        share = (row.operators + row.between) / total
        lines.append(
            f"{row.name[:43]:44}{share:8.1%}{row.operators:14.2f}{row.between:11.2f}{row.calls:8.0f}"
            + (f"{row.device:12.2f}" if cuda else "")
        )
    return "\n".join(lines)


def profile_product(setup: Setup) -> str:
    """Where the time of ``PROFILED`` goes."""
    product, _ = setup.build()
    contestant = library(product, f"{PROFILED}, profiled", SETTINGS[PROFILED])
    batch = contestant.prepare(setup.draw())
    alone = statistics.median(
        time_in_turns({PROFILED: contestant}, setup.draw, parts.STEPS)[PROFILED]
    )
    events = parts.sort_into_parts(parts.record(product, contestant, batch))
    rows = parts.by_part(events, parts.STEPS)
    total = sum(row.operators + row.between for row in rows)
    cuda = setup.device.type == "cuda"
    return "\n".join(
        [
            f"{setup.memory}, {PROFILED}: {total:.1f} ms a step under the profiler, "
            f"{1e3 * alone:.1f} without it",
            describe_parts("part", rows, total, cuda),
            "",
            describe_parts(
                "operator, own time",
                parts.by_operator(events, parts.STEPS)[:OPERATORS],
                total,
                cuda,
            ),
        ]
    )


def refuse_strangers(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> list[str]:
    """The memories asked for, once each, if all have something to be compared with."""
    for name in names:
        if name not in MEMORIES:
            raise click.BadParameter(
                f"{name!r} has no hand-written counterpart to be timed against; "
                f"those that have: {', '.join(MEMORIES)}."
            )
    return list(dict.fromkeys(names))


def in_order(_: click.Context, __: click.Parameter, labels: tuple[str, ...]) -> list[str]:
    """Those asked for, or all but those that must be."""
    return [label for label in NAMES if label in (labels or set(NAMES).difference(ASKED_FOR))]


def find_device(_: click.Context, __: click.Parameter, name: str) -> torch.device:
    try:
        return pick_device(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--memory",
    "memories",
    multiple=True,
    default=["introspective"],
    callback=refuse_strangers,
    help=f"Repeatable: {', '.join(name for name in gtm.memory_names() if name in MEMORIES)}.",
)
@click.option(
    "--contestant",
    "labels",
    multiple=True,
    type=click.Choice(NAMES),
    callback=in_order,
    help="Repeatable.  [default: all but the compiled]",
)
@click.option("--posterior", type=click.Choice(["correction", "direct"]), default="correction")
@click.option("-T", "--num-steps", type=click.IntRange(1), default=20, help="Frames in a sequence.")
@click.option("-b", "--batch-size", type=click.IntRange(1), default=32)
@click.option("--width", type=click.IntRange(1), default=400, help="Of the MLPs.")
@click.option("--hidden-dim", type=click.IntRange(1), default=128, help="Of the LSTM.")
@click.option("--latent-dim", type=click.IntRange(1), default=32)
@click.option("--slots", type=click.IntRange(1), show_default="frames in a sequence")
@click.option("--heads", type=click.IntRange(1), default=3)
@click.option("--turns", type=click.IntRange(1), default=40, help="Steps of each contestant.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu", callback=find_device
)
@click.option("--threads", type=click.IntRange(1), show_default="as PyTorch has it", help="CPU's.")
@click.option(
    "--matmul-precision", type=click.Choice(["highest", "high", "medium"]), default="highest"
)
@click.option(
    "--clock",
    type=click.Choice(list(CLOCKS)),
    default="wall",
    help="process: time on the CPU, which other processes disturb least; for one thread.",
)
@click.option("--profile", "profiles", is_flag=True, help=f"Where the time of {PROFILED} goes.")
def main(
    memories: list[str],
    labels: list[str],
    posterior: str,
    num_steps: int,
    batch_size: int,
    width: int,
    hidden_dim: int,
    latent_dim: int,
    slots: int | None,
    heads: int,
    turns: int,
    device: torch.device,
    threads: int | None,
    matmul_precision: str,
    clock: str,
    profiles: bool,
) -> None:
    """Time one gradient step of each contestant, in turns."""
    corrects = posterior == "correction"
    sizes = Sizes(latent_dim, width, hidden_dim, num_steps if slots is None else slots, heads)
    try:
        for name in memories:
            build_product(name, corrects, sizes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(matmul_precision)
    backend.configure(torch.get_num_threads())
    if device.type != "cuda" and CAPTURED in labels:
        labels.remove(CAPTURED)
    if SCAN in labels and (reason := backend.why_not(device)):
        click.echo(f"No {SCAN}: {reason}")
        labels.remove(SCAN)

    click.echo(
        f"posterior {posterior}: T={num_steps}, B={batch_size}, {sizes.slots} slots, "
        f"{heads} heads, {device}, {torch.get_num_threads()} threads, "
        f"{clock} clock, matmul precision {matmul_precision}, PyTorch {torch.__version__}, "
        f"{turns} turns"
    )
    machine = floor.measure(device)
    click.echo(HEADER)
    for name in memories:
        pyro.set_rng_seed(0)
        pyro.clear_param_store()
        setup = Setup(name, corrects, sizes, num_steps, batch_size, device, matmul_precision)
        work = floor.count(setup.build()[1], setup.draw().flatten(2))
        least = floor.floor(work, machine)
        click.echo(describe_floor(work, machine, least))
        contestants, peaks = build_contestants(setup, labels)
        times = time_in_turns(contestants, setup.draw, turns, CLOCKS[clock])
        click.echo(table(name, times, peaks, least.least))
        if profiles:
            click.echo(f"\n{profile_product(setup)}\n")


if __name__ == "__main__":
    main()
