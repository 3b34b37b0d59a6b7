"""Handlers mean the same in every order."""

from __future__ import annotations

import itertools
from contextlib import ExitStack

import pyro
import pytest

import pyro_gtm as gtm


@pytest.mark.parametrize("steps, heads", [([2], None), (None, [0]), ([1, 3], [0])])
def test_all_nestings_agree(memory_name, layout, steps, heads, make_model):
    """Six nestings of three handlers: identical tapes and frames."""
    pair = make_model(memory_name, layout=layout)
    handlers = {
        "use": lambda: gtm.use_memory(pair.memory),
        "record": gtm.record_memory,
        "lesion": lambda: gtm.lesion_memory(steps=steps, heads=heads),
    }
    runs = []
    for order in itertools.permutations(handlers):
        pyro.set_rng_seed(7)
        with ExitStack() as stack:
            entered = {name: stack.enter_context(handlers[name]()) for name in order}
            frames = pair.program.model(num_steps=5, batch_size=3)
        runs.append((entered["record"], frames))

    first_tape, first_frames = runs[0]
    assert first_tape.num_steps == 5
    for tape, frames in runs[1:]:
        assert frames.equal(first_frames)
        assert tape.contexts.equal(first_tape.contexts)
        assert tape.latents.equal(first_tape.latents)
        assert tape.names == first_tape.names
        for name in tape.names:
            assert tape[name].equal(first_tape[name])


def test_two_lesions_cut_both(make_model, make_frames):
    pair, frames = make_model("introspective"), make_frames()
    with (
        gtm.record_memory() as tape,
        gtm.lesion_memory(steps=[1]),
        gtm.use_memory(pair.memory),
        gtm.lesion_memory(steps=[3]),
    ):
        pair.program.model(frames)
    cut = [not context.any() for context in tape.contexts]
    assert cut == [True, True, False, True, False]  # nothing is stored yet in step 0


def test_nested_memories_are_recorded_by_the_one_that_answers(make_model, build_memory):
    pair, other = make_model("vrnn"), build_memory("vrnn")
    with gtm.use_memory(other, name="other"), gtm.record_memory() as tape:
        pyro.set_rng_seed(8)
        pair.model()(num_steps=4, batch_size=2)
    with gtm.record_memory() as alone:
        pyro.set_rng_seed(8)
        pair.model()(num_steps=4, batch_size=2)
    assert tape.contexts.equal(alone.contexts)
