"""How long do the paper's million updates take, and does a captured step train as a plain one does?

    python benchmarks/million_updates.py
    python benchmarks/million_updates.py --memory dnc --memory vrnn --also-eager 500
    python benchmarks/million_updates.py --preset paper --matmul-precision high
    python benchmarks/million_updates.py --curves 2000 --seeds 3

Trained is perfect recall, built as ``examples/train.py`` builds it: on CUDA the whole step is
captured as a CUDA graph, on the CPU it is Pyro's own ``SVI.step``.  The clock starts after a
warm-up, which holds the capture, and stops when the last loss is read; drawing the sequences
counts, evaluations and checkpoints, of which there are none, do not.

With ``--curves N`` nothing is timed.  For each seed the model is trained for N steps with ``SVI``
and again with ``CapturedSVI``, from the same weights and with the same generators, and the mean
negative bound a frame (in nats) is compared over windows of a tenth of the steps.

- On CUDA the two see the same batches and the same noise, but kernels may add up in another order:
  rounding grows as the model trains, and the curves part.  So what is asked of each window is that
  the mean over seeds of the difference lies within 3 of its standard errors, or within rounding.
  With few seeds the standard error itself is uncertain: by chance alone a window lies outside with
  a probability of 10 % for 3 seeds, 4 % for 5 and 1.5 % for 10 (Student's t).
- On the CPU there is no capture.  ``CapturedSVI`` takes the step that would be captured one by one,
  and its curve must be that of ``SVI`` up to rounding, whatever the standard error.

Exit code 1 where they do not agree.  Ctrl-C ends either with what was measured so far.
"""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import click
import torch
from click.core import ParameterSource
from pyro.infer import SVI
from torch import Tensor

import pyro_gtm as gtm
from pyro_gtm.experiments.build import Experiment, build_experiment, pick_device
from pyro_gtm.experiments.config import MATMUL_PRECISIONS, PRESETS, Config, make_config
from pyro_gtm.experiments.data import MissingDataError
from pyro_gtm.experiments.run import stop_signals
from pyro_gtm.infer import CapturedSVI, NotCapturedWarning
from pyro_gtm.infer.training import NonFiniteLossError, settled, training_steps

MILLION = 1_000_000
WARM_UP = 10  # a capture is made after three steps
WINDOWS = 10
STANDARD_ERRORS = 3.0
ROUNDING = 1e-5  # of the bound; a single float32 sum is good to about 1e-6

Stop = Sequence[int]
"""Not empty once the user has asked to stop."""


@contextmanager
def noting_captures(reasons: list[str]) -> Iterator[None]:
    """Within it, a :class:`NotCapturedWarning` is put into ``reasons`` and not shown."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotCapturedWarning)
        yield
    for warning in caught:
        if isinstance(warning.message, NotCapturedWarning):
            reasons.append(str(warning.message))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def take_steps(
    experiment: Experiment, svi: SVI, num_steps: int, stop: Stop, reasons: list[str]
) -> Iterator[tuple[int, float]]:
    """Train, giving the number and loss of each step, until done or asked to stop.

    Args:
        experiment: what is trained.
        svi: how, with the experiment's model, guide and optimiser.
        num_steps: the last step.
        stop: see ``Stop``.
        reasons: is given the sentence that says why steps are not captured, if they were to be.

    Raises:
        click.ClickException: the loss or its gradient is not finite.
    """
    steps = training_steps(
        svi,
        experiment.draw,
        num_steps=num_steps,
        kl_warmup=experiment.config.kl_warmup,
        pause=lambda step: step == WARM_UP or bool(stop),
    )
    with noting_captures(reasons), closing(steps):
        try:
            for step, loss in steps:
                yield step, loss
                if stop and settled(svi):
                    return
        except NonFiniteLossError as error:
            raise click.ClickException(f"{experiment.config.memory}: {error}") from error


def plain_svi(experiment: Experiment) -> SVI:
    """Pyro's own, whose step is taken operation by operation on every device."""
    return SVI(experiment.svi.model, experiment.guide, experiment.optimizer, gtm.DeviceTrace_ELBO())


