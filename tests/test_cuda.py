"""The same code on CUDA: train, resume, take the run to the CPU.  Skipped where there is none."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from pyro import poutine

import pyro_gtm as gtm
from pyro_gtm.config import make_config
from pyro_gtm.experiment import build_experiment
from pyro_gtm.report import draw_figures
from pyro_gtm.run import Interrupted, Run
from pyro_gtm.tasks import task_names

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def start(folder, memory, **overrides):
    return Run.start(folder, make_config("debug", memory=memory, device="cuda", **overrides))


def stop_at(step):
    def progress(row):
        if "split" not in row and row["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


@pytest.mark.parametrize("elbo", ["trace", "mean-field"])
def test_everything_lives_on_the_device(tmp_path, memory_name, elbo):
    run = start(tmp_path / "run", memory_name, elbo=elbo, num_steps=3)
    run.train()
    experiment = run.experiment
    tensors = [*experiment.program.parameters(), *experiment.memory.parameters()]
    tensors += [experiment.held_out(2).frames]
    for state in experiment.optimizer.get_state().values():
        tensors += state.values()
    assert {tensor.device.type for tensor in tensors} == {"cuda"}


@pytest.mark.parametrize("task", task_names())
def test_every_task_is_made_and_judged_on_the_device(tmp_path, task):
    run = start(tmp_path / "run", "introspective", task=task, num_steps=2)
    run.train()
    batch = run.experiment.held_out(3)
    tensors = [tensor for tensor in batch if tensor is not None]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
    assert run.write_summary(1.0, 2)["success_frames"] > 0
    assert draw_figures(run)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_agrees_with_the_cpu(memory_name, network):
    """The same weights and frames give the same likelihood of the frames given the latents."""
    here = build_experiment(make_config("debug", memory=memory_name, device="cpu", network=network))
    there = build_experiment(
        make_config("debug", memory=memory_name, device="cuda", network=network)
    )
    for ours, theirs in ((here.program, there.program), (here.memory, there.memory)):
        theirs.load_state_dict(ours.state_dict())
        ours.eval(), theirs.eval()
    frames = here.held_out(4).frames
    latents = torch.randn(*frames.shape[:2], here.config.latent_dim)
    log_joint = {}
    for experiment in (here, there):
        model = gtm.use_memory(experiment.memory)(experiment.program.model)
        data = {"z": latents.to(experiment.device)}
        with torch.no_grad():
            given = poutine.condition(model, data=data)
            trace = poutine.trace(given).get_trace(frames.to(experiment.device))
        log_joint[experiment.device.type] = trace.log_prob_sum().item()
    assert log_joint["cuda"] == pytest.approx(log_joint["cpu"], rel=1e-4)


def test_resumes_and_moves_to_the_cpu(tmp_path, memory_name):
    run = start(tmp_path / "run", memory_name)
    with pytest.raises(Interrupted):
        run.train(stop_at(7))
    resumed = Run.resume(run.folder)
    assert resumed.exact
    resumed.train()
    assert resumed.step == resumed.experiment.config.num_steps

    moved = Run.load(run.folder, device="cpu")
    batch = moved.experiment.held_out(2)
    drawn = gtm.continue_frames(
        moved.experiment.program, moved.experiment.memory, batch.frames[:4], num_steps=6
    )
    assert drawn.device.type == "cpu" and drawn.isfinite().all()
