"""Where the real data sets are, on machines that have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data: PYRO_GTM_DATA, else ../shared/data beside the repository.

    A wrong PYRO_GTM_DATA fails the tests that need it; only where nothing is set nor found are
    they skipped.
    """
    if named := os.environ.get("PYRO_GTM_DATA"):
        return Path(named)
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("needs the real data: set PYRO_GTM_DATA to the folder that holds MNIST/raw")
    return beside