def captured_svi(experiment: Experiment) -> CapturedSVI:
    """The one that is trained on CUDA; elsewhere it takes the same step one by one."""
    if isinstance(experiment.svi, CapturedSVI):
        return experiment.svi
    return CapturedSVI(
        experiment.svi.model,
        experiment.guide,
        experiment.optimizer,
        gtm.DeviceTrace_ELBO(),
        device=experiment.device,
        generators=[experiment.draws],
    )


def build(config: Config) -> Experiment:
    try:
        return build_experiment(config)
    except (ValueError, MissingDataError) as error:
        raise click.UsageError(str(error)) from error


class Speed(NamedTuple):
    """What was measured of the updates of one kind of step."""

    kind: str
    """``captured``, ``one by one`` (was to be captured, and is not) or ``plain SVI``."""

    updates: int
    seconds: float
    reasons: list[str]
    """Why it is not captured, if it was to be."""

    @property
    def rate(self) -> float:
        """Updates a second."""
        return self.updates / self.seconds

    @property
    def minutes(self) -> float:
        """What a million updates would take."""
        return MILLION / self.rate / 60


def measure_speed(experiment: Experiment, svi: SVI, updates: int, stop: Stop) -> Speed | None:
    """Time ``updates`` updates after the warm-up; those taken, if the user stops it before.

    None where not one was timed.
    """
    reasons: list[str] = []
    begun = ended = math.nan
    taken = 0
    for step, _ in take_steps(experiment, svi, WARM_UP + updates, stop, reasons):
        if step == WARM_UP:
            begun = time.perf_counter()
        elif step > WARM_UP and settled(svi):  # else losses of a block are yet to be given
            taken, ended = step - WARM_UP, time.perf_counter()
    if not taken:
        return None
    kind = "plain SVI"
    if isinstance(svi, CapturedSVI):
        kind = "one by one" if reasons else "captured"
    return Speed(kind, taken, ended - begun, reasons)


SPEED_HEADER = (
    f"{'memory':15}{'updates':>9}{'a second':>11}{'a million take':>17}"
    f"{'plain, a second':>17}{'ratio':>8}  step"
)


def speed_row(memory: str, speed: Speed, plain: Speed | None) -> str:
    """A line for the step that is trained, and what it is to the plain one."""
    beside = f"{'-':>17}{'-':>8}"
    if plain is not None:
        beside = f"{plain.rate:17,.1f}{speed.rate / plain.rate:8.2f}"
    return (
        f"{memory:15}{speed.updates:9,}{speed.rate:11,.1f}{speed.minutes:13,.1f} min{beside}"
        f"  {speed.kind}"
    )


def show_speeds(
    configs: Sequence[Config], updates: int, eager_updates: int | None, stop: Stop
) -> None:
    """A row for each configuration, until the user stops it."""
    if torch.device(configs[0].device).type != "cuda":
        click.echo("Without CUDA nothing is captured: the step that is trained is the plain one.")
    click.echo(SPEED_HEADER)
    for config in configs:
        experiment = build(config)
        speed = measure_speed(experiment, experiment.svi, updates, stop)
        plain = None
        if eager_updates is not None and not stop:
            experiment = build(config)
            plain = measure_speed(experiment, plain_svi(experiment), eager_updates, stop)
        if speed is not None:
            click.echo(speed_row(config.memory, speed, plain))
            for reason in speed.reasons:
                click.echo(f"{'':15}{reason}.")
        if stop:
            return


class Window(NamedTuple):
    """Some steps of both curves; bounds are negative, in nats a frame, means over steps and seeds.

    The difference is that of the captured from the plain one.
    """

    first: int
    last: int
    plain: float
    captured: float
    difference: float
    error: float
    """Standard error of the difference, from seed to seed."""

    def agrees(self, rounding_only: bool) -> bool:
        """Whether the difference is small; NaN is not."""
        allowed = ROUNDING * abs(self.plain)
        if not rounding_only:
            allowed = max(allowed, STANDARD_ERRORS * self.error)
        return abs(self.difference) <= allowed


