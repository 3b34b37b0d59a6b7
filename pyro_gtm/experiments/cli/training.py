"""``pyro-gtm train``: one run, from its options to its figures."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import click
import torch

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    MODULES,
    NamedPath,
    download_option,
    given_settings,
    import_option,
    length_options,
    refusing_bad_input,
    setting_options,
    tell_notes,
    tensorboard_option,
)
from pyro_gtm.experiments.cli.progress import progress_display
from pyro_gtm.experiments.cli.ranks import launcher, ranks_of_command
from pyro_gtm.experiments.config import SETTINGS, Config, make_config, read_config
from pyro_gtm.experiments.data import load_data
from pyro_gtm.experiments.distributed_run import DistributedRun
from pyro_gtm.experiments.machine import TooLittleMemoryError
from pyro_gtm.experiments.metrics import kl_name
from pyro_gtm.experiments.report import draw_figures, summary_table
from pyro_gtm.experiments.run import FolderTakenError, Interrupted, Run
from pyro_gtm.experiments.tensorboard import TensorBoardLog, summary_writer
from pyro_gtm.experiments.training_loop import each_while_it_can
from pyro_gtm.infer.check_observations import InvalidFramesError
from pyro_gtm.infer.ranks import LostRankError, Ranks
from pyro_gtm.infer.training import NonFiniteLossError
from pyro_gtm.internals.compiling import CannotCompileError
from pyro_gtm.internals.products import present_products

__all__ = ["train"]


@click.command(context_settings=COMMAND)
@import_option
@setting_options(setting for setting in SETTINGS.values() if setting.option)
@length_options("the preset's")
@download_option
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="CPU threads. [default: 1 for mlp networks, PyTorch's own choice for others]",
)
@tensorboard_option
@click.option("-q", "--quiet", is_flag=True, help="Print the run's folder at the end, and errors.")
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

    Started by torchrun --nproc-per-node=N -m pyro_gtm train, N processes train one model, each on
    --batch-size sequences of its own.
    """
    with ranks_of_command() as ranks:
        _train_or_resume(ctx, ranks, flags)


def _train_or_resume(ctx: click.Context, ranks: Ranks, flags: dict[str, Any]) -> None:
    given = given_settings(ctx, flags)
    output, resume = given.pop("output", None), given.pop("resume", None)
    download, threads = given.pop("download", False), given.pop("threads", None)
    tensorboard, quiet = given.pop("tensorboard", False), given.pop("quiet", False)
    with refusing_bad_input():
        if tensorboard:
            summary_writer()  # refuses what is not installed
        if resume is not None:
            run = _resume(resume, output, download, ranks, given)
        else:
            run = _start(output, download, ranks, given)
    # Matrices this small gain little from a second thread on an idle machine; on a busy one, where
    # threads wait for each other in turns, it has cost a factor of ten.
    if threads is None and run.experiment.config.network == "mlp":
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    if not ranks.first:
        run.train()
        return
    command = ctx.command_path if ctx.parent else f"python {shlex.quote(sys.argv[0])}"
    if ranks.size > 1:
        command = f"{launcher(ranks)} -m pyro_gtm train"
    imports = "".join(f" --import {shlex.quote(module)}" for module in ctx.meta[MODULES])
    flags_again = " --tensorboard" * tensorboard + " --quiet" * quiet
    again = f"{command} --resume {shlex.quote(str(run.folder))}{imports}{flags_again}"
    _train(run, again, tensorboard, quiet)


def _start(folder: Path | None, download: bool, ranks: Ranks, given: dict[str, Any]) -> Run:
    config = make_config(given.pop("preset", "small"), **given, ranks=ranks.size)
    if download:
        _download(config, ranks)
    kind = _kind(ranks)
    return _start_in_fresh_folder(kind, config) if folder is None else kind.start(folder, config)


def _resume(
    folder: Path, output: Path | None, download: bool, ranks: Ranks, given: dict[str, Any]
) -> Run:
    if output is not None:
        raise ValueError("--output: must be left out, as --resume names the folder of the run")
    if download:
        _download(ranks.from_first(lambda: read_config(folder / "config.json")), ranks)
    return _kind(ranks).resume(folder, **given, ranks=ranks.size)


def _kind(ranks: Ranks) -> type[Run]:
    return Run if ranks.size == 1 else DistributedRun


def _download(config: Config, ranks: Ranks) -> None:
    """Fetch what lacks, before any other process looks for it."""
    with ranks.failing_together():
        if ranks.first:
            load_data(config.data, config.data_dir, True, config.binarise)


def _start_in_fresh_folder(kind: type[Run], config: Config) -> Run:
    """A run in ``runs/TASK-MEMORY-seedN``, with a number behind it if that one is taken."""
    base = Path("runs") / f"{config.task}-{config.memory}-seed{config.seed}"
    folder, number = base, 1
    while True:
        while os.path.lexists(folder):
            number += 1
            folder = base.with_name(f"{base.name}-{number}")
        try:
            return kind.start(folder, config)
        except FolderTakenError:  # by a run that began while this one was being built
            continue


