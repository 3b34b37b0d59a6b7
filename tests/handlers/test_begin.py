"""A run of a program is a fresh sequence, also within one entry of the memory's handler."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_gtm as gtm
from pyro_gtm.ops import NoMemoryError

T, B = 4, 3


def test_a_block_that_runs_twice_starts_afresh(memory_name, layout, make_model, make_frames):
    pair, frames, losses = make_model(memory_name, layout=layout), make_frames(T, B), []
    with gtm.use_memory(pair.memory), gtm.record_memory() as tape:
        guide = gtm.FilteringGuide(pair.program.model)
        for part in (frames, frames, frames[:, :2], frames[:2]):  # a smaller last batch, too
            pyro.set_rng_seed(1)
            losses.append(Trace_ELBO().loss(pair.program.model, guide, part))
            assert tape.num_steps == len(part)
            assert tape.contexts.shape[:2] == part.shape[:2]
            assert tape.latents.shape[:2] == part.shape[:2]
    assert losses[0] == losses[1]
    pyro.set_rng_seed(1)
    assert losses[0] == Trace_ELBO().loss(pair.model(), pair.filtering_guide(), frames)


def test_guide_and_model_in_one_block(memory_name, layout, make_model, make_frames):
    pair, frames = make_model(memory_name, layout=layout), make_frames(T, B)
    with gtm.use_memory(pair.memory):
        pyro.set_rng_seed(1)
        inside = Trace_ELBO().loss(pair.program.model, pair.program.guide, frames)
    pyro.set_rng_seed(1)
    assert inside == Trace_ELBO().loss(pair.model(), pair.ordinary_guide(), frames)


def test_begin_forgets(memory_name, build_memory):
    memory = build_memory(memory_name)
    with gtm.use_memory(memory), torch.no_grad():
        contexts = []
        for _ in range(2):
            gtm.begin()
            first = gtm.read()
            gtm.write(torch.ones(B, 3))
            contexts.append((first, gtm.read()))
    for one, other in zip(*contexts, strict=True):
        assert torch.equal(one, other)


def test_other_sequences_without_begin_are_refused(memory_name, build_memory):
    with gtm.use_memory(build_memory(memory_name)), torch.no_grad():
        for size in (B, B - 1):
            gtm.read()
            gtm.write(torch.ones(size, 3))
        with pytest.raises(ValueError, match=r"batch shape \(3,\); call gtm.begin\(\)"):
            gtm.read()


def test_begin_needs_a_memory():
    with pytest.raises(NoMemoryError, match=r"gtm.begin: no memory handler is active"):
        gtm.begin()
