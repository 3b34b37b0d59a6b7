"""The LRU memory against its equations, number by number, and cases worked by hand."""

from __future__ import annotations

import pytest
import torch

import pyro_gtm as gtm


def make(**options):
    sizes = {"latent_dim": 2, "slots": 3, "heads": 2, "word_size": 2, "hidden_dim": 3, **options}
    return gtm.LRUMemory(**sizes)


@pytest.mark.parametrize(
    "shape, used, options",
    [
        ((), False, {"control_dim": 2}),
        ((3,), False, {"heads": 3, "word_size": 1, "usage_decay": 0.5}),
        ((2, 3), True, {"slots": 5, "word_size": 3, "control_dim": 2, "usage_decay": 1.0}),
        ((2, 3), True, {"slots": 14, "heads": 3}),
        ((), True, {"slots": 1, "heads": 1, "word_size": 4, "usage_decay": 0.0}),
        ((3,), False, {"slots": 5, "recall": True}),
        ((2,), True, {"slots": 4, "heads": 1, "recall": True}),
        ((3,), True, {"slots": 5, "word_size": 7}),
        ((2, 3), False, {"slots": 7, "word_size": 6, "initialisation": "plain"}),
    ],
    ids=str,
)
def test_equals_the_scalar_oracle(shape, used, options, assert_equals_oracle):
    assert_equals_oracle("lru", make(**options), shape, used)


def emit(memory, add, key, gate):
    """One head's orders: the gate at 100 writes where it has read, at -100 to a fresh slot."""
    return {
        "keys": key.unsqueeze(0),
        "strengths": torch.full((1, 1), 1e4),
        "gates": torch.full((1, 1), gate),
        "add": add.unsqueeze(0),
    }


def test_slots_are_written_in_turn_and_the_oldest_is_lost():
    """Each item is looked up as it is written, so that its slot is the last to be given up."""
    memory, items = make(slots=4, heads=1, latent_dim=5, word_size=5), torch.eye(5)
    state = memory.initial_state(())
    for t, item in enumerate(items):
        state, details = memory.access(state, emit(memory, item, item, -100.0))
        assert details["write_weights"].argmax().item() == t % 4
        torch.testing.assert_close(state.reads[0], item)
    torch.testing.assert_close(state.memory, items[[4, 1, 2, 3]])


def test_an_item_that_is_read_is_kept():
    """Reading counts as use: the slot after it is given up instead."""
    memory, items = make(slots=3, heads=1, latent_dim=4, word_size=4), torch.eye(4)
    state = memory.initial_state(())
    for item, key in zip(items, items[[0, 1, 0, 3]], strict=True):
        state, _ = memory.access(state, emit(memory, item, key, -100.0))
    torch.testing.assert_close(state.memory, items[[0, 1, 3]])


def test_an_open_gate_adds_to_what_was_read():
    """Equation 23 zeroes the least used slot all the same."""
    memory = make(slots=3, heads=1, latent_dim=3, word_size=3)
    start = memory.initial_state(())._replace(
        memory=torch.eye(3),
        usage=torch.tensor([3.0, 2.0, 1.0]),
        read_weights=torch.tensor([[0.0, 1.0, 0.0]]),
    )
    add = torch.tensor([5.0, 0.0, 0.0])
    state, _ = memory.access(start, emit(memory, add, add, 100.0))
    expected = torch.tensor([[1.0, 0.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(state.memory, expected)


def test_heads_write_to_slots_of_their_own():
    memory = make(slots=5, heads=3, word_size=1)
    emitted = {name: torch.zeros(shape) for name, shape in memory.parts.items()}
    emitted["gates"].fill_(-100.0)
    emitted["add"] = torch.tensor([[1.0], [2.0], [3.0]])
    start = memory.initial_state(())._replace(usage=torch.tensor([0.0, 9.0, 0.0, 9.0, -1.0]))
    state, details = memory.access(start, emitted)
    assert details["write_weights"].argmax(-1).tolist() == [4, 0, 2]
    torch.testing.assert_close(state.memory.squeeze(-1), torch.tensor([2.0, 1e-6, 3.0, 1e-6, 1.0]))


def test_looking_for_what_is_not_there_yet_costs_nothing_that_is():
    """Heads that read slots never written leave them the least used of all."""
    memory, items = make(slots=6, heads=1, latent_dim=6, word_size=6), torch.eye(6)
    state = memory.initial_state(())
    for t, item in enumerate(items):
        nowhere = emit(memory, item, torch.zeros(6), -100.0)
        state, details = memory.access(state, nowhere)
        assert details["write_weights"].argmax().item() == t
    torch.testing.assert_close(state.memory, items)


@pytest.mark.parametrize("slots, lags", [(12, range(1, 12)), (30, [1, 7, 16, 29])], ids=str)
def test_one_constant_key_reads_at_a_constant_lag(slots, lags):
    """As built by default, whatever is written, once the key is the mark turned back by the lag."""
    memory, latents = gtm.LRUMemory(latent_dim=8, slots=slots), torch.randn(slots, 5, 8)
    for lag in lags:
        key = torch.zeros(1, 24)
        key[0, 8:] = torch.cat(
            [(lag * memory.frequencies).cos(), -(lag * memory.frequencies).sin()]
        )
        state, written = memory.initial_state((5,)), []
        for t, latent in enumerate(latents):
            emitted = {name: torch.zeros(5, *shape) for name, shape in memory.parts.items()}
            emitted.update(keys=key.expand(5, -1, -1), strengths=torch.full((5, 1, 1), 60.0))
            emitted["gates"].fill_(-100.0)
            emitted["add"][..., :8] = latent.unsqueeze(1)
            emitted["add"][..., 8:16] = 3.0
            state, details = memory.access(state, emitted)
            written.append(details["write_weights"][:, 0].argmax(-1))
            if t >= lag:
                assert details["read_weights"][:, 0].argmax(-1).equal(written[t - lag])
                assert (state.reads[:, 0, :8] - latents[t - lag]).abs().max() < 0.5


@pytest.mark.usefixtures("float64")
def test_marks_of_as_many_steps_as_they_have_numbers_are_orthogonal():
    memory = gtm.LRUMemory(latent_dim=8, slots=12)
    angles = torch.arange(16.0).unsqueeze(-1) * memory.frequencies
    marks = torch.cat([angles.cos(), angles.sin()], dim=-1)  # (16 steps, 16)
    torch.testing.assert_close(marks @ marks.T, 8 * torch.eye(16))


def test_plain_words_have_no_mark():
    assert gtm.LRUMemory(latent_dim=8, initialisation="plain").frequencies.numel() == 0


def test_fewer_slots_than_heads_are_refused():
    with pytest.raises(ValueError, match=r"slots must be at least heads=2, .*; got 1"):
        make(slots=1)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_impossible_decay_is_refused(decay):
    with pytest.raises(ValueError, match=rf"usage_decay must lie in \[0, 1\], got {decay}"):
        make(usage_decay=decay)


@pytest.mark.parametrize("option", ["slots", "heads", "word_size"])
def test_impossible_sizes_are_named(option):
    with pytest.raises(ValueError, match=f"{option} must be a positive integer, got 0"):
        make(**{option: 0})
