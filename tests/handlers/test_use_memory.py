"""The life of a handler: entered, nested, left, left by an exception."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.poutine.runtime import _PYRO_STACK

import pyro_gtm as gtm
from pyro_gtm.internals.param_store import StaleParameterError


def read_after(*latents):
    """The context after writing these."""
    for latent in latents:
        gtm.read()
        gtm.write(latent)
    return gtm.read()


def test_each_entry_is_a_fresh_sequence(memory_name, build_memory):
    latents = torch.randn(3, 2, 3)
    handler = gtm.use_memory(build_memory(memory_name))
    with handler:
        first = read_after(*latents)
    with handler:
        second = read_after(*latents)
    decorated = handler(read_after)
    assert first.equal(second)
    assert decorated(*latents).equal(first)
    assert decorated(*latents[:1]).equal(decorated(*latents[:1]))


def test_batch_shape_may_change_between_entries(memory_name, build_memory):
    handler = gtm.use_memory(build_memory(memory_name))
    for shape in [(2,), (), (4, 5), (1,)]:
        with handler:
            assert read_after(*torch.randn(3, *shape, 3)).shape[:-1] == shape


@pytest.mark.parametrize("exit_by", ["return", "exception"])
def test_leaving_frees_the_sequence(memory_name, exit_by, build_memory):
    """What was written and read is gone at once, though the handler lives on, and without a search
    for reference cycles."""
    handler, seen = gtm.use_memory(build_memory(memory_name)), []

    def program():
        with handler:
            for _ in range(2):
                latent, location = torch.randn(2, 3), torch.randn(2, 3, requires_grad=True)
                seen.extend(map(weakref.ref, (gtm.read(), latent, location)))
                gtm.write(latent, Normal(location, 1.0).to_event(1))
            seen.append(weakref.ref(gtm.read()))
            assert all(one() is not None for one in seen[-3:])
            if exit_by == "exception":
                raise KeyError("a user's mistake")

    gc.disable()
    try:
        with suppress(KeyError):
            program()
        assert len(seen) == 7 and not any(one() is not None for one in seen)
    finally:
        gc.enable()


def test_innermost_memory_answers(build_memory):
    outer, inner = build_memory("vrnn"), build_memory("vrnn")
    latent = torch.randn(2, 3)
    with gtm.use_memory(outer, name="outer"):
        alone = read_after(latent)
        with gtm.use_memory(inner, name="inner"):
            nested = read_after(latent)
        assert gtm.read() is alone  # the outer one has not moved
    with gtm.use_memory(inner, name="inner"):
        assert read_after(latent).equal(nested)
    assert not nested.equal(alone)


@pytest.mark.parametrize("form", ["decorator", "context manager"])
def test_usable_after_an_exception(memory_name, form, build_memory):
    handler, latent = gtm.use_memory(build_memory(memory_name)), torch.randn(2, 3)
    with handler:
        expected = read_after(latent)

    def fail():
        gtm.read()
        gtm.write(latent)
        raise KeyError("a user's mistake")

    with pytest.raises(KeyError):
        if form == "decorator":
            handler(fail)()
        else:
            with handler:
                fail()
    assert not _PYRO_STACK
    with handler:
        assert read_after(latent).equal(expected)


def test_not_a_memory_is_an_error():
    with pytest.raises(TypeError, match="must be a MemoryModule"):
        gtm.use_memory(torch.nn.LSTMCell(3, 4))


def test_weights_are_registered_under_the_name(build_memory):
    memory = build_memory("vrnn")
    with gtm.use_memory(memory, name="mine"):
        pass
    names = set(pyro.get_param_store().keys())
    assert names == {f"mine$$${name}" for name, _ in memory.named_parameters()}


def test_second_memory_under_a_name_is_refused(memory_name, build_memory):
    """Pyro alone would train the first one's weights and run the second's."""
    first, second = build_memory(memory_name), build_memory(memory_name)
    with gtm.use_memory(first):
        pass
    refused = pytest.raises(StaleParameterError, match=r"'memory'.*pyro.clear_param_store\(\)")
    with refused, gtm.use_memory(second):
        pass
    assert not _PYRO_STACK, "the refused handler must not stay on Pyro's stack"

    with gtm.use_memory(second, name="another"):
        pass
    with gtm.use_memory(first):
        pass
    pyro.clear_param_store()
    with gtm.use_memory(second):
        pass


def test_second_program_is_refused(make_model, make_frames):
    first, second = make_model("vrnn"), make_model("vrnn")
    first.model()(make_frames())
    mixed = gtm.use_memory(first.memory)(second.program.model)
    with pytest.raises(StaleParameterError, match="'program'"):
        mixed(make_frames())
    assert not _PYRO_STACK


def test_nothing_is_registered_where_nothing_is_trained(build_memory):
    """Two memories may take turns in evaluation without clearing the parameter store."""
    for _ in range(2):
        with torch.no_grad(), gtm.use_memory(build_memory("vrnn")):
            gtm.read()
    assert not list(pyro.get_param_store().keys())
