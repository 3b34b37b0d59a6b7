"""Downloads that fail say why, whichever set they are of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyro_gtm.experiments.data import MissingDataError, load_mnist, load_omniglot

Load = Callable[..., Any]
every_fetched_set = pytest.mark.parametrize("load", [load_mnist, load_omniglot])


@every_fetched_set
@pytest.mark.parametrize("error", [OSError("no route"), ValueError("MD5 hash of ... differs")])
def test_a_failed_download_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load, error: Exception
) -> None:
    def retrieve(*args: Any, **kwargs: Any) -> str:
        raise error

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(MissingDataError, match=f"could not be fetched .*{error}"):
        load(tmp_path, download=True)


@every_fetched_set
def test_download_without_pooch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Load
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingDataError, match=r"pip install 'pyro_gtm\[download\]'"):
        load(tmp_path, download=True)