def compare(plain: Tensor, captured: Tensor) -> list[Window]:
    """The two in ``WINDOWS`` windows, as equal as can be.

    Args:
        plain: negative bound a frame of each step: ``(seeds, steps)``, at least 2 seeds.
        captured: the same of the other.
    """
    windows = []
    first = 1
    pieces = (curves.tensor_split(WINDOWS, dim=1) for curves in (plain, captured))
    for one, other in zip(*pieces, strict=True):
        differences = other.mean(1) - one.mean(1)  # (seeds,)
        last = first + one.shape[1] - 1
        windows.append(
            Window(
                first,
                last,
                one.mean().item(),
                other.mean().item(),
                differences.mean().item(),
                differences.std().item() / math.sqrt(len(differences)),
            )
        )
        first = last + 1
    return windows


WINDOW_HEADER = (
    f"{'steps':>15}{'SVI':>12}{'CapturedSVI':>13}{'difference':>13}{'its error':>12}  verdict"
)


def window_row(window: Window, rounding_only: bool) -> str:
    return (
        f"{f'{window.first}-{window.last}':>15}{window.plain:12.3f}{window.captured:13.3f}"
        f"{window.difference:13.2e}{window.error:12.2e}"
        f"  {'agree' if window.agrees(rounding_only) else 'DIFFER'}"
    )


def train(
    config: Config, inference: Callable[[Experiment], SVI], stop: Stop, reasons: list[str]
) -> list[float]:
    """The negative bound a frame of each step, fewer than asked for where the user stops it."""
    experiment = build(config)
    frames = config.batch_size * experiment.training_task.num_steps
    steps = take_steps(experiment, inference(experiment), config.num_steps, stop, reasons)
    return [loss / frames for _, loss in steps]


def train_pairs(configs: Sequence[Config], stop: Stop, reasons: list[str]) -> Tensor:
    """Both curves of each seed whose training was not stopped: ``(pairs, 2, steps)``, float64."""
    pairs: list[list[list[float]]] = []
    for config in configs:
        pair = [train(config, inference, stop, reasons) for inference in (plain_svi, captured_svi)]
        if any(len(curve) < config.num_steps for curve in pair):
            break
        pairs.append(pair)
        click.echo(f"{config.memory}: seed {config.seed} trained both ways")
    return torch.tensor(pairs, dtype=torch.float64)


def show_curves(memory: str, pairs: Tensor, rounding_only: bool) -> bool:
    """The table of one memory and a sentence, and whether the curves agree.

    Args:
        memory: its name.
        pairs: ``(seeds, 2, steps)``, plain and captured.
        rounding_only: whether nothing but rounding may be between them.
    """
    windows = compare(pairs[:, 0], pairs[:, 1])
    click.echo(WINDOW_HEADER)
    for window in windows:
        click.echo(window_row(window, rounding_only))
    differ = sum(not window.agrees(rounding_only) for window in windows)
    limit = f"{ROUNDING:.0e} of the bound"
    if not rounding_only:
        limit = f"{STANDARD_ERRORS:.0f} standard errors (or {limit})"
    click.echo(
        f"{memory}: over {len(pairs)} seeds the curves "
        + (f"DIFFER by more than {limit} in {differ} of" if differ else f"agree within {limit} in")
        + f" {WINDOWS} windows"
    )
    return differ == 0


def explain_comparison(device: torch.device) -> str:
    if device.type == "cuda":
        return (
            "SVI against CapturedSVI, from the same weights, batches and noise; rounding grows in "
            "training, so differences are held against their standard error over seeds."
        )
    return (
        "SVI against the step that CUDA would capture, here taken one by one: with the same "
        "weights, batches and noise the curves must be equal up to rounding."
    )


