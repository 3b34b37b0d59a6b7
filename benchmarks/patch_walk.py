"""A walk over patches of an image, ours beside models of other papers, in one run.

    python benchmarks/patch_walk.py
    python benchmarks/patch_walk.py --contestant associative --contestant gtm-sm --seeds 2
    python benchmarks/patch_walk.py --minutes 5
    python benchmarks/patch_walk.py --observe 64 --train-observe 32 -n 300

A walker sees 8x8 pixels of a view of a room at a time, and is told its moves.  After the frames
that it is given, it says what it will see; it has been trained on shorter walks.  All contestants
have the same encoder, decoder, likelihood, latent, optimiser and batches.  The error is the mean
squared one of a predicted pixel (times 1,000), by how long ago the place was seen; beside it that
of always the mean of the training patches.  Minutes are of the processor, one thread: with
``--minutes`` all have the same, and as many steps as they can take in them.  Source of the task:
Fraccaro et al. 2018 (arXiv 1804.09401).
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import matplotlib as mpl
import pyro
import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.command_line import command, names_option, refusing_bad_input, size_option
from peers import gtm_sm, ours, rssm  # noqa: F401 (they register themselves)
from peers.contestants import CONTESTANTS
from peers.walks import PatchWalk, Walks
from pyro_gtm.experiments.plotting import save
from pyro_gtm.experiments.plotting.style import STYLE
from pyro_gtm.experiments.provenance import provenance
from pyro_gtm.internals.files import make_writable_folder, write_atomically

FILE = click.Path(path_type=Path, dir_okay=False)

PROVENANCE = ("commit", "date", "machine")
"""Of a table: what to know of where it comes from."""

TRAINING_SEED, HELD_OUT_SEED = 1, 2  # of the rooms
BINS = ((1, 8), (9, 32), (33, 128), (129, 10_000), (0, 0))
"""Steps since a place was seen last; the last bin is of those never seen."""


class Outcome(NamedTuple):
    """What a contestant came to with one seed."""

    contestant: str
    seed: int
    parameters: int
    steps: int
    negative_elbo: float
    """Of the last tenth of training, nats a frame."""
    minutes: float
    errors: list[float]
    """Mean squared error of each bin, times 1,000; NaN where there was nothing."""
    overall: float


def errors_by_bin(predicted: Tensor, walks: Walks, num_given: int) -> tuple[list[float], float]:
    """Mean squared errors, times 1,000, of each bin and of all frames."""
    squared = (predicted - walks.frames[num_given:]).square().flatten(2).mean(-1)  # (T - given, B)
    since = walks.since[num_given:]
    binned = [squared[(since >= least) & (since <= most)].mean().item() for least, most in BINS]
    return [1e3 * error for error in binned], 1e3 * squared.mean().item()


class Budget(NamedTuple):
    """How long a contestant may learn."""

    steps: int
    minutes: float | None
    """Of the processor; where there is a number, it counts and not the steps."""

    def used(self, steps: int, minutes: float) -> float:
        """The share of it that is used up, of one."""
        return steps / self.steps if self.minutes is None else minutes / self.minutes


def train(
    name: str, seed: int, task: PatchWalk, held_out: Walks, budget: Budget, batch: int, predict: int
) -> Outcome:
    """Train and judge one contestant, which has to predict the last frames."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    given = len(held_out.frames) - predict
    contestant = CONTESTANTS[name](len(held_out.frames), task.grid.num_steps - predict)
    draws = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    minutes, tenths, begun = 0.0, 0, time.process_time()
    while (used := budget.used(len(losses), minutes)) < 1:
        losses.append(contestant.step(task.sample(batch, draws)))
        minutes = (time.process_time() - begun) / 60
        if 10 * used >= tenths:
            tenths += 1
            click.echo(f"  {name} seed {seed} step {len(losses):,}: -ELBO {losses[-1]:.1f}")
    errors, overall = errors_by_bin(contestant.predict(held_out, given), held_out, given)
    last = losses[-max(1, len(losses) // 10) :]
    elbo = sum(last) / len(last)
    size = contestant.num_parameters
    return Outcome(name, seed, size, len(losses), elbo, minutes, errors, overall)


def title(bin: tuple[int, int]) -> str:
    least, most = bin
    return "never" if most == 0 else f"{least}-{most}" if most < BINS[-2][1] else f"{least}-"


def draw(outcomes: Sequence[Outcome], mean_error: Sequence[float]) -> Figure:
    """Error against steps since the place was seen last, a line a contestant."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        axes = figure.subplots()
        for name in dict.fromkeys(outcome.contestant for outcome in outcomes):
            errors = torch.tensor([o.errors for o in outcomes if o.contestant == name])
            axes.plot(errors.mean(0), marker="o", label=name)
        axes.plot(mean_error, linestyle=":", color="grey", label="always the mean patch")
        axes.set_xticks(range(len(BINS)), [title(bin) for bin in BINS])
        axes.set_xlabel("steps since the place was seen last")
        axes.set_ylabel("squared error of a pixel, times 1,000")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    return figure


def finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"got {value}, must be a finite number")
    return value


@command()
@names_option("--contestant", "names", sorted(CONTESTANTS), sorted(CONTESTANTS))
@size_option("--observe", default=256, help="Frames given.")
@size_option("--predict", default=32, help="Frames predicted after them.")
@size_option("--train-observe", default=64, help="Frames given in training.")
@size_option("-n", "--num-steps", default=3_000, help="Gradient steps of each.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    callback=finite,
    help="Of the processor, in the place of --num-steps.",
)
@size_option("-b", "--batch-size", default=8)
@size_option("--seeds", default=2, help="Runs of each, seeds 0, 1, ...")
@size_option("--images", default=3_000, help="Views of rooms to train on.")
@size_option("--walks", default=64, help="Held-out walks, over rooms never seen.")
@click.option("--figure", type=FILE, help="Where to draw the errors.")
@click.option("--table", type=FILE, help="Where to write them, as CSV.")
def main(
    names: list[str],
    observe: int,
    predict: int,
    train_observe: int,
    num_steps: int,
    minutes: float | None,
    batch_size: int,
    seeds: int,
    images: int,
    walks: int,
    figure: Path | None,
    table: Path | None,
) -> None:
    """Train the contestants on one task and compare what they predict.

    The defaults take an hour; Ctrl-C ends it and tells what is finished.
    """
    with refusing_bad_input():
        for path, option in ((figure, "--figure"), (table, "--table")):
            if path is not None:
                make_writable_folder(path.parent, option)
    torch.set_num_threads(1)
    task = PatchWalk(images, train_observe + predict, TRAINING_SEED)
    held_out = PatchWalk(walks, observe + predict, HELD_OUT_SEED).sample(
        walks, torch.Generator().manual_seed(HELD_OUT_SEED)
    )
    mean = task.patches.mean((0, 1)).expand_as(held_out.frames[observe:])
    made = provenance(torch.device("cpu"))  # of the code that is imported now
    of_the_mean, mean_overall = errors_by_bin(mean, held_out, observe)
    budget = Budget(num_steps, minutes)
    outcomes: list[Outcome] = []
    try:
        for name in names:
            for seed in range(seeds):
                outcomes.append(train(name, seed, task, held_out, budget, batch_size, predict))
    except KeyboardInterrupt:
        click.echo(f"Stopped: {len(outcomes)} of {len(names) * seeds} runs", err=True)
        table = figure = None  # a part would be taken for the whole
    if not outcomes:
        raise click.Abort
    heads = [title(bin) for bin in BINS]
    click.echo(
        f"{'contestant':<12}{'seed':>5}{'parameters':>12}{'steps':>8}{'-ELBO':>9}{'minutes':>9}{'all':>8}"
        + "".join(f"{head:>9}" for head in heads)
    )
    for o in outcomes:
        click.echo(
            f"{o.contestant:<12}{o.seed:5}{o.parameters:12,}{o.steps:8,}{o.negative_elbo:9.1f}"
            f"{o.minutes:9.1f}{o.overall:8.2f}" + "".join(f"{error:9.2f}" for error in o.errors)
        )
    click.echo(f"{'mean patch':<63}" + "".join(f"{error:9.2f}" for error in of_the_mean))
    if table is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        fields = [name for name in Outcome._fields if name != "errors"]
        writer.writerow([*fields, *heads, *PROVENANCE])
        source = [made[name] for name in PROVENANCE]
        for o in outcomes:
            writer.writerow([*(getattr(o, name) for name in fields), *o.errors, *source])
        unknown = [""] * (len(fields) - 2)
        writer.writerow(["mean patch", *unknown, mean_overall, *of_the_mean, *source])
        write_atomically(table, text.getvalue().encode())
        click.echo(f"Written: {table}")
    if figure is not None:
        save(draw(outcomes, of_the_mean), figure)
        click.echo(f"Written: {figure}")


if __name__ == "__main__":
    main()
