"""How does the time of a memory grow with the length of sequences, its slots and its heads?

    python benchmarks/memory_growth.py
    python benchmarks/memory_growth.py --memory dnc --slots 64,128,256,512 --output runs/growth

Timed is a sequence of T steps of a memory alone, forward and backward (to the weights and to the
latents), on one CPU thread: no Pyro, no other networks.  One of the three sizes grows, the others
stay at the middle of their lists.  The times are medians of repeats in turns, each memory and size
once in every repeat.

The exponent p of a doubling says that the time grew by 2^p.  Time grows with T, so p = 1 there; a
state of fixed size makes the cost of a step the same throughout a sequence.  With the slots N,
every memory but one has work that grows with N at most, under which lies a constant: p goes from 0
to 1.  **The DNC's is quadratic in N**: it keeps how much each slot was written after each other
slot, N x N links for every sequence of the batch, so its p goes to 2 as N grows; with many slots
take another memory.  What it holds for the backward pass grows likewise, and is not measured here.
"""

from __future__ import annotations

import csv
import inspect
import io
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm import plotting
from pyro_gtm.files import write_atomically
from pyro_gtm.memory.registry import memory_class
from pyro_gtm.plotting.style import COLOURS, STYLE, TICKS

GROWING = {"num_steps": "steps T", "slots": "slots N", "heads": "heads R"}
LEAST_GAP = 0.05  # between the labels of two lines, as a share of the axis


class Sizes(NamedTuple):
    """What may grow; None where a memory has no such option."""

    num_steps: int
    slots: int | None
    heads: int | None


Key = tuple[str, Sizes]
"""A memory and its sizes."""

Run = Callable[[], float]
"""Does a sequence; the seconds it took."""

Grid = Mapping[str, Sequence[int]]
"""What each of ``GROWING`` grows through."""


class Curve(NamedTuple):
    """One memory while one size grows."""

    memory: str
    grown: str
    sizes: list[Sizes]
    seconds: list[float]

    @property
    def values(self) -> list[int]:
        """Those of the size that grows."""
        return [getattr(sizes, self.grown) for sizes in self.sizes]

    def exponents(self) -> list[float]:
        """log(growth of time) / log(growth of size), from each size to the next."""
        values, seconds = self.values, self.seconds
        return [
            math.log(seconds[i + 1] / seconds[i]) / math.log(values[i + 1] / values[i])
            for i in range(len(values) - 1)
        ]


