"""Data by name: every source is there, and asked for wrongly says how it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyro_gtm.experiments.data import (
    SOURCES,
    DataSource,
    ImageSet,
    Rooms,
    load_data,
    register_data,
    save_recordings,
    usable_sources,
)
from pyro_gtm.tasks import task_class, task_names

FROM_FOLDERS = sorted(name for name in SOURCES if SOURCES.find(name).from_folder)


def test_sources_are_those_that_tasks_are_made_of() -> None:
    asked_for = {source for name in task_names() for source in task_class(name).sources}
    assert asked_for == set(SOURCES)
    assert FROM_FOLDERS == ["mnist", "omniglot", "recorded"]


@pytest.mark.parametrize("name", sorted(set(SOURCES) - set(FROM_FOLDERS)))
def test_what_a_task_has_by_default_needs_no_folder(name: str) -> None:
    splits = load_data(name, binarise="none")
    assert isinstance(splits.train, Rooms if name == "rooms" else ImageSet)
    assert type(splits.test) is type(splits.train)
    with pytest.raises(
        ValueError, match=f"data_dir: got 'somewhere', must be left out .* '{name}'"
    ):
        load_data(name, data_dir="somewhere", binarise="none")
    with pytest.raises(ValueError, match=f"download: got True, must be left out .* '{name}'"):
        load_data(name, download=True, binarise="none")


@pytest.mark.parametrize("name", FROM_FOLDERS)
def test_what_is_read_needs_a_folder(name: str) -> None:
    with pytest.raises(ValueError, match=f"data_dir: got None, .*--data-dir DIR.* '{name}'"):
        load_data(name, binarise="none")


def test_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data: got 'cifar', must be one of digits, mnist, "):
        load_data("cifar")


@pytest.mark.parametrize("binarise", ["threshold", "sampled"])
def test_colours_are_not_made_binary(binarise: str) -> None:
    for name, folder in (("rooms", None), ("recorded", "somewhere")):
        with pytest.raises(
            ValueError, match=f"binarise: got '{binarise}', must be 'none' .* '{name}'"
        ):
            load_data(name, folder, binarise=binarise)


def test_recordings_cannot_be_fetched() -> None:
    with pytest.raises(ValueError, match=r"download: got True, .*record_rooms\.py"):
        load_data("recorded", "somewhere", download=True, binarise="none")


def test_recordings_are_read(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 8, 8, 3), dtype=np.uint8)
    for split in ("train", "test"):
        save_recordings(tmp_path / f"{split}.npz", frames, 30.0, "somewhere")
    turn = load_data("recorded", tmp_path, binarise="none").train.turn(4, 2, degrees=30, size=8)
    assert turn.frames.shape == (4, 2, 3, 8, 8)


def test_a_source_of_ones_own_is_for_the_tasks_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SOURCES, "classes", dict(SOURCES.classes))

    @register_data("stripes")
    class Stripes(DataSource):
        instead_of = "strokes"

        def load(self, data_dir, download, binarise, seed):  # type: ignore[no-untyped-def]
            return "train and test", binarise, seed

    assert load_data("stripes", binarise="none", seed=3) == ("train and test", "none", 3)
    assert usable_sources(("strokes", "omniglot")) == ("strokes", "omniglot", "stripes")
    assert usable_sources(("digits", "mnist")) == ("digits", "mnist")
