"""The command line: ``pyro-gtm train``, ``compare`` and ``generate``, or ``python -m pyro_gtm``.

``examples/train.py``, ``compare_memories.py`` and ``generate.py`` are the same commands.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import click
import torch
from click.core import ParameterSource
from tqdm import tqdm

from pyro_gtm import __version__
from pyro_gtm.checkpoint import CheckpointError
from pyro_gtm.comparison import Comparison, FailedRunsError, Stopped, markdown_table
from pyro_gtm.config import ELBOS, MAX_SEED, PRESETS, Config, make_config, read_config
from pyro_gtm.data import BINARISATIONS, IMAGE_SOURCES, MissingDataError, load_images
from pyro_gtm.infer.training import NonFiniteLossError
from pyro_gtm.likelihoods import LIKELIHOODS
from pyro_gtm.memory import memory_names
from pyro_gtm.model import DecoderInput, Posterior, Writes
from pyro_gtm.nets import NETWORKS
from pyro_gtm.plotting import save
from pyro_gtm.report import draw_figures, draw_strips, frames_before_recall, summary_table
from pyro_gtm.run import FolderTakenError, Interrupted, Run, RunError
from pyro_gtm.tasks import task_names

__all__ = ["compare", "generate", "main", "train"]


MODULES = "pyro_gtm.modules"
"""Where click's context keeps what ``--import`` named."""

SILENCE = 30.0
"""Seconds after which a run whose output is no terminal says where it is."""


class Refused(click.ClickException):
    """Input that cannot be served: one sentence on stderr, exit code 2."""

    exit_code = 2


@contextmanager
def _refusing_bad_input() -> Iterator[None]:
    try:
        yield
    except (ValueError, MissingDataError, RunError, CheckpointError) as error:
        raise Refused(_as_typed(str(error))) from error
    except OSError as error:
        raise Refused(f"{error.filename} cannot be used: {error.strerror}") from error


def _as_typed(message: str) -> str:
    """The library's sentence, with the settings called by the options that gave them."""
    ctx = click.get_current_context()
    # A memory may have an option of the same name, and then the sentence may be about that.
    ambiguous = dict(ctx.params.get("memory_options", ()))
    for option in ctx.command.params:
        name, flag = str(option.name), max(option.opts, key=len)
        typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not typed or name in ambiguous or not isinstance(option, click.Option):
            continue
        alone, end = r"(?<![\w'/-])", r"(?![\w'/-])"
        if option.is_flag:
            setting = f"{alone}{name}=True{end}"
        elif "_" in name:
            setting = f"(?:task option )?{alone}{name}{end}"
        else:  # "memory" is a word too: meant are "memory=..." anywhere and "memory ..." in front
            setting = f"^{name}(?= )|{alone}{name}(?==)"
        message = re.sub(setting, flag, message)
    return message


class Registered(click.Choice):
    """The names that are registered by the time the command runs."""

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        super().__init__(names())
        self.names = names

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        self.choices = tuple(self.names())
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(
                f"{error.message.rstrip('.')} (for one of your own, --import the module that "
                "registers it).",
                param,
                ctx,
            )


class NamedPath(click.Path):
    """A path that is not empty: Python takes "" for the present folder."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("the name is empty.", param, ctx)
        return super().convert(value, param, ctx)


class Setting(click.ParamType):
    """``NAME=VALUE``, the value a number, true, false or a word."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, separator, text = value.partition("=")
        if not name or not separator:
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        for kind in (int, float):
            try:
                return name, kind(text)
            except ValueError:
                continue
        return name, {"true": True, "false": False}.get(text.lower(), text)


def _import(ctx: click.Context, param: click.Parameter, modules: tuple[str, ...]) -> None:
    ctx.meta[MODULES] = modules
    if modules and os.getcwd() not in sys.path:  # it is not, for an installed command
        sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:  # ValueError: it registers a name that is taken
            raise click.BadParameter(f"{module!r} cannot be imported: {error}") from error


