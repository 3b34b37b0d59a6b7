"""Real series: forecasts and imputations beside what a practitioner would use.

    python benchmarks/real_series.py --set motions
    python benchmarks/real_series.py --set macro --seeds 3
    python benchmarks/real_series.py --set macro --memory vrnn --steps 100 --seeds 1

Needs statsmodels (``macro``, and the vector autoregression), aeon (``motions``; ``pip install
--no-deps`` is enough, as its data alone is read) and scikit-learn.  ``waves`` is simulated.

- *Forecasts* from many origins, judged by the CRPS of each channel over its standard deviation in
  the training part, and by how many values the 80 % interval holds.  Beside them stand the seasonal
  naive forecast with the spread of its own errors, and a vector autoregression (statsmodels)
  fitted to what came before each origin.
- *Gaps* are cut into the judged series: spans of 10 steps of all channels, and spans of 20 of one.
  The error is the root mean square over the same standard deviation.  Beside it stand the value
  before the gap, a straight line over it, and scikit-learn's iterative imputer.  The last two see
  what comes after a gap, which a filtering posterior does not.  The last column is the same model
  told that the gaps hold zeros, as who has no masks would do.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from common.command_line import command, refusing_bad_input
from pyro_gtm import series
from pyro_gtm.infer import reconstruct
from pyro_gtm.internals.files import write_atomically
from pyro_gtm.memory import memory_names
from pyro_gtm.series import Series, SeriesModel
from pyro_gtm.series.passes import passes
from real.classical import (
    forward_fill,
    interpolate,
    iterative_impute,
    seasonal_naive,
    var_forecast,
)
from real.sets import SETS, Task

MOST_LAGS = {"macro": 4, "motions": 5, "waves": 12}
SPANS = ((10, None), (20, 1))
"""Lengths of gaps, and in how many channels: None for all."""


COLUMNS = {
    "crps": "CRPS / sd",
    "coverage": "in 80 %",
    "imputation": "gaps / sd",
    "zeros": "told zeros",
    "seconds": "CPU s",
}
"""Of the table, and their titles."""


def deviations(task: Task) -> Tensor:
    """The standard deviation of each channel in the training part: ``(C,)``."""
    return torch.tensor(series.Scaling.fit(task.train).scale)


def cut_gaps(judged: Series, first: int, seed: int = 0) -> Series:
    """The judged series with gaps after step ``first``, the same for all contestants."""
    generator = np.random.default_rng(seed)
    values = judged.values.clone()
    channels = values.shape[2]
    for n, length in enumerate(judged.lengths.tolist()):
        for span, count in SPANS:
            start = int(generator.integers(first, max(first + 1, length - span - 1)))
            chosen = np.arange(channels) if count is None else generator.choice(channels, count)
            values[start : start + span, n, chosen] = torch.nan
    return Series.of(values, lengths=judged.lengths, channels=judged.channels, layout="time_first")


def imputation_error(filled: Tensor, gaps: Series, judged: Series, scale: Tensor) -> float:
    """Root mean square over the gaps, of values over their channel's standard deviation."""
    error = ((filled - judged.values) / scale)[gaps.gaps]
    return error.square().mean().sqrt().item()


def forecast_scores(
    make: Callable[[int], tuple[Tensor, Tensor]], task: Task, scale: Tensor
) -> tuple[float, float]:
    """Mean CRPS over the standard deviation, and coverage of 80 % intervals.

    Args:
        make: samples ``(S, H, N, C)`` and what came ``(H, N, C)``, of each origin by its number.
        task: what is forecast.
        scale: ``(C,)``.
    """
    made = [make(k) for k in range(task.origins)]
    samples, came = [one[0] / scale for one in made], [one[1] / scale for one in made]
    result = series.score(samples, came, came, channels=task.judged.channels)
    return result.crps.mean().item(), result.coverage[0.8]


def origins_of(task: Task) -> list[int]:
    last = task.judged.num_steps - task.horizon
    return [round(x) for x in np.linspace(task.first, last, task.origins)]


def classical(task: Task, name: str, most_lags: int, num_samples: int) -> dict[str, float]:
    """Scores of a classical forecast."""
    scale, generator = deviations(task), np.random.default_rng(0)
    values = task.judged.values.double().numpy()

    def make(k: int) -> tuple[Tensor, Tensor]:
        at = origins_of(task)[k]
        drawn = []
        for n in range(task.judged.num_series):
            past = values[:at, n]
            if name == "seasonal naive":
                drawn.append(
                    seasonal_naive(past, task.horizon, task.season, num_samples, generator)
                )
            else:
                drawn.append(var_forecast(past, task.horizon, num_samples, generator, most_lags))
        came = task.judged.values[at : at + task.horizon]
        return torch.as_tensor(np.stack(drawn, 2)).float(), came

    begun = time.process_time()
    crps, coverage = forecast_scores(make, task, scale)
    return {"crps": crps, "coverage": coverage, "seconds": time.process_time() - begun}


