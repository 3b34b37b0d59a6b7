"""Chorales, ours beside the deep Markov model, each with the same minutes of a processor.

    python benchmarks/chorales.py --data jsb-chorales-quarter.json
    python benchmarks/chorales.py --data FILE --contestant vrnn --contestant dmm --minutes 5
    python benchmarks/chorales.py --data FILE --semitones 0 --table bounds.csv --figure bounds.png

A frame is the 88 keys of a piano in one step, independent given the latent.  The figure of merit is
the negative ELBO of the test pieces, summed over their steps and divided by them, in nats.  Of each
contestant the weights are kept that the validation pieces like best; the test pieces choose
nothing.  ``unread`` is the associative model with its reads zeroed from the first step on: what it
lacks, the memory gives.  ``dmm`` is the deep Markov model of Krishnan et al. 2017 (arXiv
1609.09869) with the settings of the example that comes with Pyro; its posterior looks at all frames
to come, those of ours at the past and the present alone.

The file is JSON, ``{"train": [...], "valid": [...], "test": [...]}``: pieces, steps, MIDI notes.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import click
import matplotlib as mpl
import pyro
import torch
from matplotlib.figure import Figure

from common.command_line import command, names_option, refusing_bad_input, size_option
from music.contestants import Bound, Contestant, Course, Point, train
from music.dmm import DMM
from music.ours import Ours
from pyro_gtm.experiments.chorales import CHORALES, DATA, MEMORIES, notes_file
from pyro_gtm.experiments.pieces import Excerpts, Pieces, read_pieces
from pyro_gtm.experiments.plotting import save
from pyro_gtm.experiments.plotting.style import COLOURS, GREY, STYLE, TICKS
from pyro_gtm.experiments.provenance import provenance
from pyro_gtm.internals.files import make_writable_folder, write_atomically

FILE = click.Path(path_type=Path, dir_okay=False)

CONTESTANTS: dict[str, Callable[[], Contestant]] = {
    **{name: lambda name=name: Ours(name) for name in MEMORIES},  # type: ignore[misc]
    "unread": lambda: Ours("associative", reads=False),
    "dmm": DMM,
}

PUBLISHED = 6.80
"""Of the deep Markov model with two inverse autoregressive flows after 5,000 epochs, as Pyro's
documentation of the example reports it; 6.87 without."""

HIGHEST = 13.0
"""Of the figure: all begin at some sixty nats, and at twelve a model knows how often each key
sounds, and no more."""

MARKERS = "os^DPv"

PROVENANCE = ("commit", "date", "machine")

LONGEST = 64
"""Steps of an excerpt, at most."""


class Outcome(NamedTuple):
    """What a contestant came to with one seed."""

    contestant: str
    seed: int
    parameters: int
    course: Course
    lesion: Bound | None
    """Of the test pieces with all reads zeroed; None where there is no memory."""

    iwae: float | None
    """Negative importance-weighted bound of the test pieces, nats a step; None where it was not
    asked for."""


def run(
    name: str,
    seed: int,
    parts: dict[str, Pieces],
    minutes: float,
    semitones: int,
    evaluations: int,
    particles: int,
) -> Outcome:
    """Train and judge one contestant."""
    torch.set_num_threads(1)
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    contestant = CONTESTANTS[name]()
    excerpts = Excerpts(parts["train"], contestant.batch_size, LONGEST, semitones, seed)

    def tell(point: Point) -> None:
        click.echo(
            f"  {name} seed {seed} {point.minutes:6.2f} min {point.updates:6,} updates: "
            f"train {point.train:.2f}  valid {point.valid:.3f}  test {point.test:.3f}"
        )

    course = train(contestant, parts, excerpts, minutes, evaluations, tell)
    pyro.set_rng_seed(seed)  # of the samples that judge it
    course = course._replace(test=contestant.bound(parts["test"]))
    lesion = contestant.lesioned(parts["test"])
    iwae = contestant.importance_weighted(parts["test"], particles) if particles else None
    return Outcome(name, seed, contestant.num_parameters, course, lesion, iwae)


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """The bound of the test pieces against minutes, a line a run."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        axes = figure.subplots()
        names = list(dict.fromkeys(outcome.contestant for outcome in outcomes))
        least = min(min(point.test for point in o.course.points) for o in outcomes)
        for number, name in enumerate(names):
            runs = [o for o in outcomes if o.contestant == name]
            for first, outcome in zip([True] + [False] * len(runs), runs, strict=False):
                points = outcome.course.points
                axes.plot(
                    [point.minutes for point in points],
                    [point.test for point in points],
                    color=COLOURS[number],
                    marker=MARKERS[number],
                    markersize=3.5,
                    label=name if first else None,
                )
        axes.axhline(
            PUBLISHED,
            color=GREY,
            linestyle="--",
            linewidth=1,
            marker="",
            label=f"dmm as published: {PUBLISHED:.2f}\n(2 IAFs, 5,000 epochs)",
        )
        axes.set_ylim(min(least, PUBLISHED) - 0.15, HIGHEST)
        axes.set_xlim(left=0)
        axes.set_xlabel("minutes of a processor")
        axes.set_ylabel("negative ELBO of the test pieces, nats a step")
        axes.tick_params(**TICKS)
        axes.legend()
    return figure


