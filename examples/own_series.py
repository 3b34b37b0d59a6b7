"""Your own series: fitted, forecast, filled, judged, each with a picture.

    python examples/own_series.py
    python examples/own_series.py --data load.csv --horizon 24 --memory associative
    python examples/own_series.py --data sensors.npz --output sensors

Without ``--data``, a table of a made-up year is written first: a daily load with a weekly rhythm,
and a temperature with a slower one and some days missing.  The same is on the command line as
``pyro-gtm series``.
"""

from pathlib import Path

import click
import numpy as np
import torch

import pyro_gtm as gtm
from pyro_gtm import series


def write_year(path: Path) -> None:
    """A table of two channels, a row a day."""
    generator = np.random.default_rng(0)
    days = np.arange(365)
    load = 100 + 20 * np.sin(2 * np.pi * days / 7) + 3 * generator.standard_normal(365)
    temperature = 10 + 5 * np.sin(2 * np.pi * days / 30) + generator.standard_normal(365)
    lines = ["date,load,temperature"]
    for day in days:
        date = np.datetime64("2025-01-01") + day
        missing = 200 <= day < 212 or 240 <= day < 245
        lines.append(f"{date},{load[day]:.1f},{'' if missing else round(temperature[day], 2)}")
    path.write_text("\n".join(lines) + "\n")


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(path_type=Path), help="A file that series.read takes.")
@click.option("--memory", type=click.Choice(gtm.memory.memory_names()), default="vrnn")
@click.option("-n", "--num-steps", type=click.IntRange(1), default=1000)
@click.option("--horizon", type=click.IntRange(1), default=28)
@click.option("--output", type=click.Path(path_type=Path), default=Path("own_series"))
def main(data: Path | None, memory: str, num_steps: int, horizon: int, output: Path) -> None:
    """Fit a model to series and ask it everything."""
    torch.set_num_threads(1)  # more would only wait for each other over tensors this small
    output.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = output / "year.csv"
        write_year(data)
    try:
        whole = series.read(data)
        past, _ = whole.split_time(0.2)
        window = min(100, past.num_steps)
        model = series.fit(past, memory, num_steps=num_steps, window=window, progress=show)
    except ValueError as error:
        raise click.ClickException(str(error)) from error

    forecast = model.forecast(past, horizon)
    forecast.save(output / "forecast.csv")
    asked = {
        "forecast": series.Forecast(forecast.samples, forecast.origins, whole),  # with what came
        "surprise": model.surprise(whole),
        "generated": model.generate(2, window),
    }
    if whole.gaps.any():
        asked["imputed"] = model.impute(whole)
    scores = model.evaluate(whole, horizon, first=past.lengths.tolist())
    asked["scores"] = scores
    for name, answer in asked.items():
        answer.plot(output / f"{name}.png")
        click.echo(output / f"{name}.png")
    summary = scores.summary()
    click.echo(
        f"CRPS {summary['crps']:.3g}, of the naive forecast {summary['naive_crps']:.3g}; the 80 % "
        f"interval holds {summary['coverage_0.8']:.0%}"
    )


def show(step: int, loss: float) -> None:
    if step % 100 == 0:
        click.echo(f"step {step:5d}  negative ELBO {loss:7.2f} nats a frame")


if __name__ == "__main__":
    main()
