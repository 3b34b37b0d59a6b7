"""Handlers mean the same in every order."""

from __future__ import annotations

import itertools
from contextlib import ExitStack

import pyro
import pytest
import torch

import pyro_gtm as gtm

INTERVENTIONS = {
    "lesion a step": lambda: gtm.lesion_memory(steps=[2]),
    "lesion a head": lambda: gtm.lesion_memory(heads=[0]),
    "lesion a head in steps": lambda: gtm.lesion_memory(steps=[1, 3], heads=[0]),
    "freeze": lambda: gtm.freeze_writes(from_step=2),
    "swap": lambda: gtm.swap_contents(0, 2, at_step=2),
}


@pytest.mark.parametrize("intervention", INTERVENTIONS)
def test_all_nestings_agree(memory_name, layout, intervention, make_model):
    """Six nestings of three handlers: identical tapes and frames."""
    pair = make_model(memory_name, layout=layout)
    handlers = {
        "use": lambda: gtm.use_memory(pair.memory),
        "record": gtm.record_memory,
        "intervention": INTERVENTIONS[intervention],
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


def test_three_interventions_in_one_step_in_every_order(memory_name, build_memory):
    """All 120 nestings: each intervention has its effect, and the order leaves no trace."""
    memory, latents = build_memory(memory_name), torch.randn(4, 3, 3)
    handlers = {
        "use": lambda: gtm.use_memory(memory),
        "record": gtm.record_memory,
        "lesion": INTERVENTIONS["lesion a step"],
        "freeze": INTERVENTIONS["freeze"],
        "swap": INTERVENTIONS["swap"],
    }

    def contexts(order):
        with ExitStack() as stack:
            entered = {name: stack.enter_context(handlers[name]()) for name in order}
            for latent in latents:
                gtm.read()
                gtm.write(latent)
            return entered["record"].contexts

    first = contexts(handlers)
    heads, width = memory.read_shape
    assert not first[2, :, : heads * width].any()
    for missing in ("lesion", "freeze", "swap"):
        assert not contexts([name for name in handlers if name != missing]).equal(first)
    for order in itertools.permutations(handlers):
        assert contexts(order).equal(first)


@pytest.mark.parametrize("first, second", [(2, 4), (4, 2)])
def test_of_two_freezes_the_earlier_counts(first, second, memory_name, make_model, make_frames):
    pair, frames = make_model(memory_name), make_frames()

    def contexts(*steps):
        pyro.set_rng_seed(7)
        with ExitStack() as stack:
            tape = stack.enter_context(gtm.record_memory())
            for step in steps:
                stack.enter_context(gtm.freeze_writes(from_step=step))
            pair.model()(frames)
        return tape.contexts

    assert contexts(first, second).equal(contexts(2))
    assert not contexts(2).equal(contexts(4))


def test_two_lesions_both_have_their_effect(make_model, make_frames):
    pair, frames = make_model("introspective"), make_frames()
    with (
        gtm.record_memory() as tape,
        gtm.lesion_memory(steps=[1]),
        gtm.use_memory(pair.memory),
        gtm.lesion_memory(steps=[3]),
    ):
        pair.program.model(frames)
    empty = [not context.any() for context in tape.contexts]
    assert empty == [True, True, False, True, False]  # nothing is stored yet in step 0


def test_nested_memories_are_recorded_by_the_one_that_answers(make_model, build_memory):
    pair, other = make_model("vrnn"), build_memory("vrnn")
    with gtm.use_memory(other, name="other"), gtm.record_memory() as tape:
        pyro.set_rng_seed(8)
        pair.model()(num_steps=4, batch_size=2)
    with gtm.record_memory() as alone:
        pyro.set_rng_seed(8)
        pair.model()(num_steps=4, batch_size=2)
    assert tape.contexts.equal(alone.contexts)