def compare_training(
    configs: Sequence[Config], seeds: int, num_steps: int, device: torch.device, stop: Stop
) -> list[str]:
    """Show the curves of each configuration; the memories whose curves differ."""
    on_cuda = device.type == "cuda"
    click.echo(explain_comparison(device))
    differ = []
    for config in configs:
        reasons: list[str] = []
        seeded = [replace(config, seed=seed, num_steps=num_steps) for seed in range(seeds)]
        pairs = train_pairs(seeded, stop, reasons)
        if on_cuda:
            for reason in dict.fromkeys(reasons):
                click.echo(f"{config.memory}: {reason}.")
        if len(pairs) < 2:
            click.echo(f"{config.memory}: stopped before two seeds were trained, nothing to tell")
        elif not show_curves(config.memory, pairs, rounding_only=not on_cuda):
            differ.append(config.memory)
        if stop:
            break
    return differ


def describe(config: Config, device: torch.device) -> str:
    """What is measured and where, in a line."""
    task = build(config).training_task
    recalled = task.num_steps - task.num_given
    where = f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return (
        f"perfect recall ({task.num_given}, {recalled}), batches of {config.batch_size}, "
        f"preset {config.preset}, {config.network}, {config.precision}, "
        f"matmul precision {config.matmul_precision}; {where}, PyTorch {torch.__version__}"
    )


def find_device(_: click.Context, __: click.Parameter, name: str) -> torch.device:
    try:
        return pick_device(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def refuse_idle_options(ctx: click.Context, curves: int | None) -> None:
    """An option that would do nothing was given by mistake."""
    idle = ("seeds",) if curves is None else ("updates", "also_eager")
    for name in idle:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = f"--{name.replace('_', '-')}"
            needs = "needs" if curves is None else "times updates, and is not allowed with"
            raise click.UsageError(f"{flag} {needs} --curves.")


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--memory",
    "memories",
    type=click.Choice(gtm.memory_names()),
    multiple=True,
    default=["introspective"],
    help="May be given more than once.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", callback=find_device
)
@click.option("--updates", type=click.IntRange(1), default=20_000, help="Timed, of each memory.")
@click.option(
    "--also-eager", type=click.IntRange(1), help="Time so many updates of the plain step as well."
)
@click.option(
    "--curves",
    type=click.IntRange(WINDOWS),
    help="Time nothing: train so many steps both ways, and compare.",
)
@click.option("--seeds", type=click.IntRange(2), default=3, help="Of the curves.")
@click.option("-b", "--batch-size", type=click.IntRange(1), default=16, help="The paper's.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="small")
@click.option("--network", type=click.Choice(["mlp", "conv"]), show_default="the preset's")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--matmul-precision", type=click.Choice(MATMUL_PRECISIONS), default="highest")
@click.pass_context
def main(
    ctx: click.Context,
    memories: tuple[str, ...],
    device: torch.device,
    updates: int,
    also_eager: int | None,
    curves: int | None,
    seeds: int,
    batch_size: int,
    preset: str,
    network: str | None,
    precision: str,
    matmul_precision: str,
) -> None:
    """Time whole training, or compare the training of captured steps with that of plain ones."""
    refuse_idle_options(ctx, curves)
    configure = partial(
        make_config,
        preset,
        elbo="trace",
        device=str(device),
        batch_size=batch_size,
        precision=precision,
        matmul_precision=matmul_precision,
        **({} if network is None else {"network": network}),
    )
    configs = [configure(memory=memory) for memory in dict.fromkeys(memories)]
    differ: list[str] = []
    with stop_signals(lambda: click.echo("Stopping after this step.", err=True)) as stop:
        click.echo(describe(configs[0], device))
        if curves is None:
            show_speeds(configs, updates, also_eager, stop)
        else:
            differ = compare_training(configs, seeds, curves, device, stop)
    if differ:
        raise click.ClickException(
            f"with {', '.join(differ)} CapturedSVI does not train as SVI does: if by a single "
            "window, try again with more --seeds"
        )
    if stop:
        click.echo("Stopped: what is shown was measured until then.")
        ctx.exit(128 + stop[0])


if __name__ == "__main__":
    main()
