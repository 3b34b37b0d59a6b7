"""Every task with every memory: it trains, is judged, generates and is drawn."""

from __future__ import annotations

import math

import pytest

from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.published import published_results
from pyro_gtm.experiments.report import draw_figures, figure_names
from pyro_gtm.experiments.run import Run
from pyro_gtm.experiments.run_folder import summary_in
from pyro_gtm.memory import memory_names
from pyro_gtm.tasks import task_names

STEPS = 20
OWN_FIGURES = {"mnist_map": {"map"}, "rotation_3d": {"turn"}}
JUDGED_BY_CLASS = {"parity_recall"}


PAIRS = [
    pytest.param(task, memory, marks=[pytest.mark.slow] if (row + column) % 3 else [])
    for row, task in enumerate(task_names())
    for column, memory in enumerate(memory_names())
]
"""All; by default each task with two memories, and each memory with two tasks or three."""


@pytest.mark.parametrize(("task", "memory_name"), PAIRS)
def test_a_run_from_its_first_step_to_its_figures(task, memory_name, tmp_path):
    config = make_config(
        "debug", task=task, memory=memory_name, num_steps=STEPS, log_every=5, eval_every=STEPS // 2
    )
    run = Run.start(tmp_path / "run", config)
    run.train()
    summary = run.write_summary(1.0, STEPS)
    figures = {path.stem for path in draw_figures(run)}

    def finite(value):
        if isinstance(value, list):
            return all(map(finite, value))
        return not isinstance(value, float) or math.isfinite(value)

    assert all(map(finite, summary.values())), summary
    assert summary_in(run.folder) == summary

    # It has learnt something, if not yet to remember.
    first, *_, last = run.split("train")
    assert last["negative_elbo_per_frame"] < first["negative_elbo_per_frame"] - 1

    # The figures hang together.
    num_steps = run.experiment.test_task.num_steps
    per_frame = summary["negative_elbo_per_frame"]
    assert summary["negative_elbo_per_sequence"] == pytest.approx(num_steps * per_frame, rel=1e-5)
    kl = summary["kl_per_frame"]
    assert len(kl) == len(summary["oracle_kl_per_frame"]) == num_steps
    assert sum(kl) / num_steps + summary["reconstruction_per_frame"] == pytest.approx(per_frame)
    assert summary["oracle_kl_per_frame"][0] == pytest.approx(summary["new_frame_kl"], rel=1e-5)
    assert min(summary["oracle_kl_per_frame"]) >= 0
    # Where an oracle KL is of one class, that may cost more than most.
    if task not in JUDGED_BY_CLASS:
        assert max(summary["oracle_kl_per_frame"]) <= summary["new_frame_kl"] * 1.001

    # It is judged: frames were generated, and read.
    assert summary["recall_accuracy_frames"] > 0
    assert 0 <= summary["recall_accuracy"] <= 1
    assert 0 < summary["recall_accuracy_chance"] < 1
    assert (summary["classifier_accuracy"] is not None) == (task in JUDGED_BY_CLASS)

    expected = {"training", "kl_per_frame", "frames"} | OWN_FIGURES.get(task, set())
    if hasattr(run.experiment.memory, "slots"):
        expected.add("attention")
    assert figures == expected == set(figure_names(run.experiment))
    task = run.experiment.test_task
    assert not published_results(task.name, task.published_as, config.data), "it is not tiny"
