"""``pyro-gtm train``: one run, from its options to its figures."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import click
import torch
from tqdm import tqdm

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    MODULES,
    NamedPath,
    Registered,
    device_option,
    given_settings,
    import_option,
    length_options,
    memory_option,
    refusing_bad_input,
    task_option,
)
from pyro_gtm.experiments.config import (
    ELBOS,
    MATMUL_PRECISIONS,
    MAX_SEED,
    PRESETS,
    Config,
    make_config,
    read_config,
)
from pyro_gtm.experiments.data import BINARISATIONS, SOURCES, load_data
from pyro_gtm.experiments.report import draw_figures, summary_table
from pyro_gtm.experiments.run import FolderTakenError, Interrupted, Run
from pyro_gtm.infer.training import NonFiniteLossError
from pyro_gtm.internals.compiling import CannotCompileError
from pyro_gtm.memory import memory_names
from pyro_gtm.model import DecoderInput, Posterior, Precision, Writes
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.model.networks import NETWORKS
from pyro_gtm.tasks import task_names

__all__ = ["train"]

SILENCE = 30.0
"""Seconds after which a run whose output is no terminal says where it is."""


@click.command(context_settings=COMMAND)
@import_option
@click.option(
    "--memory", type=Registered(memory_names), default="introspective", help="Which memory."
)
@click.option("--task", type=Registered(task_names), default="perfect_recall", help="Which task.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="small",
    help="Seconds, minutes, or as published (which wants a GPU).",
)
@click.option(
    "-n", "--num-steps", type=click.IntRange(min=1), help="Gradient steps. [default: the preset's]"
)
@click.option(
    "-b",
    "--batch-size",
    type=click.IntRange(min=1),
    help="Sequences in a step. [default: the preset's]",
)
@click.option(
    "-lr",
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Of Adam. [default: the preset's]",
)
@length_options("the preset's")
@task_option
@memory_option
@click.option(
    "--elbo",
    type=click.Choice(ELBOS),
    help="Bound: KL sampled (Trace_ELBO) or in closed form (TraceMeanField_ELBO). [default: trace]",
)
@click.option(
    "--kl-warmup",
    type=click.IntRange(min=0),
    help="Steps over which the weight of the KL grows to 1. [default: 0]",
)
@click.option(
    "--network",
    type=click.Choice(NETWORKS),
    help="Encoder and decoder; conv wants a GPU: on two CPU cores it takes about 5 s a step and "
    "30 s an evaluation, hours for the preset small. [default: the preset's]",
)
@click.option(
    "--likelihood",
    type=click.Choice(LIKELIHOODS.names()),
    help="Of a frame. [default: the task's, bernoulli for digits and characters]",
)
@click.option(
    "--writes",
    type=click.Choice(get_args(Writes)),
    help="What the memory is given. [default: latent]",
)
@click.option(
    "--decoder-input",
    type=click.Choice(get_args(DecoderInput)),
    help="What the decoder sees. [default: the preset's]",
)
@click.option(
    "--posterior",
    type=click.Choice(get_args(Posterior)),
    help="A correction of the prior, or networks of its own. [default: the preset's]",
)
@click.option("--latent-dim", type=click.IntRange(min=1), help="Size of z. [default: the preset's]")
@click.option(
    "--hidden-dim",
    type=click.IntRange(min=1),
    help="Width of the networks; the memory's is --memory-option hidden_dim=N. "
    "[default: the preset's]",
)
@click.option(
    "--data",
    type=click.Choice(list(SOURCES)),
    help="What is shown: digits come with a package, strokes and rooms are drawn on the spot, the "
    "others are read from a folder. [default: the task's]",
)
@click.option(
    "--data-dir", type=NamedPath(file_okay=False), help="Folder of mnist, omniglot or recorded."
)
@click.option("--download", is_flag=True, help="Fetch what --data-dir lacks; needs pooch.")
@click.option(
    "--binarise",
    type=click.Choice(BINARISATIONS),
    help="How grey images become binary. [default: threshold, none for rooms]",
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Of everything random.")
@device_option
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads. [default: 1 for mlp networks, PyTorch's own choice for conv]",
)
@click.option(
    "--compile-steps",
    type=click.IntRange(min=0),
    help="Time steps that torch.compile makes one piece of; needs a C++ compiler and takes up to "
    "minutes before the first step. [default: 0, none]",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Of the encoder's and decoder's matrix products. [default: float32]",
)
@click.option(
    "--matmul-precision",
    type=click.Choice(MATMUL_PRECISIONS),
    help="Of float32 matrix products everywhere, as PyTorch takes it: high lets a GPU use "
    "TensorFloat32. [default: highest]",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=0),
    help="Keep only the state between blocks of so many time steps, and compute the rest again for "
    "the gradients: less memory for long sequences. [default: 0, keep all]",
)
@click.option(
    "--truncate-every",
    type=click.IntRange(min=0),
    help="Stop gradients between blocks of so many time steps, which biases them: nothing older "
    "is learned to be stored. [default: 0, never]",
)
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path),
    help="Folder of the run. [default: a new one in runs/]",
)
@click.option(
    "--resume",
    type=NamedPath(path_type=Path),
    metavar="FOLDER",
    help="Continue the run in FOLDER, exactly.",
)
@click.pass_context
def train(ctx: click.Context, /, **flags: Any) -> None:
    """Train a model and show what it remembers.

    Leaves a folder with the configuration, metrics, checkpoints, a summary and figures.  Ctrl-C
    saves and stops, a second Ctrl-C stops at once; --resume continues.
    """
    given = given_settings(ctx, flags)
    output, resume = given.pop("output", None), given.pop("resume", None)
    download, threads = given.pop("download", False), given.pop("threads", None)
    with refusing_bad_input():
        if resume is not None:
            if output is not None:
                raise ValueError("--resume names the folder of the run: leave --output out")
            if download:
                saved = read_config(resume / "config.json")
                load_data(saved.data, saved.data_dir, True, saved.binarise)
            run = Run.resume(resume, **given)
        else:
            config = make_config(given.pop("preset", "small"), **given)
            if download:
                load_data(config.data, config.data_dir, True, config.binarise)
            run = Run.start(output, config) if output else _start_in_fresh_folder(config)
    # Matrices this small gain little from a second thread on an idle machine; on a busy one, where
    # threads wait for each other in turns, it has cost a factor of ten.
    if threads is None and run.experiment.config.network == "mlp":
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    if not run.exact:
        click.echo(
            f"The run was saved on another kind of device: on {run.experiment.device} it goes on "
            "with other random numbers than it would have had."
        )
    command = ctx.command_path if ctx.parent else f"python {shlex.quote(sys.argv[0])}"
    imports = "".join(f" --import {shlex.quote(module)}" for module in ctx.meta[MODULES])
    _train(run, f"{command} --resume {shlex.quote(str(run.folder))}{imports}")


def _train(run: Run, resume_command: str) -> None:
    config = run.experiment.config
    begun_at, begun = run.step, time.monotonic()
    click.echo(
        f"{config.task}, {config.memory} memory, {run.experiment.num_parameters:,} parameters, "
        f"on {run.experiment.device}; run folder {run.folder}"
    )
    if config.compile_steps and run.step < config.num_steps:
        click.echo(
            f"Compiling {config.compile_steps} time steps before the first step, which can take "
            "minutes, also to stop."
        )
    if config.network == "conv" and run.experiment.device.type == "cpu":
        click.echo(
            "Warning: conv networks are slow on a CPU, about 5 s a step and 30 s an evaluation at "
            "the default sizes on two cores: choose --network mlp, fewer --num-steps or a GPU.",
            err=True,
        )
    try:
        with _progress_bar(config.num_steps, run.step) as progress:
            run.train(progress, progress.stopping)
        summary = run.write_summary(time.monotonic() - begun, run.step - begun_at)
        figures = draw_figures(run)
    except Interrupted as interruption:
        click.echo(
            f"Stopped after step {interruption.step:,}; everything is saved. Continue with\n"
            f"  {resume_command}"
        )
        raise SystemExit(128 + interruption.signal) from None
    except KeyboardInterrupt:
        saved = run.saved_step
        kept = "no checkpoint was saved" if saved is None else f"step {saved:,} was saved last"
        click.echo(
            f"Stopped at once after step {run.step:,}; {kept}. "
            f"{'Begin again' if saved is None else 'Continue from it'} with\n  {resume_command}"
        )
        raise SystemExit(128 + signal.SIGINT) from None
    except NonFiniteLossError as error:
        checkpoints = run.checkpoints()
        kept = (
            f"the last good checkpoint is {checkpoints[-1]}"
            if checkpoints
            else "no checkpoint was saved"
        )
        raise click.ClickException(
            f"{error}; {kept}. A smaller --learning-rate may help."
        ) from error
    except CannotCompileError as error:
        raise click.ClickException(
            f"{error}. Go on without it with {resume_command} --compile-steps 0"
        ) from error
    except OSError as error:  # no room left, or the folder is gone
        raise click.ClickException(
            f"{error.filename or run.folder} cannot be written: {error.strerror}. Make room and "
            f"continue with {resume_command}"
        ) from error
    click.echo("\n" + summary_table(summary))
    click.echo(f"\nFigures, metrics and checkpoints are in {run.folder}:")
    for path in figures:
        click.echo(f"  {path}")
    if not any(path.stem == "attention" for path in figures):
        click.echo(
            f"  (no attention figure: the {config.memory} memory does not attend to past steps)"
        )


def _start_in_fresh_folder(config: Config) -> Run:
    """A run in ``runs/TASK-MEMORY-seedN``, with a number behind it if that one is taken."""
    base = Path("runs") / f"{config.task}-{config.memory}-seed{config.seed}"
    folder, number = base, 1
    while True:
        while os.path.lexists(folder):
            number += 1
            folder = base.with_name(f"{base.name}-{number}")
        try:
            return Run.start(folder, config)
        except FolderTakenError:  # by a run that began while this one was being built
            continue


class _Progress:
    """A bar on a terminal; elsewhere, a line for each row of metrics, and one in a long silence."""

    def __init__(self, bar: Any, total: int, done: int) -> None:
        self.bar = bar
        self.total, self.done = total, done
        self.begun = self.spoken = time.monotonic()
        self.shown: dict[str, str] = {}

    def __call__(self, row: dict[str, Any]) -> None:
        if "split" not in row:
            self.bar.update(1)
            if time.monotonic() - self.spoken > SILENCE:
                self._say(row["step"], f"negative bound {row['loss']:7.2f}  (this batch)")
            return
        bound = row["negative_elbo_per_frame"]
        if row["split"] == "train":
            self.shown["negative bound"] = f"{bound:.1f}"
            self._say(row["step"], f"negative bound {bound:7.2f}  (training)")
        else:
            recall = "none" if row["recall_kl"] is None else f"{row['recall_kl']:.2f}"
            last = f"{row['last_frame_kl']:.2f}"
            self.shown |= {"recall KL": recall, "last-frame KL": last}
            self._say(
                row["step"],
                f"negative bound {bound:7.2f}  recall KL {recall:>6}  last-frame KL {last:>6}  "
                "(held out, nats a frame)",
            )
        self.bar.set_postfix(self.shown, refresh=False)

    def stopping(self) -> None:
        """Answer Ctrl-C; called from a signal handler, perhaps while a line is being written."""
        with suppress(RuntimeError):  # Python refuses to write within a write
            click.echo(
                ("" if self.bar.disable else "\n")
                + "Stopping after this step; press Ctrl-C again to stop at once.",
                err=True,
            )

    def _say(self, step: int, figures: str) -> None:
        if not self.bar.disable:
            return
        self.spoken = time.monotonic()
        remaining = (self.spoken - self.begun) / max(1, step - self.done) * (self.total - step)
        left = f"  ETA {tqdm.format_interval(remaining)}" if remaining else ""
        click.echo(f"step {step:>7,}  {figures}{left}")


@contextmanager
def _progress_bar(total: int, done: int) -> Iterator[_Progress]:
    bar = tqdm(total=total, initial=done, disable=None, unit="step", dynamic_ncols=True)
    try:
        yield _Progress(bar, total, done)
    finally:
        bar.close()
