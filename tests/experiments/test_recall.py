"""The causal question on a small trained model: was it the memory?"""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, TraceMeanField_ELBO

import pyro_gtm as gtm
from pyro_gtm.experiments.data import ImageSet
from pyro_gtm.infer import FusedAdam, training_steps
from pyro_gtm.model.networks import MLPDecoder, MLPEncoder
from pyro_gtm.tasks import PerfectRecall

EVENT_SHAPE = (1, 4, 4)
RECALLED = [3, 4]  # of five steps


@pytest.fixture(
    params=[
        ("introspective", 0.2),
        ("ntm", 0.2),
        pytest.param(("dnc", 0.7), marks=pytest.mark.slow),
    ],
    ids=lambda param: param[0],
)
def trained(request):
    """A model that has learnt to recall two of three random patterns, to so many nats a frame."""
    name, most = request.param
    patterns = torch.rand(16, *EVENT_SHAPE).round()
    task = PerfectRecall(
        ImageSet(patterns, torch.arange(16)), list_length=3, recall_length=len(RECALLED)
    )
    memory = gtm.make_memory(name, latent_dim=4, slots=5, heads=2, hidden_dim=16)
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=4,
        encoder=MLPEncoder(EVENT_SHAPE, 32, 32),
        decoder=MLPDecoder(4 + memory.context_dim, 32, EVENT_SHAPE),
        likelihood=gtm.BernoulliLikelihood(EVENT_SHAPE),
    )
    guide = gtm.FilteringGuide(gtm.use_memory(memory)(program.model))
    svi = SVI(guide.model, guide, FusedAdam(lr=0.01), TraceMeanField_ELBO())
    for _ in training_steps(svi, lambda: task.sample(32)[:2], num_steps=250):
        pass
    return program, memory, guide, task.sample(200), most


def test_recall_needs_the_memory(trained):
    """Recalled frames cost nothing, and as much as new ones once the memory is not read."""
    program, memory, guide, test, most = trained
    intact = gtm.evaluate(guide, test.frames)
    with gtm.lesion_memory(steps=RECALLED):
        lesioned = gtm.evaluate(guide, test.frames)
    new, recalled = intact.kl[:3].mean(), intact.kl[test.predictable].mean()
    without_memory = lesioned.kl[test.predictable].mean()
    assert new > 1.5 and recalled < most
    assert without_memory > 1.5
    torch.testing.assert_close(lesioned.kl[:3].mean(), new, rtol=0.1, atol=0.1)

    # The prior alone, after the list: its frames resemble those of the list, bit by bit.
    agreement = {}
    for lesion in (False, True):
        pyro.set_rng_seed(1)
        with gtm.lesion_memory(steps=RECALLED if lesion else []):
            drawn = gtm.continue_frames(program, memory, test.frames[:3], num_steps=5)
        same = drawn.round() == test.frames
        agreement[lesion] = same[RECALLED].float().mean()
    assert agreement[False] > agreement[True] + 0.1
