"""``pyro-gtm series``: fit a model to one's own sequences, and ask it.

One command a verb.  Each reads the data as ``fit`` did, whose choices lie beside the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pyro_gtm.experiments.cli.options import (
    COMMAND,
    NamedPath,
    Refused,
    Registered,
    device_option,
    import_option,
    named_values_option,
    refusing_bad_input,
)
from pyro_gtm.experiments.cli.progress import SeriesProgress
from pyro_gtm.experiments.config import MAX_SEED
from pyro_gtm.experiments.signals import stop_signals
from pyro_gtm.infer import NonFiniteLossError
from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.internals.files import make_writable_folder
from pyro_gtm.memory.registry import MEMORIES
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.series.data import Series, abridged
from pyro_gtm.series.fitting import fit, resume
from pyro_gtm.series.held_out import PLAN, SPLITS, DataPlan, Parts, read_plan
from pyro_gtm.series.model import DESCRIPTION, SCORES, WEIGHTS, SeriesModel, decided, load
from pyro_gtm.series.scoring import MOST_ORIGINS, Scores, evaluate
from pyro_gtm.series.settings import Settings
from pyro_gtm.series.tables import QUANTILES, check_quantiles, check_table_path

__all__ = ["series"]

DEFAULTS = Settings()

MOST_CHANNELS = 8
"""Whose scores are printed; the table has those of all."""


@click.group(context_settings=COMMAND)
def series() -> None:
    """Your own sequences: fit a model, then forecast, impute, judge.

    DATA is a .csv table (wide or long), an .npy or .npz array, a .json of note lists, or a folder
    of images or of such folders.
    """


data_option = click.option(
    "--data", "path", type=NamedPath(path_type=Path), required=True, help="The file or folder."
)
model_argument = click.argument("folder", type=NamedPath(path_type=Path), metavar="MODEL_FOLDER")
seed_option = click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Of the samples."
)
samples_option = click.option(
    "-s", "--num-samples", type=click.IntRange(1, 100_000), default=200, help="Samples of each."
)
quantiles_option = click.option(
    "-q",
    "--quantile",
    "quantiles",
    type=float,
    multiple=True,
    default=QUANTILES,
    help="A column of the table; repeatable.",
)


def _reading_options(command: Any) -> Any:
    """How a file is read, for what is not found by its usual name."""
    for flag, name, help in reversed(
        (
            ("--id-column", "id", "Column of series names. [default: id, series, unique_id, ...]"),
            ("--time-column", "time", "Column of times. [default: time, date, ds, t, ...]"),
            ("--channel-column", "channel", "Of a long table. [default: channel, variable]"),
            ("--value-column", "value", "Of a long table. [default: value]"),
            ("--part", "part", "Of a .json with several lists."),
        )
    ):
        command = click.option(flag, name, help=help)(command)
    return click.option(
        "--control",
        "controls",
        multiple=True,
        help="A column of numbers known beforehand; repeatable.",
    )(command)


def _outputs(table: str, figure: str) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for flag, name, default, what in (
            ("--figure", "figure", figure, "The picture, a PNG; replaced if there is one."),
            ("--output", "output", table, "The table, .csv or .parquet; replaced if there is one."),
        ):
            flags = ("-o", flag) if flag == "--output" else (flag,)
            command = click.option(
                *flags,
                name,
                type=NamedPath(path_type=Path, dir_okay=False),
                default=default,
                help=what,
            )(command)
        return command

    return decorate


def _reading(given: dict[str, Any]) -> dict[str, Any]:
    """What was given of the options of reading."""
    names = ("id", "time", "channel", "value", "part", "controls")
    taken = {name: given.pop(name) for name in names}
    taken["controls"] = tuple(taken["controls"]) or None
    return {name: value for name, value in taken.items() if value is not None}


@series.command("fit", context_settings=COMMAND)
@import_option
@data_option
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, file_okay=False),
    help="Folder of the model. [default: runs/DATA-MEMORY]",
)
@click.option("--resume", "goes_on", is_flag=True, help="Go on with the model in --output.")
@click.option("--memory", type=Registered(MEMORIES), default=DEFAULTS.memory, help="Memory.")
@named_values_option("--memory-option", "An argument of the memory's class; repeatable.")
@click.option(
    "--likelihood",
    type=Registered(LIKELIHOODS, ("auto",)),
    default="auto",
    help="Of a value; auto is bernoulli for 0 and 1, else gaussian.",
)
@click.option(
    "-n",
    "--num-steps",
    type=click.IntRange(1),
    help=f"Gradient steps. [default: {DEFAULTS.num_steps}]",
)
@click.option("-b", "--batch-size", type=click.IntRange(1), default=DEFAULTS.batch_size)
@click.option("-lr", "--learning-rate", type=float, default=DEFAULTS.learning_rate)
@click.option(
    "--window", type=click.IntRange(2), default=DEFAULTS.window, help="Steps seen at once."
)
@click.option("--latent-dim", type=click.IntRange(1), default=DEFAULTS.latent_dim)
@click.option("--hidden-dim", type=click.IntRange(1), default=DEFAULTS.hidden_dim)
@click.option("--prior", type=click.Choice(("gaussian", "mixture")), default=DEFAULTS.prior)
@click.option(
    "--posterior",
    type=click.Choice(("auto", "residual", "direct", "frame")),
    default="auto",
    help="auto is residual; frame for the associative memory.",
)
@click.option(
    "--writes",
    type=click.Choice(("auto", "latent", "mean", "latent+frame")),
    default="auto",
    help="auto is latent+frame; mean for the associative memory.",
)
@click.option("--elbo", type=Registered(ELBOS), default=DEFAULTS.elbo)
@click.option(
    "--kl-annealing",
    type=click.IntRange(0),
    help="Steps over which the weight of the KL grows. [default: a quarter]",
)
@click.option(
    "--drop",
    type=click.FloatRange(0, 1),
    default=DEFAULTS.drop,
    help="Share of windows with values hidden in training.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 0.5),
    default=DEFAULTS.validation,
    help="Share of what is learned from that is set apart to choose the best weights; 0 for none.",
)
@click.option(
    "--split", type=click.Choice(SPLITS), default="time", help="What is held out for judging."
)
@click.option("--hold-out", type=float, default=0.2, help="Share held out.")
@click.option(
    "--horizon",
    type=click.IntRange(1),
    help="Of the forecasts that judge it. [default: what is held out, half a window at most]",
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Of weights and windows.")
@device_option
@_reading_options
def fit_command(
    path: Path,
    output: Path | None,
    goes_on: bool,
    num_steps: int | None,
    split: str,
    hold_out: float,
    horizon: int | None,
    device: str,
    **given: Any,
) -> None:
    """Fit a model to your own sequences.

    Holds out the last part of every series, fits to the rest, judges forecasts of what was held
    out, and draws one.
    """
    reading = _reading(given)
    with refusing_bad_input():
        if goes_on:
            _refuse_changes(click.get_current_context())
        if output is None:
            output = Path("runs") / f"{path.stem}-{given['memory']}"
        taken = output.exists() and (not output.is_dir() or any(output.iterdir()))
        if taken and not goes_on:
            raise ValueError(
                f"output: got {output}, must be empty or new; --resume continues the model in it"
            )
        if goes_on and not (output / DESCRIPTION).is_file():
            raise ValueError(f"output: {output} holds no model to resume")
        plan = read_plan(output) if goes_on else DataPlan(split, hold_out, given["seed"], reading)
        whole = plan.read(path)
        parts = plan.apply(whole)
        if plan.split == "series":
            plan = replace(plan, held_out=parts.judged.ids)
        room = int((parts.judged.lengths - parts.first).max())
        if horizon is not None and horizon > room:
            raise ValueError(
                f"horizon: got {horizon}, must be at most {room}, the steps to judge it by"
            )
        for note in whole.notes[:5]:
            click.echo(f"{path}: {note}")
        steps: dict[str, Any] = {} if num_steps is None else {"num_steps": num_steps}
        # What is impossible is refused before the folder is made.
        if goes_on:
            settings = load(output, "cpu").settings
        else:
            settings = decided(Settings(**given, **steps), parts.train)
        make_writable_folder(output, "output")
        _announce(path, parts, plan, settings)
        with _leaving_nothing_half_made(output):
            model = _fitted(path, parts, output, goes_on, settings, steps, device, plan)
        _judge(model, parts, plan, horizon, output)


def _refuse_changes(ctx: click.Context) -> None:
    """What a fit that goes on keeps, it is not told anew."""
    may = ("path", "output", "goes_on", "num_steps", "horizon", "device")
    for name in ctx.params:
        if name not in may and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = next(p.opts[-1] for p in ctx.command.params if p.name == name)
            raise ValueError(
                f"{flag}: must be left out, as --resume goes on with what fit was told"
            )


@contextmanager
def _leaving_nothing_half_made(output: Path) -> Iterator[None]:
    """Within it, a fit that ends before its model is saved leaves nothing of it in the folder."""
    try:
        yield
    except BaseException:
        if not (output / DESCRIPTION).is_file():
            for name in (PLAN, WEIGHTS):
                (output / name).unlink(missing_ok=True)
            with suppress(OSError):  # it may hold something else, or be gone
                output.rmdir()
        raise


def _fitted(
    path: Path,
    parts: Parts,
    output: Path,
    goes_on: bool,
    settings: Settings,
    steps: dict[str, Any],
    device: str,
    plan: DataPlan,
) -> SeriesModel:
    """A model fitted to the last step; otherwise the process ends here."""
    total = steps.get("num_steps", settings.num_steps)
    done = load(output, "cpu").step if goes_on else 0
    with SeriesProgress(total, done) as progress, stop_signals(progress.stopping) as stop:

        def show(step: int, loss: float) -> bool:
            if step == 1:  # nothing was refused
                plan.save(output)
            progress(step, loss)
            return bool(stop)

        try:
            if goes_on:
                model = resume(output, parts.train, device=device, progress=show, **steps)
            else:
                options = {**settings.to_dict(), "folder": output, "device": device}
                model = fit(parts.train, progress=show, **options)
        except NonFiniteLossError as error:
            kept = "nothing was saved"
            if (output / DESCRIPTION).is_file():
                kept = f"step {load(output, 'cpu').step:,} was saved last"
            raise click.ClickException(
                f"{error}; {kept}. A smaller --learning-rate may help."
            ) from error
    if model.step < total:
        click.echo(
            f"Stopped after step {model.step:,}; everything is saved. Go on with\n"
            f"  pyro-gtm series fit --data {path} --output {output} --resume"
        )
        raise SystemExit(128 + stop[0])
    return model


def _announce(path: Path, parts: Parts, plan: DataPlan, settings: Settings) -> None:
    train = parts.train
    held_out = "nothing is" if plan.split == "none" else f"{plan.share:.0%}, by {plan.split}, is"
    gaps = int(train.gaps.sum())
    channels = "x".join(map(str, train.event_shape))
    click.echo(
        f"{path}: {train.num_series:,} series to learn from, {int(train.lengths.min()):,} to "
        f"{train.num_steps:,} steps of {channels} values, {gaps:,} missing; {held_out} held out"
    )
    click.echo(
        f"{settings.memory} memory, likelihood {settings.likelihood}, posterior "
        f"{settings.posterior}, writes {settings.writes}, windows of {settings.window} steps"
    )


def _judge(
    model: SeriesModel, parts: Parts, plan: DataPlan, horizon: int | None, output: Path
) -> None:
    room = parts.judged.lengths - parts.first  # (N,)
    horizon = horizon or max(1, min(int(room.max()), model.window // 2))
    long_enough = (room >= horizon).nonzero().flatten().tolist()
    if not long_enough:
        click.echo("\nNot judged: no step is left to judge by.")
        return
    judged = parts.judged.select(long_enough)
    _tell_of_long_horizon(model, horizon)
    scores = evaluate(model, judged, horizon, first=parts.first[long_enough].tolist())
    forecast = model.forecast(judged, horizon, origin=(judged.lengths - horizon).tolist())
    paths: dict[str, Callable[[Path], Any]] = {
        "forecast.png": forecast.plot,
        "scores.png": scores.plot,
        SCORES: scores.save,
    }
    of_what = "of what was learned from" if plan.split == "none" else "held out"
    click.echo(f"\nForecasts of {horizon} steps, {of_what}:\n{_table(scores)}")
    click.echo(f"\nThe model is in {output}:")
    for name, write in paths.items():
        write(output / name)
        click.echo(f"  {output / name}")


def _table(scores: Scores) -> str:
    summary = scores.summary()
    lines = [(scores.score_name, f"{summary['crps']:.4g}")]
    if 1 < len(scores.channels) <= MOST_CHANNELS:
        of_channels = scores.crps.nanmean(0).tolist()
        lines += [
            (f"  of {name}", f"{of_channel:.4g}")
            for name, of_channel in zip(scores.channels, of_channels, strict=True)
        ]
    lines.append(("the naive forecast's", f"{summary['naive_crps']:.4g}"))
    lines += [
        (
            f"values inside the {level:.0%} interval",
            "too few samples" if math.isnan(share) else f"{share:.0%}",
        )
        for level, share in scores.coverage.items()
    ]
    if scores.negative_elbo is not None:
        lines.append(("negative ELBO, nats a frame", f"{scores.negative_elbo:.3f}"))
    return "\n".join(f"  {name:34}{value:>10}" for name, value in lines)


def _opened(
    folder: Path, path: Path, device: str, given: dict[str, Any]
) -> tuple[SeriesModel, Series, DataPlan]:
    """The model, and data read as its own was."""
    reading = _reading(given)
    model, plan = load(folder, device), read_plan(folder)
    data = plan.read(path, reading)
    model.check(data)
    for note in data.notes[:5]:
        click.echo(f"{path}: {note}")
    if empty := data.empty_channels:
        click.echo(
            f"{path}: no value of {abridged(empty)} is there: what is said of it rests on the "
            "other channels alone"
        )
    return model, data, plan


def _tell_of_long_horizon(model: SeriesModel, horizon: int) -> None:
    if horizon > model.window:
        click.echo(
            f"Note: the model learned from windows of {model.window:,} steps, and never to "
            f"forecast {horizon:,}, which are drawn one after the other.",
            err=True,
        )


def _check_outputs(output: Path, figure: Path, data: Path | None = None) -> None:
    check_table_path(output)
    for argument, path in (("output", output), ("figure", figure)):
        if data is not None and path.exists() and path.samefile(data):
            raise ValueError(f"{argument}: got {path}, must be another file than the data")
    if figure.suffix.lower() != ".png":
        raise ValueError(f"figure: got {figure}, must end in .png")
    for argument, path in (("output", output), ("figure", figure)):
        if not path.parent.is_dir():
            raise ValueError(f"{argument}: got {path}, and {path.parent} is not a folder")
        make_writable_folder(path.parent, argument)


def _write(made: Any, output: Path, figure: Path, *table_options: Any) -> None:
    made.save(output, *table_options)
    made.plot(figure)
    click.echo(f"{output}\n{figure}")


@series.command("forecast", context_settings=COMMAND)
@import_option
@model_argument
@data_option
@click.option("--horizon", type=click.IntRange(1), required=True, help="Steps.")
@click.option(
    "--origin", type=click.IntRange(1), help="First step that is forecast. [default: after the end]"
)
@samples_option
@quantiles_option
@_outputs("forecast.csv", "forecast.png")
@seed_option
@device_option
@_reading_options
def forecast_command(
    folder: Path,
    path: Path,
    horizon: int,
    origin: int | None,
    num_samples: int,
    quantiles: Sequence[float],
    output: Path,
    figure: Path,
    seed: int,
    device: str,
    **given: Any,
) -> None:
    """Forecast what comes after the series in the data."""
    with refusing_bad_input():
        check_quantiles(quantiles)
        model, data, _ = _opened(folder, path, device, given)
        _check_outputs(output, figure, path)
        _tell_of_long_horizon(model, horizon)
        made = model.forecast(data, horizon, num_samples=num_samples, origin=origin, seed=seed)
        _write(made, output, figure, quantiles)


@series.command("impute", context_settings=COMMAND)
@import_option
@model_argument
@data_option
@samples_option
@quantiles_option
@_outputs("imputed.csv", "imputed.png")
@seed_option
@device_option
@_reading_options
def impute_command(
    folder: Path,
    path: Path,
    num_samples: int,
    quantiles: Sequence[float],
    output: Path,
    figure: Path,
    seed: int,
    device: str,
    **given: Any,
) -> None:
    """Fill the gaps of the series in the data."""
    with refusing_bad_input():
        check_quantiles(quantiles)
        model, data, _ = _opened(folder, path, device, given)
        if not bool(data.gaps.any()):
            raise ValueError(f"data: {path} has no gaps to fill")
        _check_outputs(output, figure, path)
        made = model.impute(data, num_samples=num_samples, seed=seed)
        _write(made, output, figure, quantiles)


@series.command("surprise", context_settings=COMMAND)
@import_option
@model_argument
@data_option
@click.option(
    "-s", "--num-samples", type=click.IntRange(1, 100_000), default=10, help="Of the posterior."
)
@click.option(
    "--num-particles",
    type=click.IntRange(0),
    default=0,
    help="Of the importance-weighted bound of each series, which is printed; 0 for none.",
)
@_outputs("surprise.csv", "surprise.png")
@seed_option
@device_option
@_reading_options
def surprise_command(
    folder: Path,
    path: Path,
    num_samples: int,
    num_particles: int,
    output: Path,
    figure: Path,
    seed: int,
    device: str,
    **given: Any,
) -> None:
    """Say how unexpected each frame of the data is."""
    with refusing_bad_input():
        model, data, _ = _opened(folder, path, device, given)
        _check_outputs(output, figure, path)
        made = model.surprise(data, num_samples=num_samples, num_particles=num_particles, seed=seed)
        mean = made.negative_elbo.nanmean().item()
        click.echo(f"negative ELBO: {mean:.4g} nats a frame")
        if made.evidence is not None:
            for name, bound in zip(data.ids, made.evidence.tolist(), strict=True):
                click.echo(f"{name}: log p >= {bound:.4g} nats, {num_particles} particles")
        _write(made, output, figure)


@series.command("generate", context_settings=COMMAND)
@import_option
@model_argument
@click.option("--num-series", type=click.IntRange(1, 100_000), default=3, help="Series.")
@click.option(
    "-T", "--length", type=click.IntRange(1, 100_000), help="Steps. [default: the window]"
)
@_outputs("generated.csv", "generated.png")
@seed_option
@device_option
def generate_command(
    folder: Path,
    num_series: int,
    length: int | None,
    output: Path,
    figure: Path,
    seed: int,
    device: str,
) -> None:
    """Make up series."""
    with refusing_bad_input():
        model = load(folder, device)
        if model.control_names:
            raise ValueError(
                "generate: the model was fitted with controls; give them in Python, "
                "model.generate(..., controls=...)"
            )
        _check_outputs(output, figure)
        _write(model.generate(num_series, length or model.window, seed=seed), output, figure)


@series.command("evaluate", context_settings=COMMAND)
@import_option
@model_argument
@data_option
@click.option("--horizon", type=click.IntRange(1), required=True, help="Steps.")
@click.option(
    "--origins", type=click.IntRange(1, MOST_ORIGINS), default=5, help="Forecasts of each series."
)
@click.option(
    "--first",
    type=click.IntRange(1),
    help="The earliest origin. [default: where the part that fit held out begins]",
)
@click.option(
    "--season", type=click.IntRange(1), default=1, help="Of the naive forecast it is held against."
)
@samples_option
@_outputs("scores.csv", "scores.png")
@seed_option
@device_option
@_reading_options
def evaluate_command(
    folder: Path,
    path: Path,
    horizon: int,
    origins: int,
    first: int | None,
    season: int,
    num_samples: int,
    output: Path,
    figure: Path,
    seed: int,
    device: str,
    **given: Any,
) -> None:
    """Judge forecasts from many origins: CRPS, coverage, calibration, density."""
    with refusing_bad_input():
        model, data, plan = _opened(folder, path, device, given)
        _check_outputs(output, figure, path)
        parts = plan.apply(data)
        _tell_of_long_horizon(model, horizon)
        scores = evaluate(
            model,
            parts.judged,
            horizon,
            origins=origins,
            first=parts.first.tolist() if first is None else first,
            season=season,
            num_samples=num_samples,
            seed=seed,
        )
        if not math.isfinite(scores.summary()["crps"]):
            raise Refused("evaluate: there is no value to compare the forecasts with")
        click.echo(_table(scores))
        _write(scores, output, figure)