def middle_of(values: Sequence[int]) -> int:
    """Where a size stays while another grows."""
    return values[(len(values) - 1) // 2]


def options_of(memory: str) -> set[str]:
    return set(inspect.signature(memory_class(memory)).parameters)


def sizes_of(memory: str, grown: str, grid: Grid) -> list[Sizes]:
    """What to measure of a memory while ``grown`` grows; nothing if it has no such option."""
    known = options_of(memory) | {"num_steps"}
    if grown not in known:
        return []
    base = {
        name: middle_of(grid[name]) if name in known and name in grid else None
        for name in Sizes._fields
    }
    return [Sizes(**{**base, grown: value}) for value in grid[grown]]


def build_memory(name: str, sizes: Sizes, **options: int) -> gtm.MemoryModule:
    """The memory, given those of the options that it knows.

    Raises:
        ValueError: it refuses them.
    """
    options.update(
        {key: value for key, value in sizes._asdict().items() if value and key != "num_steps"}
    )
    known = options_of(name)
    return gtm.make_memory(name, **{key: options[key] for key in options if key in known})


def sequence(memory: gtm.MemoryModule, num_steps: int, batch_size: int) -> Run:
    """A sequence of the memory alone, forward and backward."""
    latents = torch.randn(num_steps, batch_size, memory.latent_dim, requires_grad=True)

    def run() -> float:
        memory.zero_grad(set_to_none=True)
        latents.grad = None
        begun = time.perf_counter()
        state = memory.initial_state((batch_size,))
        contexts: list[Tensor] = []
        for latent in latents:
            state, context, _ = memory.step(state, latent)
            contexts.append(context)
        torch.stack(contexts).square().mean().backward()
        return time.perf_counter() - begun

    return run


def build_runs(
    memories: Sequence[str], grid: Grid, *, batch_size: int, **options: int
) -> dict[Key, Run]:
    """A sequence to be timed for every memory at every size, each once.

    Args:
        memories: some of ``gtm.memory_names()``.
        grid: what each size grows through.
        batch_size: sequences at once.
        **options: of the memories; each is given those it knows.

    Raises:
        ValueError: a memory refuses its options.
    """
    return {
        (name, sizes): sequence(build_memory(name, sizes, **options), sizes.num_steps, batch_size)
        for name in memories
        for grown in grid
        for sizes in sizes_of(name, grown, grid)
    }


def measure(
    runs: Mapping[Key, Run], repeats: int, report: Callable[[str], None] = lambda line: None
) -> dict[Key, float]:
    """Median seconds of each run: all of them once to warm, then once in each repeat."""
    times: dict[Key, list[float]] = {key: [] for key in runs}
    for run in runs.values():
        run()
    for repeat in range(repeats):
        for key, run in runs.items():
            times[key].append(run())
        report(f"repeat {repeat + 1} of {repeats}")
    return {key: statistics.median(seconds) for key, seconds in times.items()}


def curves_of(memories: Sequence[str], grid: Grid, medians: Mapping[Key, float]) -> list[Curve]:
    """One for each memory and each size that it has."""
    curves = []
    for grown in grid:
        for name in memories:
            sizes = sizes_of(name, grown, grid)
            if sizes:
                curves.append(Curve(name, grown, sizes, [medians[name, each] for each in sizes]))
    return curves


def curves_as_csv(curves: Iterable[Curve], **constants: int) -> bytes:
    """One row a time; the exponent is that of the step from the row before."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["memory", "grown", *Sizes._fields, *constants, "ms_a_sequence", "ms_a_step", "exponent"]
    )
    for curve in curves:
        exponents = ["", *(f"{exponent:.3f}" for exponent in curve.exponents())]
        for sizes, seconds, exponent in zip(curve.sizes, curve.seconds, exponents, strict=True):
            ms = 1e3 * seconds
            row = [curve.memory, curve.grown, *sizes, *constants.values()]
            writer.writerow([*row, f"{ms:.4f}", f"{ms / sizes.num_steps:.4f}", exponent])
    return text.getvalue().encode()


def table(curves: Sequence[Curve], grown: str) -> str:
    """Milliseconds of a sequence, and the exponent of the last two sizes."""
    curves = [curve for curve in curves if curve.grown == grown]
    values = "".join(f"{value:>9}" for value in curves[0].values)
    lines = [f"{GROWING[grown]:15}{values}{'exponent':>11}"]
    for curve in curves:
        times = "".join(f"{1e3 * seconds:>9.1f}" for seconds in curve.seconds)
        lines.append(f"{curve.memory:15}{times}{curve.exponents()[-1]:>11.2f}")
    return "\n".join(lines)


def draw_growth(curves: Sequence[Curve], grid: Grid, batch_size: int) -> Figure:
    """A panel for each size that grows, both axes logarithmic, each line with its last exponent."""
    names = list(dict.fromkeys(curve.memory for curve in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.2), layout="constrained")
        panels = figure.subplots(1, len(grid), sharey=True, squeeze=False)[0]
        for axes, (grown, values) in zip(panels, grid.items(), strict=True):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            own = [curve for curve in curves if curve.grown == grown]
            for curve in own:
                look = names.index(curve.memory) % len(COLOURS)
                axes.plot(
                    curve.values,
                    [1e3 * seconds for seconds in curve.seconds],
                    label=curve.memory,
                    color=COLOURS[look],
                    marker="os^DvPX"[look],
                )
            axes.xaxis.set_major_locator(FixedLocator(list(values)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(GROWING[grown])
            held = [name for name in grid if name != grown]
            axes.set_title(", ".join(f"{GROWING[n][-1]} = {middle_of(grid[n])}" for n in held))
            axes.tick_params(**TICKS)
        panels[0].set_ylabel(f"ms, {batch_size} sequences, forward and backward")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names)
        )
        for axes, grown in zip(panels, grid, strict=True):
            label_exponents(axes, [curve for curve in curves if curve.grown == grown])
    return figure


def label_exponents(axes: Axes, curves: Sequence[Curve]) -> None:
    """Write the last exponent at the end of each line, no two in the same place."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    below = low
    for curve in sorted(curves, key=lambda curve: curve.seconds[-1]):
        end = math.log10(1e3 * curve.seconds[-1])
        below = max(end, below + LEAST_GAP * (high - low))
        line = next(line for line in axes.lines if line.get_label() == curve.memory)
        axes.annotate(
            f"${GROWING[curve.grown][-1]}^{{{curve.exponents()[-1]:.1f}}}$",
            (curve.values[-1], 10**below),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,
        )


class Growing(click.ParamType):
    """Whole numbers with commas between them, each more than the one before."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(number) for number in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) < 2 or numbers[0] < 1 or any(a >= b for a, b in pairwise(numbers)):
            self.fail(f"{value!r} must be growing whole numbers, at least two, such as 8,16", param)
        return numbers


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--memory",
    "memories",
    type=click.Choice(gtm.memory_names()),
    multiple=True,
    default=gtm.memory_names(),
    help="May be given more than once.",
)
@click.option("-T", "--num-steps", type=Growing(), default="10,20,40,80", help="Of a sequence.")
@click.option("--slots", type=Growing(), default="16,32,64,128,256")
@click.option("--heads", type=Growing(), default="1,2,4,8")
@click.option("-b", "--batch-size", type=click.IntRange(1), default=16)
@click.option("--latent-dim", type=click.IntRange(1), default=32)
@click.option("--hidden-dim", type=click.IntRange(1), default=128, help="Of the LSTM.")
@click.option("--word-size", type=click.IntRange(1), default=32, help="Of a slot.")
@click.option("--repeats", type=click.IntRange(1), default=25, help="Of every measurement.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    help="Folder for memory_growth.csv and memory_growth.png.",
)
def main(
    memories: tuple[str, ...],
    num_steps: tuple[int, ...],
    slots: tuple[int, ...],
    heads: tuple[int, ...],
    batch_size: int,
    latent_dim: int,
    hidden_dim: int,
    word_size: int,
    repeats: int,
    output: Path | None,
) -> None:
    """Time memories as sequences, slots and heads grow, on one CPU thread."""
    memories = tuple(dict.fromkeys(memories))
    lists = {"num_steps": num_steps, "slots": slots, "heads": heads}
    grid = {  # a panel and a table for each that some memory has
        grown: values
        for grown, values in lists.items()
        if any(sizes_of(memory, grown, lists) for memory in memories)
    }
    options = {"latent_dim": latent_dim, "hidden_dim": hidden_dim, "word_size": word_size}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
        runs = build_runs(memories, grid, batch_size=batch_size, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"{error.filename} cannot be used: {error.strerror}") from error

    curves = curves_of(memories, grid, measure(runs, repeats, report=click.echo))
    click.echo(
        f"\nB={batch_size}, latent {latent_dim}, LSTM {hidden_dim}, words {word_size}, one thread, "
        f"PyTorch {torch.__version__}, medians of {repeats}; ms a sequence, forward and backward; "
        "the exponent is of the last two sizes"
    )
    for grown in grid:
        click.echo("\n" + table(curves, grown))
    if output is not None:
        numbers = curves_as_csv(curves, batch_size=batch_size, **options)
        write_atomically(output / "memory_growth.csv", numbers)
        plotting.save(draw_growth(curves, grid, batch_size), output / "memory_growth.png")
        click.echo(f"\nwrote {output / 'memory_growth.csv'} and {output / 'memory_growth.png'}")


if __name__ == "__main__":
    main()
