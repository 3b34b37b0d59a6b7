"""Chorales: what a memory finds in a piece, and how it goes on with one.

    python examples/chorales.py --data jsb-chorales-quarter.json
    python examples/chorales.py --data FILE --memory introspective --minutes 10 --output chorales

A model of 88 keys learns from the training pieces for a few minutes of a processor, and its bound
on the test pieces is printed.  Then two pictures, of test pieces:

- ``repeat.png``: the piece with the longest phrase that comes twice; what each step cost, and which
  earlier steps the memory read (where its reads are made of earlier steps);
- ``continuation.png``: the beginning of a piece, and how the model goes on, which is also written
  as ``continuation.mid``.

The file is JSON, ``{"train": [...], "valid": [...], "test": [...]}``: pieces, steps, MIDI notes.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
import pyro
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.experiments.chorales import CHORALES, DATA, MEMORIES, ChoraleModel, notes_file
from pyro_gtm.experiments.pieces import (
    Excerpts,
    Pieces,
    longest_repeat,
    midi,
    read_pieces,
)
from pyro_gtm.experiments.plotting import save
from pyro_gtm.experiments.plotting.style import BLUE, GREY, ORANGE, RECALL_FILL, STYLE, TICKS
from pyro_gtm.internals.files import make_writable_folder, write_atomically
from pyro_gtm.series.reading import KEYS

BATCH, LONGEST, SEMITONES = 16, 64, 6
GIVEN, GENERATED = 16, 48
"""Steps of a piece that are given, and steps that follow."""


def train(model: ChoraleModel, pieces: Pieces, minutes: float, seed: int) -> None:
    """Take training steps for so many minutes of the processor."""
    excerpts = Excerpts(pieces, BATCH, LONGEST, SEMITONES, seed)
    begun, used, told = time.process_time(), 0.0, 0
    with pyro.validation_enabled(False):
        while used < 1:
            loss = model.step(excerpts.draw(), used)
            used = (time.process_time() - begun) / (60 * minutes)
            if used >= told / 10:
                told += 1
                click.echo(f"update {model.updates:5,}: loss {loss:6.2f} nats a step")


def repeat_of(pieces: Pieces) -> tuple[int, tuple[int, int, int]]:
    """The piece with the longest phrase that comes twice, and that phrase."""
    repeats = [longest_repeat(pieces.piece(number)) for number in range(len(pieces.lengths))]
    chosen = max(range(len(repeats)), key=lambda number: repeats[number][2])
    return chosen, repeats[chosen]


def attention_by_step(weights: Tensor) -> Tensor:
    """Which earlier step each step reads: of weights by age, ``(T, R, L)`` to ``(T, R, T)``."""
    steps, heads, slots = weights.shape
    found = torch.zeros(steps, heads, steps)
    for t in range(steps):
        ages = min(t, slots)
        found[t, :, t - ages : t] = weights[t, :, :ages].flip(-1)
    return found


def draw_roll(axes: Axes, frames: Tensor, given: int | None = None) -> None:
    """Notes as bars, from the lowest to the highest that sounds; after ``given`` in orange."""
    steps, keys = frames.nonzero(as_tuple=True)
    colours = [ORANGE if given is not None and t >= given else BLUE for t in steps.tolist()]
    notes = keys.numpy() + KEYS[0]
    if not len(notes):  # silence
        return
    axes.bar(steps.numpy(), 0.8, 0.94, notes - 0.4, color=colours, linewidth=0)
    c_notes = [note for note in range(notes.min() - 12, notes.max() + 12) if note % 12 == 0]
    axes.set_yticks(c_notes, [f"C{note // 12 - 1}" for note in c_notes])
    axes.set_ylim(notes.min() - 2, notes.max() + 2)
    axes.tick_params(**TICKS)


def draw_repeat(
    frames: Tensor, repeat: tuple[int, int, int], nats: Tensor, attention: Tensor | None
) -> Figure:
    """A piece, what each of its steps cost, and where the memory read."""
    first, again, length = repeat
    heads = 0 if attention is None else attention.shape[1]
    with mpl.rc_context(STYLE):
        ratios = [2.2, 1.0] + [3.0] * bool(heads)
        figure = Figure(figsize=(7.2, 1.25 * sum(ratios)), layout="constrained")
        panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
        for axes in panels[:2] if length else ():
            for begin, label in ((first, "a phrase"), (again, "again")):
                axes.axvspan(
                    begin - 0.5,
                    begin + length - 0.5,
                    facecolor=RECALL_FILL,
                    edgecolor="white",
                    linewidth=3,
                    zorder=0,
                )
                if axes is panels[0]:
                    axes.annotate(
                        label,
                        (begin + length / 2 - 0.5, 1.0),
                        xycoords=("data", "axes fraction"),
                        xytext=(0, 3),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8.5,
                    )
        draw_roll(panels[0], frames)
        panels[1].bar(range(len(nats)), nats.numpy(), 0.9, color=GREY, linewidth=0)
        panels[1].set_ylabel("nats")
        panels[1].tick_params(**TICKS)
        if attention is not None:
            strongest = attention.amax(1).T.numpy()  # (T earlier, T)
            panels[2].imshow(strongest, origin="lower", cmap="Greys", vmin=0, vmax=1, aspect="auto")
            steps = np.arange(again, again + length)
            panels[2].plot(
                steps, steps - again + first, ".", color=ORANGE, markersize=3, label="the same step"
            )
            panels[2].set_ylabel("earlier step read")
            panels[2].legend(loc="upper left")
            panels[2].tick_params(**TICKS)
        panels[-1].set_xlim(-0.5, len(frames) - 0.5)
        panels[-1].set_xlabel("step, a quarter note")
    return figure


def draw_continuation(frames: Tensor, given: int) -> Figure:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        axes = figure.subplots()
        draw_roll(axes, frames, given)
        axes.axvline(given - 0.5, color=GREY, linestyle="--", linewidth=1)
        axes.set_xlim(-0.5, len(frames) - 0.5)
        axes.set_xlabel("step, a quarter note; blue: given, orange: generated")
    return figure


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Notes, JSON; by default {CHORALES} in the folder {DATA}.",
)
@click.option("--memory", type=click.Choice(list(MEMORIES)), default="associative")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, max=1e4, min_open=True),
    default=5.0,
    help="Of the processor.",
)
@click.option("--seed", type=click.IntRange(0), default=0)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="chorales",
    help="Folder of what is drawn.",
)
def main(data: Path | None, memory: str, minutes: float, seed: int, output: Path) -> None:
    """Train, judge, look at a repeated phrase, and go on with a piece."""
    try:
        make_writable_folder(output, "--output")
        parts = read_pieces(notes_file(data))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    torch.set_num_threads(1)  # more would only wait for each other over tensors this small
    pyro.set_rng_seed(seed)
    model = ChoraleModel(memory)
    train(model, parts["train"], minutes, seed)
    model.networks.eval()
    test = parts["test"]
    kl, reconstruction = (part.sum() / test.num_steps for part in model.terms(test))
    click.echo(f"test pieces: {kl + reconstruction:.2f} nats a step, {kl:.2f} of them KL")

    number, repeat = repeat_of(test)
    piece = test.piece(number)
    with gtm.record_memory() as tape:
        found = gtm.evaluate(model.guide, piece.unsqueeze(1))
    attention = None
    if model.memory.reads_by_age and "read_weights" in tape:
        attention = attention_by_step(tape["read_weights"][:, 0])
    nats = found.negative_elbo[:, 0]
    first, again, length = repeat
    if length:
        click.echo(
            f"test piece {number}: steps {again} to {again + length - 1} are those from {first} "
            f"on; {nats[first : first + length].mean():.2f} nats a step at first, "
            f"{nats[again : again + length].mean():.2f} again"
        )
    save(draw_repeat(piece, repeat, nats, attention), output / "repeat.png")

    given = piece[:GIVEN].unsqueeze(1)
    whole = gtm.continue_frames(
        model.program, model.memory, given, num_steps=len(given) + GENERATED, sample=True
    )[:, 0]
    save(draw_continuation(whole, len(given)), output / "continuation.png")
    write_atomically(output / "continuation.mid", midi(whole))
    click.echo(f"Written: {output / 'repeat.png'}, {output / 'continuation.png'}, "
               f"{output / 'continuation.mid'}")  # fmt: skip


if __name__ == "__main__":
    main()
