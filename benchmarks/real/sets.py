"""Series of several channels that ship in packages, and simulated ones."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_gtm.series import Series

__all__ = ["SETS", "Task", "load_macro", "load_motions", "make_waves"]


class Task(NamedTuple):
    """Series to learn from and to be judged on."""

    train: Series
    judged: Series
    first: int
    """The earliest origin of a forecast in ``judged``."""

    gaps_from: int
    """The step from which on gaps are cut into ``judged``: none of it was learned from."""

    horizon: int
    origins: int
    season: int
    """Of the seasonal naive forecast, in steps."""

    fit: dict[str, int | float]
    """Settings of the models of ours."""


def load_macro() -> Task:
    """Six channels of the economy of the United States, quarterly, 1959 to 2009 (statsmodels).

    Growth in per cent a quarter of product, consumption and investment; inflation, unemployment and
    the rate of treasury bills in per cent.  One series of 202 steps, the last 40 held out.
    """
    from statsmodels.datasets import macrodata

    table = macrodata.load_pandas().data
    levels = table[["realgdp", "realcons", "realinv"]].to_numpy()
    growth = 100 * np.diff(np.log(levels), axis=0)
    rates = table[["infl", "unemp", "tbilrate"]].to_numpy()[1:]
    year, quarter = table["year"].to_numpy()[1:], table["quarter"].to_numpy()[1:]
    months = [f"{int(y)}-{int(3 * q - 2):02d}-01" for y, q in zip(year, quarter, strict=True)]
    whole = Series.of(
        np.concatenate([growth, rates], axis=1),
        channels=["product", "consumption", "investment", "inflation", "unemployment", "bills"],
        times=np.array(months, "datetime64[D]"),
        ids=["United States"],
    )
    first = whole.num_steps - 40
    settings = {"window": 60, "num_steps": 400, "latent_dim": 8, "hidden_dim": 32}
    return Task(whole.steps(0, first), whole, first, first, 8, 17, 4, settings)


def load_motions() -> Task:
    """Acceleration and turning of a wrist in four activities, ten a second (aeon, BasicMotions).

    40 series of 100 steps to learn from, 40 others to judge: 20 steps after 80.
    """
    # Its data alone is wanted, which lies beside the code: to import it takes a compiler along.
    found = find_spec("aeon")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("no aeon", name="aeon")
    folder = Path(found.origin).parent / "datasets" / "data" / "BasicMotions"
    names = [f"{what} {axis}" for what in ("acceleration", "turning") for axis in "xyz"]
    train, judged = (
        Series.of(
            _read_ts(folder / f"BasicMotions_{part}.ts"),
            channels=names,
        )
        for part in ("TRAIN", "TEST")
    )
    return Task(train, judged, 80, 40, 20, 1, 10, {"window": 100, "num_steps": 800})


def _read_ts(path: Path) -> NDArray[np.float64]:
    """Series of a ``.ts`` file, one a line, channels and class parted by colons: ``(N, T, C)``."""
    lines = path.read_text().split("@data")[1].split()
    channels = [line.split(":")[:-1] for line in lines]
    return np.array([[one.split(",") for one in line] for line in channels], float).transpose(
        0, 2, 1
    )


def make_waves() -> Task:
    """Three noisy sines of periods 12, 18 and 31 in other units each, simulated: six series of 400
    steps with phases of their own, the last 80 held out.  A check: no claim rests on it."""
    generator = np.random.default_rng(0)
    phases = generator.uniform(0, 2 * np.pi, (6, 1, 3))
    waves = np.sin(2 * np.pi * np.arange(400)[:, None] / np.array([12.0, 18.0, 31.0]) + phases)
    values = (waves + 0.1 * generator.standard_normal(waves.shape)) * np.array([1.0, 5.0, 0.1])
    whole = Series.of(values + np.array([0.0, 10.0, -1.0]))
    return Task(whole.steps(0, 320), whole, 320, 320, 24, 5, 36, {"window": 80, "num_steps": 1000})


SETS: dict[str, Callable[[], Task]] = {
    "macro": load_macro,
    "motions": load_motions,
    "waves": make_waves,
}