def finite(_: click.Context, __: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"got {value}, must be a finite number")
    return value


@command()
@click.option(
    "--data",
    type=FILE,
    help=f"Notes, JSON; by default {CHORALES} in the folder {DATA}.",
)
@names_option("--contestant", "names", sorted(CONTESTANTS), list(CONTESTANTS))
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    callback=finite,
    help="Of the processor, each.",
)
@size_option("--seeds", default=1, help="Runs of each, seeds 0, 1, ...")
@click.option(
    "--semitones",
    type=click.IntRange(0, 11),
    default=6,
    help="Transpose half of the excerpts by up to so many.",
)
@size_option("--jobs", default=1, help="Runs at once; their minutes are of a processor each.")
@size_option("--evaluations", default=20, help="Of a run.")
@click.option(
    "--particles",
    type=click.IntRange(0),
    default=0,
    help="Of the importance-weighted bound; 0 for none.",
)
@click.option("--figure", type=FILE, help="Where to draw the bounds.")
@click.option("--table", type=FILE, help="Where to write them, as CSV.")
def main(
    data: Path | None,
    names: list[str],
    minutes: float,
    seeds: int,
    semitones: int,
    jobs: int,
    evaluations: int,
    particles: int,
    figure: Path | None,
    table: Path | None,
) -> None:
    """Train the contestants on chorales and compare their bounds.

    The defaults take three quarters of an hour; Ctrl-C ends it and tells what is finished.
    """
    with refusing_bad_input():
        for path, option in ((figure, "--figure"), (table, "--table")):
            if path is not None:
                make_writable_folder(path.parent, option)
        parts = read_pieces(notes_file(data))
    torch.set_num_threads(1)
    made = provenance(torch.device("cpu"))  # of the code that is imported now
    outcomes: list[Outcome] = []
    try:
        runs = [(name, seed) for name in names for seed in range(seeds)]
        settings = (parts, minutes, semitones, evaluations, particles)
        if jobs == 1:
            for each in runs:
                outcomes.append(run(*each, *settings))
        else:
            with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
                waiting = [pool.submit(run, *each, *settings) for each in runs]
                outcomes.extend(done.result() for done in waiting)
    except KeyboardInterrupt:
        click.echo(f"Stopped: {len(outcomes)} of {len(names) * seeds} runs", err=True)
        table = figure = None  # a part would be taken for the whole
    if not outcomes:
        raise click.Abort
    rows = [row(outcome) for outcome in outcomes]
    tell_table(rows)
    if table is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*Row._fields, "semitones", *PROVENANCE])
        for line in rows:
            writer.writerow([*line, semitones, *(made[name] for name in PROVENANCE)])
        write_atomically(table, text.getvalue().encode())
        click.echo(f"Written: {table}")
    if figure is not None:
        save(draw(outcomes), figure)
        click.echo(f"Written: {figure}")


class Row(NamedTuple):
    """Of the table."""

    contestant: str
    seed: int
    parameters: int
    minutes: float
    updates: int
    best_at: float
    """Minutes after which the validation pieces liked it best."""

    train: float
    """Loss of the training excerpts at the end, with dropout."""

    valid: float
    test: float
    kl: float
    """Of the test pieces."""

    lesion: float | None
    """Bound of the test pieces with all reads zeroed."""

    iwae: float | None


def row(outcome: Outcome) -> Row:
    course = outcome.course
    last = course.points[-1]
    return Row(
        outcome.contestant,
        outcome.seed,
        outcome.parameters,
        course.minutes,
        last.updates,
        course.best.minutes,
        last.train,
        course.best.valid,
        course.test.negative_elbo,
        course.test.kl,
        None if outcome.lesion is None else outcome.lesion.negative_elbo,
        outcome.iwae,
    )


def tell_table(rows: Sequence[Row]) -> None:
    heads = ("minutes", "updates", "best at", "train", "valid", "test", "KL", "lesion", "IWAE")
    click.echo(
        f"{'contestant':<14}{'seed':>5}{'parameters':>12}" + "".join(f"{h:>9}" for h in heads)
    )
    for r in rows:
        nats = "".join("        -" if n is None else f"{n:9.3f}" for n in r[6:])
        click.echo(
            f"{r.contestant:<14}{r.seed:5}{r.parameters:12,}{r.minutes:9.1f}{r.updates:9,}"
            f"{r.best_at:9.1f}{nats}"
        )


if __name__ == "__main__":
    main()
