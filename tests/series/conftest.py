"""Small series, and a small model of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyro_gtm import series

SMALL = {"latent_dim": 2, "hidden_dim": 8, "memory_options": {"hidden_dim": 8}, "batch_size": 4}


def make_waves(number: int = 4, steps: int = 30, seed: int = 0) -> np.ndarray:
    """Noisy sines of three channels in other units each: ``(N, T, 3)``."""
    generator = np.random.default_rng(seed)
    phase = generator.uniform(0, 2 * np.pi, (number, 1, 3))
    angle = 2 * np.pi * np.arange(steps)[:, None] / np.array([6.0, 9.0, 15.0])
    noise = 0.1 * generator.standard_normal((number, steps, 3))
    return (np.sin(angle + phase) + noise) * np.array([1.0, 50.0, 0.01]) + np.array([0, 900, -3])


@pytest.fixture(scope="session")
def waves() -> Callable[..., np.ndarray]:
    """:func:`make_waves`, for tests, which cannot import from here."""
    return make_waves


@pytest.fixture
def fit() -> Callable[..., series.SeriesModel]:
    """A small recurrent model of some data, hardly trained."""

    def fit_small(data: series.Series, memory: str = "vrnn", **settings: Any) -> Any:
        return series.fit(data, memory, **{"num_steps": 3, "window": 12, **SMALL, **settings})

    return fit_small


@pytest.fixture
def data() -> series.Series:
    return series.Series.of(make_waves(), channels=["level", "load", "drift"])


@pytest.fixture(scope="module")
def model() -> series.SeriesModel:
    """Fitted for a few steps: enough to be asked anything."""
    whole = series.Series.of(make_waves(), channels=["level", "load", "drift"])
    return series.fit(whole, "vrnn", num_steps=5, window=16, **SMALL)