import_option = click.option(
    "--import",
    multiple=True,
    metavar="MODULE",
    is_eager=True,  # before the names of memories and tasks are looked up
    expose_value=False,
    callback=_import,
    help="A module, perhaps in this folder, that registers a memory or task; repeatable.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="pyro_gtm")
def main() -> None:
    """Generative temporal models with memory, in Pyro."""


@main.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
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
@click.option(
    "--list-length",
    type=click.IntRange(min=1),
    help="Frames before recall, for tasks that recall a list. [default: the preset's]",
)
@click.option(
    "--recall-length", type=click.IntRange(min=1), help="Frames to recall. [default: the preset's]"
)
@click.option(
    "--task-option",
    "task_options",
    type=Setting(),
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the task's class, such as list_length=20; repeatable.",
)
@click.option(
    "--memory-option",
    "memory_options",
    type=Setting(),
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the memory's class, such as slots=20; repeatable.",
)
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
    "--likelihood", type=click.Choice(list(LIKELIHOODS)), help="Of a frame. [default: bernoulli]"
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
    type=click.Choice(list(IMAGE_SOURCES)),
    default="digits",
    help="Images: 5,000 that come with a package, or full MNIST from a folder.",
)
@click.option("--data-dir", type=NamedPath(file_okay=False), help="Folder of --data mnist.")
@click.option("--download", is_flag=True, help="Fetch what --data-dir lacks; needs pooch.")
@click.option(
    "--binarise",
    type=click.Choice(BINARISATIONS),
    help="How grey images become binary. [default: threshold]",
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Of everything random.")
@click.option(
    "--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, cuda:1, ..."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads. [default: 1 for mlp networks, PyTorch's own choice for conv]",
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
    given = _settings(ctx, flags)
    output, resume = given.pop("output", None), given.pop("resume", None)
    download, threads = given.pop("download", False), given.pop("threads", None)
    with _refusing_bad_input():
        if resume is not None:
            if output is not None:
                raise ValueError("--resume names the folder of the run: leave --output out")
            if download:
                saved = read_config(resume / "config.json")
                load_images(saved.data, saved.data_dir, download=True)
            run = Run.resume(resume, **given)
        else:
            config = make_config(given.pop("preset", "small"), **given)
            if download:
                load_images(config.data, config.data_dir, download=True)
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


def _settings(ctx: click.Context, flags: dict[str, Any]) -> dict[str, Any]:
    """What was given on the command line, by the names of :class:`Config`'s settings and ours."""
    given = {
        name: value
        for name, value in flags.items()
        if value is not None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    given["memory_options"] = dict(given.get("memory_options", ()))
    lengths = {name: given.pop(name) for name in ("list_length", "recall_length") if name in given}
    task_options = dict(given.get("task_options", ()))
    for name in task_options.keys() & lengths.keys():
        flag = f"--{name.replace('_', '-')}"
        raise Refused(f"{flag} and --task-option {name} are the same setting: give one of them")
    given["task_options"] = task_options | lengths
    if "data_dir" in given:  # a run may be resumed from another folder
        given["data_dir"] = os.path.abspath(given["data_dir"])
    return {name: value for name, value in given.items() if value != {}}


@main.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@import_option
@click.option(
    "--memory",
    "memories",
    type=Registered(memory_names),
    multiple=True,
    help="A memory to compare; repeatable. [default: all]",
)
@click.option(
    "--task",
    "tasks",
    type=Registered(task_names),
    multiple=True,
    default=["perfect_recall"],
    help="A task to compare them on; repeatable.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=3, help="Runs of each, seeds 0, 1, ..."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Runs at a time.")
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, file_okay=False),
    default=Path("runs/comparison"),
    help="Folder of the runs, the tables and the figures; given again, finished runs are kept.",
)
@click.pass_context
def compare(ctx: click.Context, /, **flags: Any) -> None:
    """Train several memories with several seeds, and put them side by side.

    Leaves a table, a figure for each task and a folder for each run.  Ctrl-C saves and stops, a
    second Ctrl-C stops at once; the same command continues.  Other options are those of train that
    hold for all its runs.
    """
    try:
        _compare(ctx, flags)
    except Stopped as stopped:
        click.echo("Stopped; begun runs are saved. The same command continues.")
        raise SystemExit(128 + stopped.signal) from None
    except KeyboardInterrupt:
        click.echo("Stopped at once; runs are as saved last. The same command continues.")
        raise SystemExit(128 + signal.SIGINT) from None


def _compare(ctx: click.Context, flags: dict[str, Any]) -> None:
    given = _settings(ctx, flags)
    download = given.pop("download", False)
    given = {name: value for name, value in given.items() if name in TRAINING}
    output, failed = flags["output"], None
    with _refusing_bad_input():
        configs = [
            make_config(**{**given, "task": task, "memory": memory, "seed": seed})
            for task in flags["tasks"]
            for memory in flags["memories"] or memory_names()
            for seed in range(flags["seeds"])
        ]
        if download:
            load_images(configs[0].data, configs[0].data_dir, download=True)
        comparison = Comparison(output, configs)
        output.mkdir(parents=True, exist_ok=True)
    waiting = sum(not comparison.finished(name) for name in comparison.configs)
    click.echo(f"{_runs(len(configs))}, {waiting} of them to be trained, in {output}")
    try:
        tell = functools.partial(_tell, configs[0].num_steps)
        comparison.train(flags["jobs"], tell, _say_that_it_stops, ctx.meta[MODULES])
    except FailedRunsError as error:
        failed = error
    with _refusing_bad_input():
        if comparison.results():
            paths = comparison.write()
            click.echo("\n" + markdown_table(comparison.results()) + "\n")
            for path in paths:
                click.echo(f"  {path}")
    if failed is not None:
        raise click.ClickException(str(failed)) from failed


def _runs(count: int) -> str:
    return f"{count} run{'s' if count > 1 else ''}"


def _say_that_it_stops() -> None:
    """Answer Ctrl-C; called from a signal handler, perhaps while a line is being written."""
    with suppress(RuntimeError):  # Python refuses to write within a write
        click.echo("Stopping after these steps; press Ctrl-C again to stop at once.", err=True)


def _tell(total: int, name: str, event: str, row: dict[str, Any]) -> None:
    """A line for what happens to a run of a comparison, which is to have ``total`` steps."""
    if event == "begins":
        what = f"goes on from step {row['step']:,}" if row["step"] else "begins"
        click.echo(f"{name} {what}, to step {total:,}")
    elif event == "failed":
        click.echo(f"{name} failed: {row['reason']}", err=True)
    elif not row:
        click.echo(f"{name} has logged nothing yet")
    else:
        where = "is finished" if event == "finished" else f"is at step {row['step']:,}"
        parts = [f"negative bound {row['negative_elbo_per_frame']:.2f}"]
        if row.get("recall_kl") is not None:
            parts.insert(0, f"recall KL {row['recall_kl']:.2f}")
        click.echo(f"{name} {where}: {', '.join(parts)} nats a frame")


TRAINING = {
    "preset",
    "num_steps",
    "batch_size",
    "learning_rate",
    "list_length",
    "recall_length",
    "task_options",
    "elbo",
    "kl_warmup",
    "network",
    "likelihood",
    "writes",
    "decoder_input",
    "posterior",
    "latent_dim",
    "hidden_dim",
    "data",
    "data_dir",
    "download",
    "binarise",
    "device",
}
"""Options of train that compare has too: all that do not tell its runs apart."""

compare.params += [option for option in train.params if option.name in TRAINING]


def _train(run: Run, resume_command: str) -> None:
    config = run.experiment.config
    begun_at, begun = run.step, time.monotonic()
    click.echo(
        f"{config.task}, {config.memory} memory, {run.experiment.num_parameters:,} parameters, "
        f"on {run.experiment.device}; run folder {run.folder}"
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


@main.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@import_option
@click.argument("run", type=NamedPath(path_type=Path), metavar="RUN_FOLDER")
@click.option(
    "--num-given", type=click.IntRange(min=1), help="Frames given. [default: all before the recall]"
)
@click.option("--num-sequences", type=click.IntRange(1, 50), default=3, help="Sequences drawn.")
@click.option(
    "--sample", is_flag=True, help="Draw samples of the generated frames rather than means."
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_SEED),
    default=0,
    help="Of the sequences and the generation.",
)
@click.option("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, ...")
@click.option(
    "--data-dir",
    type=NamedPath(file_okay=False),
    help="Where the images are now, if they have moved.",
)
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, dir_okay=False),
    help="The picture. [default: RUN_FOLDER/figures/generated.png]",
)
def generate(
    run: Path,
    num_given: int | None,
    num_sequences: int,
    sample: bool,
    seed: int,
    device: str,
    data_dir: str | None,
    output: Path | None,
) -> None:
    """Continue held-out sequences with a trained model.

    RUN_FOLDER is what train has left.  The first frames are given, the rest is generated from the
    prior: what comes is what the memory holds.
    """
    with _refusing_bad_input():
        loaded = Run.load(run, device, data_dir)
        batch = loaded.experiment.held_out(num_sequences, seed)
        given = frames_before_recall(batch) if num_given is None else num_given
        if given >= len(batch.frames):
            raise ValueError(
                f"--num-given must be from 1 to {len(batch.frames) - 1} for sequences of "
                f"{len(batch.frames)} frames, got {given}"
            )
        path = output or run / "figures" / "generated.png"
        if not path.parent.is_dir():
            raise ValueError(f"output {path} cannot be written: {path.parent} is not a folder")
    figure = draw_strips(loaded, batch, given, num_sequences, sample, seed)
    try:
        save(figure, path)
    except OSError as error:
        raise Refused(f"output {path} cannot be written: {error.strerror}") from error
    click.echo(f"{given} frames given, {len(batch.frames) - given} generated: {path}")


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
