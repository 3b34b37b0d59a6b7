"""A run's figures: the one of attention shows what its memory can show."""

from __future__ import annotations

import pytest

from pyro_gtm.experiments import plotting
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.report import draw_evaluation, draw_figures, summary_table
from pyro_gtm.experiments.run import Run

FIGURE = {
    "associative": "association_over_time",
    "introspective": "attention_over_time",
    "ntm": "memory_over_time",
    "lru": "memory_over_time",
    "dnc": "memory_over_time",
    "vrnn": None,
}


@pytest.mark.parametrize(
    "memory",
    [pytest.param(m, marks=[pytest.mark.slow] if m in ("ntm", "lru") else []) for m in FIGURE],
)
def test_attention_is_drawn_as_the_memory_attends(memory, tmp_path, monkeypatch):
    drawn = []
    for name in ("attention_over_time", "memory_over_time", "association_over_time"):
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


@pytest.mark.parametrize("memory", ["associative", "introspective", "ntm"])
def test_a_mixture_shows_its_addresses_and_calls_its_kl_a_bound(memory, tmp_path):
    config = make_config("debug", num_steps=20, memory=memory, prior="mixture")
    run = Run.start(tmp_path / "run", config)
    run.train()
    table = summary_table(run.write_summary(1.0, 20))
    named = [line for line in table.splitlines() if "KL" in line]
    assert len(named) == 4 and all("KL bound" in line for line in named)
    assert "mixture prior, 20 steps" in table and "log w of the right slot" in table
    figures = draw_evaluation(run.experiment, run.experiment.held_out(4))
    assert {"addresses", "attention"} <= figures.keys()
    (axes,) = figures["kl_per_frame"].axes
    assert axes.get_ylabel() == "KL bound (nats)" and "Recall KL bound" in axes.get_title("left")
    _, recall = plotting.training_curves(run.split("train"), run.split("test"), "KL bound").axes
    assert recall.get_ylabel() == "KL bound (nats per frame)"


def test_a_gaussian_prior_has_neither_bound_nor_addresses(tmp_path):
    run = Run.start(tmp_path / "run", make_config("debug", num_steps=20, memory="associative"))
    run.train()
    table = summary_table(run.write_summary(1.0, 20))
    assert "KL bound" not in table and "mixture" not in table and "log w" not in table
    assert "addresses" not in draw_evaluation(run.experiment, run.experiment.held_out(4))
