"""Long training stays finite, whatever the memory and the seed."""

from __future__ import annotations

import math

import pytest

from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.config import make_config
from pyro_gtm.infer import training_steps

STEPS = 2_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_two_thousand_steps_without_a_nan(memory_name, seed):
    """Preset debug: every loss finite, every weight too; ``training_steps`` checks gradients."""
    experiment = build_experiment(make_config("debug", memory=memory_name, seed=seed, device="cpu"))
    taken = 0
    for _, loss in training_steps(experiment.svi, experiment.draw, num_steps=STEPS):
        assert math.isfinite(loss)
        taken += 1
    assert taken == STEPS
    for module in (experiment.program, experiment.memory):
        assert all(parameter.isfinite().all() for parameter in module.parameters())
