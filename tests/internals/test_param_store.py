"""The parameter store holds a module's own tensors, or an error says what to do."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import pyro_gtm as gtm
from pyro_gtm.handlers import StaleParameterError

SENTENCE = r"under the name .*update_module_params=True.*pyro.clear_param_store"


def test_loaded_weights_are_not_silently_unused(
    memory_name, layout, make_model, make_frames, tmp_path: Path
):
    pair, frames = make_model(memory_name, layout=layout), make_frames()
    guide = pair.filtering_guide()
    svi = SVI(pair.model(), guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    svi.step(frames)
    pyro.get_param_store().save(str(tmp_path / "weights"))
    pyro.set_rng_seed(5)
    expected = svi.evaluate_loss(frames)
    for _ in range(3):
        svi.step(frames)
    pyro.get_param_store().load(str(tmp_path / "weights"))

    for use in (
        lambda: svi.evaluate_loss(frames),
        lambda: svi.step(frames),
        lambda: gtm.evaluate(guide, frames),
        lambda: gtm.reconstruct(pair.program, pair.memory, frames),
    ):
        with pytest.raises(StaleParameterError, match=SENTENCE):
            use()

    pyro.module("program", pair.program, update_module_params=True)
    pyro.module("memory", pair.memory, update_module_params=True)
    pyro.set_rng_seed(5)
    assert svi.evaluate_loss(frames) == expected
    before = next(pair.memory.parameters()).detach().clone()
    svi.step(frames)
    assert not torch.equal(before, next(pair.memory.parameters()))


@pytest.mark.parametrize("gradients", [True, False])
def test_a_second_module_under_one_name_is_refused(gradients, layout, make_model, make_frames):
    make_model("dnc", layout=layout).filtering_guide()(make_frames())
    with (
        torch.set_grad_enabled(gradients),
        pytest.raises(StaleParameterError, match=SENTENCE),
    ):
        make_model("dnc", layout=layout).filtering_guide()(make_frames())


def test_nothing_is_registered_without_gradients(layout, make_model, make_frames):
    with torch.no_grad():
        make_model("dnc", layout=layout).filtering_guide()(make_frames())
    assert not list(pyro.get_param_store().keys())


def test_frozen_weights_are_quiet_and_stay(memory_name, layout, make_model, make_frames):
    pair = make_model(memory_name, layout=layout)
    pair.memory.requires_grad_(False)
    before = {name: value.clone() for name, value in pair.memory.state_dict().items()}
    svi = SVI(pair.model(), pair.filtering_guide(), pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svi.step(make_frames())
    assert not any(name.startswith("memory") for name in pyro.get_param_store())
    for name, value in pair.memory.state_dict().items():
        assert torch.equal(value, before[name])
