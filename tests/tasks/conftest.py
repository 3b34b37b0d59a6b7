"""The slow oracles, noise images, and arguments that no task takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyro_gtm.experiments.data import ImageSet


@pytest.fixture(scope="session")
def oracles() -> ModuleType:
    """`oracles.py` beside this file, which `--import-mode=importlib` leaves off the path."""
    path = Path(__file__).with_name("oracles.py")
    spec = importlib.util.spec_from_file_location("oracles", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def digits(oracles: ModuleType) -> ImageSet:
    """Noise images, all different, four of each of the classes 0..9."""
    return oracles.noise_images([i % 10 for i in range(40)])


@pytest.fixture(params=[0, -3, True, 2.5, 5.0, "8", None], ids=repr)
def no_count(request: pytest.FixtureRequest) -> Any:
    """A value that is no positive integer."""
    return request.param
