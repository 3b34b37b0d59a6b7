"""A figure is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyro_gtm.experiments.plotting import kl_per_frame, save

P3 = np.arange(3) >= 2


def test_save_writes_a_whole_png_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kl.png"
    path.write_bytes(b"older")
    save(kl_per_frame({"dnc": np.ones(3)}, P3), path, dpi=40)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") and content.endswith(b"IEND\xaeB`\x82")
    assert list(tmp_path.iterdir()) == [path]


def test_save_that_fails_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "kl.png"
    path.write_bytes(b"older")
    figure = kl_per_frame({"dnc": np.ones(3)}, P3)
    figure.axes[0].set_title(r"$\nonsense{$")
    with pytest.raises(ValueError):
        save(figure, path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_save_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save(kl_per_frame({"dnc": np.ones(3)}, P3), tmp_path / "missing" / "kl.png")
    assert list(tmp_path.iterdir()) == []
