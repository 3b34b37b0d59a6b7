"""Memories, tasks and the like of a user's own, named in options."""

from __future__ import annotations

import signal
import sys

import pytest
import torch

import pyro_gtm as gtm
from pyro_gtm.experiments.experiment import Experiment
from pyro_gtm.experiments.run import Run
from pyro_gtm.memory.registry import MEMORIES

pytestmark = pytest.mark.usefixtures("own_registries")

MODULE = """
import pyro_gtm as gtm
from pyro_gtm.experiments.data import DataSource, load_digits, register_data
from pyro_gtm.infer.elbo import register_elbo
from pyro_gtm.model import BernoulliLikelihood, register_likelihood
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder, Networks, register_network
from pyro_gtm.tasks import PerfectRecall, register_task


@register_data("my_data")
class MyData(DataSource):
    instead_of = "digits"

    def load(self, data_dir, download, binarise, seed):
        return load_digits(binarise, seed)


@gtm.register_memory("my_memory")
class MyMemory(gtm.RecurrentMemory):
    pass


@register_task("my_task")
class MyTask(PerfectRecall):
    pass


@register_network("my_network")
class MyNetworks(Networks):
    def __init__(self, likelihood, *, hidden_dim, decoder_input_dim):
        self.encoder = MLPEncoder(likelihood.event_shape, 3, hidden_dim)
        self.decoder = MLPDecoder(decoder_input_dim, 3, likelihood.parameter_shape)


@register_likelihood("my_likelihood")
class MyLikelihood(BernoulliLikelihood):
    pass


@register_elbo("my_elbo")
class MyELBO(gtm.infer.DeviceTrace_ELBO):
    pass
"""
KINDS = ("memory", "task", "network", "likelihood", "data", "elbo")


def test_everything_with_a_name_may_be_ones_own(folder, command_line, monkeypatch):
    """To train, to resume as printed, and to generate; forgotten, it is asked for."""
    (folder / "mine.py").write_text(MODULE)
    options = " ".join(f"--{kind} my_{kind}" for kind in KINDS)
    draw, drawn = Experiment.draw, []

    def stop(self):
        drawn.append(1)
        if len(drawn) == 3:
            signal.raise_signal(signal.SIGINT)
        return draw(self)

    monkeypatch.setattr(Experiment, "draw", stop)
    result = command_line.train(f"--import mine {options} -n 5 --list-length 2 -o run")
    assert result.exit_code == 130, result.output
    assert result.output.splitlines()[-1].endswith(" train --resume run --import mine")
    command_line.succeeds("train --resume run --import mine")
    experiment = Run.load(folder / "run").experiment
    made = (experiment.memory, experiment.training_task, experiment.svi.loss.__self__)
    assert [type(one).__name__ for one in made] == ["MyMemory", "MyTask", "MyELBO"]
    assert type(experiment.program.likelihood).__name__ == "MyLikelihood"
    assert experiment.program.encoder.layers[0].out_features == 3, "the network is mine"

    del sys.modules["mine"], MEMORIES.classes["my_memory"]
    command_line.refuses("generate run", "memory: got 'my_memory', must be one of", "--import")
    command_line.refuses("generate run", "entry point in the group pyro_gtm.memories")


def test_memory_registered_after_the_command_line_was_imported(folder, command_line):
    """As in a script of the user's."""
    command_line.refuses("train --memory last", "'--memory'", "'last' is not one of", "--import")

    @gtm.register_memory("last")
    class LastLatent(gtm.MemoryModule):
        """Remembers one thing."""

        def __init__(self, latent_dim, scale=1.0):
            super().__init__(
                latent_dim=latent_dim, context_dim=latent_dim, read_shape=(1, latent_dim)
            )
            self.weight = torch.nn.Parameter(torch.full((latent_dim,), float(scale)))

        def initial_state(self, batch_shape=()):
            return gtm.memory.recurrent.RecurrentState(
                *(self.weight.new_zeros(*batch_shape, self.latent_dim) for _ in range(2))
            )

        def step(self, state, latent, control=None):
            context = latent * self.weight
            return gtm.memory.MemoryStep(type(state)(context, latent), context, {})

    command_line.succeeds(
        "train --preset debug --memory last -n 5 --memory-option scale=0.5 -o run"
    )
    run = Run.load(folder / "run")
    assert isinstance(run.experiment.memory, LastLatent)
    assert not run.experiment.memory.weight.equal(torch.full((8,), 0.5)), "it is trained"
    command_line.succeeds("generate run")