def ours(
    task: Task, memory: str, seed: int, steps: int | None, num_samples: int
) -> dict[str, float]:
    """Scores of a model of ours."""
    scale = deviations(task)
    settings = {**task.fit, "seed": seed, **({} if steps is None else {"num_steps": steps})}
    begun = time.process_time()
    model: SeriesModel = series.fit(task.train, memory, **settings)
    seconds = time.process_time() - begun

    def make(k: int) -> tuple[Tensor, Tensor]:
        made = model.forecast(
            task.judged, task.horizon, origin=origins_of(task)[k], num_samples=num_samples, seed=k
        )
        return made.samples, made.actual

    crps, coverage = forecast_scores(make, task, scale)
    gaps = cut_gaps(task.judged, task.gaps_from)
    filled = model.impute(gaps, num_samples=50).filled.values
    return {
        "crps": crps,
        "coverage": coverage,
        "imputation": imputation_error(filled, gaps, task.judged, scale),
        "zeros": imputation_error(told_zeros(model, gaps), gaps, task.judged, scale),
        "seconds": seconds,
    }


@torch.no_grad()
def told_zeros(model: SeriesModel, gaps: Series) -> Tensor:
    """Reconstructions of a model that takes gaps for zeros: ``(T, N, C)``."""
    batch = model.frames(
        Series.of(gaps.values.nan_to_num(), channels=gaps.channels, layout="time_first")
    )
    made = torch.empty_like(gaps.values)
    with model.seeded(0):
        for part in passes(batch, model.window):
            frames = reconstruct(model.program, model.memory, part.frames, part.controls)
            made[part.kept] = model.values(frames[part.new :]).to(made)
    return made


IMPUTERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "value before the gap": lambda train, values: forward_fill(values),
    "straight line": lambda train, values: interpolate(values),
    "iterative imputer": iterative_impute,
}
"""From values to learn from, and values with gaps, to the latter filled."""


def imputed(task: Task, impute: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
    """The error of a classical imputation."""
    gaps = cut_gaps(task.judged, task.gaps_from)
    filled = impute(task.train.values, gaps.values)
    return {"imputation": imputation_error(filled, gaps, task.judged, deviations(task))}


@contextmanager
def leaving_out(method: str) -> Iterator[None]:
    """Within it, a package that is not installed leaves a line in the place of figures."""
    try:
        yield
    except ImportError as error:
        click.echo(f"{method:22} left out: it needs the package {error.name}")


@command()
@click.option("--set", "name", type=click.Choice(list(SETS)), default="motions", help="Series.")
@click.option(
    "--memory",
    "memories",
    type=click.Choice(memory_names()),
    multiple=True,
    default=("vrnn", "introspective", "associative"),
    help="Of ours; repeatable.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, help="Fits of each.")
@click.option("--steps", type=click.IntRange(1), help="Of each fit. [default: the set's]")
@click.option("--num-samples", type=click.IntRange(2), default=200, help="Of each forecast.")
@click.option(
    "--table", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows here as .csv."
)
def main(
    name: str,
    memories: tuple[str, ...],
    seeds: int,
    steps: int | None,
    num_samples: int,
    table: Path | None,
) -> None:
    """Forecast and impute real series, beside classical methods."""
    torch.set_num_threads(1)
    with refusing_bad_input():
        try:
            task = SETS[name]()
        except ImportError as error:
            raise ValueError(f"set: {name} needs the package {error.name}") from error
    rows: list[dict[str, object]] = []

    def show(contestant: str, results: list[dict[str, float]]) -> None:
        row: dict[str, object] = {"set": name, "contestant": contestant, "seeds": len(results)}
        for key in COLUMNS:
            values = [result[key] for result in results if key in result]
            row[key] = statistics.mean(values) if values else math.nan
            row[f"{key}_sd"] = statistics.stdev(values) if len(values) > 1 else math.nan
        rows.append(row)
        click.echo(
            f"{contestant:22}"
            + "".join(
                f"{'-' if math.isnan(value) else format(value, '.3f'):>12}"
                for value in (row[key] for key in COLUMNS)
                if isinstance(value, float)
            )
        )

    click.echo(f"{name:22}" + "".join(f"{title:>12}" for title in COLUMNS.values()))
    for method in ("seasonal naive", "VAR, order by AIC"):
        with leaving_out(method):
            show(method, [classical(task, method, MOST_LAGS[name], num_samples)])
    for method, impute in IMPUTERS.items():
        with leaving_out(method):
            show(method, [imputed(task, impute)])
    for memory in memories:
        show(memory, [ours(task, memory, seed, steps, num_samples) for seed in range(seeds)])
    if table is not None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(table, text.getvalue().encode())


if __name__ == "__main__":
    main()