def _train(run: Run, resume_command: str, tensorboard: bool, quiet: bool) -> None:
    begun_at, begun = run.step, time.monotonic()
    if not quiet:
        _announce(run)
    with _telling_how_it_ended(run, resume_command), run.holding_folder():
        config = run.experiment.config
        kl = kl_name(config.prior)
        with (
            progress_display(config.num_steps, run.step, kl, quiet) as progress,
            TensorBoardLog(run) if tensorboard else nullcontext() as board,
        ):
            listeners = [progress] if board is None else [progress, board]
            run.train(each_while_it_can(*listeners), progress.stopping)
        seconds = time.monotonic() - begun
        with run.stopping_at_once():
            summary = run.write_summary(seconds, run.step - begun_at)
            figures = draw_figures(run)
    if quiet:
        click.echo(run.folder)
        return
    click.echo("\n" + summary_table(summary))
    click.echo(f"\nFigures, metrics and checkpoints are in {run.folder}:")
    for path in figures:
        click.echo(f"  {path}")
    if not any(path.stem == "attention" for path in figures):
        memory = run.experiment.config.memory
        click.echo(f"  (no attention figure: the {memory} memory does not attend to past steps)")


def _announce(run: Run) -> None:
    config, device = run.experiment.config, run.experiment.device
    tell_notes(run)
    if not run.exact:
        click.echo(
            f"The run was saved on another kind of device: on {device} it goes on with other "
            "random numbers than it would have had."
        )
    click.echo(
        f"{config.task}, {config.memory} memory, {config.prior} prior"
        f"{f' with {config.prototypes:,} prototypes' if config.prototypes else ''}, posterior "
        f"{config.posterior}, writes {config.writes}, {run.experiment.num_parameters:,} "
        f"parameters, on {device}; run folder {run.folder}"
    )
    if device.type == "cpu":
        products = present_products()
        click.echo(f"Linear layers multiply with {products.backend}, {products.reason}.")
    if run.init_record is not None and run.step == 0:
        _tell_of_weights(run.init_record)
    if config.kl_annealing > config.num_steps:
        click.echo(
            f"Note: the weight of the KL does not reach 1: it grows over {config.kl_annealing:,} "
            f"steps, of which {config.num_steps:,} are taken.",
            err=True,
        )
    if config.compile_steps and run.step < config.num_steps:
        click.echo(
            f"Compiling {config.compile_steps} time steps before the first step, which can take "
            "minutes, also to stop."
        )
    if config.network == "conv" and device.type == "cpu":
        click.echo(
            "Warning: conv networks are slow on a CPU, about 5 s a step and 30 s an evaluation at "
            "the default sizes on two cores: choose --network mlp, fewer --num-steps or a GPU.",
            err=True,
        )


def _tell_of_weights(record: dict[str, Any]) -> None:
    """Name what was taken from another run, and what was not."""
    count = len(record["taken"])
    click.echo(
        f"Weights of {record['folder']} after step {record['step']:,}: {count} of its "
        f"{count + len(record['ignored'])} tensors are taken."
    )
    for what, names in (
        ("Drawn anew here", record["left"]),
        ("Not taken from there", record["ignored"]),
    ):
        if names:
            click.echo(f"  {what}: {', '.join(names)}")


@contextmanager
def _telling_how_it_ended(run: Run, resume_command: str) -> Iterator[None]:
    """Within it, a run that ends early is told of, with what is kept and how to go on."""
    try:
        yield
    except Interrupted as interruption:
        with suppress(OSError):  # the terminal may have been closed
            click.echo(
                f"Stopped after step {interruption.step:,}; everything is saved. Continue with\n"
                f"  {resume_command}"
            )
        raise SystemExit(128 + interruption.signal) from None
    except KeyboardInterrupt:
        go_on = "Begin again" if run.saved_step is None else "Continue from it"
        click.echo(
            f"Stopped at once after step {run.step:,}; {_what_is_saved(run)}. "
            f"{go_on} with\n  {resume_command}"
        )
        raise SystemExit(128 + signal.SIGINT) from None
    except (NonFiniteLossError, InvalidFramesError) as error:
        checkpoints = run.checkpoints()
        kept = (
            f"the last good checkpoint is {checkpoints[-1]}"
            if checkpoints
            else "no checkpoint was saved"
        )
        data = isinstance(error, InvalidFramesError)
        advice = "Mend the task or its data." if data else "A smaller --learning-rate may help."
        raise click.ClickException(f"{error}; {kept}. {advice}") from error
    except LostRankError as error:
        raise click.ClickException(
            f"{error}; {_what_is_saved(run)}. Continue with {resume_command}"
        ) from error
    except CannotCompileError as error:
        raise click.ClickException(
            f"{error}. Go on without it with {resume_command} --compile-steps 0"
        ) from error
    except TooLittleMemoryError as error:
        raise click.ClickException(
            f"after step {run.step:,}, {error}; {_what_is_saved(run)}. A run of these sizes goes "
            f"on, in less memory, with {resume_command} --checkpoint-every N"
        ) from error
    except OSError as error:
        if not run.folder.exists():
            raise click.ClickException(
                f"{run.folder} is gone, taken away while the run was at step {run.step:,}, and "
                "all that was in it: begin again"
            ) from error
        raise click.ClickException(
            f"{error.filename or run.folder} cannot be written: {error.strerror}. Make room and "
            f"continue with {resume_command}"
        ) from error


def _what_is_saved(run: Run) -> str:
    saved = run.saved_step
    return "no checkpoint was saved" if saved is None else f"step {saved:,} was saved last"
