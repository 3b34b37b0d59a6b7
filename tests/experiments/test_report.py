"""A run's figures: the one of attention shows what its memory can show."""

from __future__ import annotations

import pytest

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.report import draw_figures
from pyro_gtm.experiments.run import Run

FIGURE = {
    "introspective": "attention_over_time",
    "ntm": "memory_over_time",
    "lru": "memory_over_time",
    "dnc": "memory_over_time",
    "vrnn": None,
}


@pytest.mark.parametrize("memory", FIGURE)
def test_attention_is_drawn_as_the_memory_attends(memory, tmp_path, monkeypatch):
    drawn = []
    for name in ("attention_over_time", "memory_over_time"):
        draw = getattr(plotting, name)
        monkeypatch.setattr(
            plotting, name, lambda *given, n=name, d=draw: (drawn.append(n), d(*given))[1]
        )
    run = Run.start(tmp_path / "run", make_config("debug", num_steps=1, memory=memory))
    run.train()
    paths = draw_figures(run)
    assert all(path.is_file() for path in paths)
    assert drawn == ([FIGURE[memory]] if FIGURE[memory] else [])
    assert ("attention" in [path.stem for path in paths]) == bool(drawn)
