"""Memories by name: a user's own, and those of other packages."""

from __future__ import annotations

import pytest

import pyro_gtm as gtm
from pyro_gtm.memory.registry import MEMORIES


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers does not outlive it."""
    monkeypatch.setattr(MEMORIES, "classes", dict(MEMORIES.classes))


def test_ours_are_known():
    assert {"introspective", "vrnn"} <= set(gtm.memory.memory_names())
    assert gtm.memory.memory_names() == sorted(gtm.memory.memory_names())


def test_registered_by_decorator():
    @gtm.register_memory("mine")
    class Mine(gtm.RecurrentMemory):
        pass

    assert "mine" in gtm.memory.memory_names()
    memory = gtm.make_memory("mine", latent_dim=3, hidden_dim=4)
    assert type(memory) is Mine and memory.context_dim == 4


def test_options_reach_the_memory():
    memory = gtm.make_memory("introspective", latent_dim=3, slots=7, attention="softplus")
    assert (memory.slots, memory.attention, memory.latent_dim) == (7, "softplus", 3)


def test_taken_name_is_refused():
    with pytest.raises(ValueError, match="'vrnn' is taken by RecurrentMemory"):

        @gtm.register_memory("vrnn")
        class Other(gtm.RecurrentMemory):
            pass

    assert type(gtm.make_memory("vrnn", latent_dim=3)) is gtm.RecurrentMemory


def test_taken_name_is_refused_to_a_namesake():
    """Another package's class of the same name is another class."""
    namesake = type("RecurrentMemory", (gtm.RecurrentMemory,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match="'vrnn' is taken"):
        gtm.register_memory("vrnn")(namesake)


def test_same_class_again_is_welcome():
    """As when a notebook cell is run twice."""
    for _ in range(2):

        @gtm.register_memory("mine")
        class Mine(gtm.RecurrentMemory):
            pass

    assert type(gtm.make_memory("mine", latent_dim=3)) is Mine


def test_unknown_name_is_one_sentence():
    with pytest.raises(ValueError) as caught:
        gtm.make_memory("elephant", latent_dim=3)
    message = str(caught.value)
    assert "'elephant'" in message and "introspective" in message and "\n" not in message


def test_unknown_option_is_one_sentence():
    with pytest.raises(ValueError, match=r"'vrnn' takes no option 'slots'; it takes .*hidden_dim"):
        gtm.make_memory("vrnn", latent_dim=3, slots=4)


def test_found_in_an_installed_package(tmp_path, monkeypatch):
    """An entry point is enough: nothing of it is imported before it is asked for."""
    (tmp_path / "their_package.py").write_text(
        "import pyro_gtm as gtm\n\n\nclass Theirs(gtm.RecurrentMemory):\n    pass\n"
    )
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pyro_gtm.memories]\ntheirs = their_package:Theirs\n")
    assert "theirs" not in gtm.memory.memory_names()

    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in gtm.memory.memory_names()
    memory = gtm.make_memory("theirs", latent_dim=3, hidden_dim=4)
    assert type(memory).__name__ == "Theirs" and memory.context_dim == 4
    with pytest.raises(ValueError, match="'theirs' takes no option 'slots'"):
        gtm.make_memory("theirs", latent_dim=3, slots=2)
