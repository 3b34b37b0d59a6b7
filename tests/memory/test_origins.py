"""What the reads of memories that overwrite are made of."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.usefixtures("float64")

STEPS = 5


def build(name, build_memory, **options):
    """Random weights, but that all elements of a word are erased alike, and all heads add alike."""
    memory = build_memory(name, **{"slots": STEPS, "recall": True, **options})
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.normal_(std=0.7)
        for part in (memory.interface.weight, memory.interface.bias):
            parts = dict(zip(memory.parts, part.split(memory.sizes), strict=True))
            for kind, dim in (("erase", 1), ("add", 0)):
                if kind in parts:
                    rows = parts[kind].view(*memory.parts[kind], -1)
                    rows.copy_(rows.narrow(dim, 0, 1).expand_as(rows).clone())
    return memory


def add_of_each_step(memory, monkeypatch):
    """A list that each step's written word, ``(*batch, W)``, will be appended to."""
    words, access = [], memory.access

    def noted(state, emitted, write=True):
        words.append(emitted["add"][..., 0, :])
        return access(state, emitted, write)

    monkeypatch.setattr(memory, "access", noted)
    return words


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ntm", {}),
        ("ntm", {"write_heads": 2}),
        ("lru", {"word_size": 3}),  # no room for a mark, which turns words on their way in
        ("lru", {"word_size": 3, "heads": 1}),
        ("dnc", {}),
        ("dnc", {"initialisation": "plain"}),
    ],
    ids=str,
)
def test_words_are_what_their_origins_say(name, options, build_memory, monkeypatch):
    """Memory and reads, from nothing, are sums over writes of amount times written word."""
    memory = build(name, build_memory, **options)
    words = add_of_each_step(memory, monkeypatch)
    state = memory.initial_state((4,))
    state = state._replace(memory=torch.zeros_like(state.memory))
    for latent in torch.randn(STEPS, 4, memory.latent_dim):
        state, _, details = memory.step(state, latent)
        written = torch.stack(words[::-1], dim=-2)  # (4, t, W), newest first
        origins = state.origins[..., : len(words)]  # (4, N, t)
        assert not state.origins[..., len(words) :].any()
        torch.testing.assert_close(origins @ written, state.memory, rtol=1e-10, atol=1e-12)
        amounts = details["read_weights"] @ origins  # (4, R, t)
        torch.testing.assert_close(amounts @ written, state.reads, rtol=1e-10, atol=1e-12)
        shares = amounts / amounts.sum(-1, keepdim=True).clamp(min=1)
        told = details["log_shares"][..., : len(words)].exp()
        torch.testing.assert_close(told, shares.clamp(min=1e-6), rtol=1e-10, atol=1e-12)


def test_a_share_of_a_word_whose_elements_part_is_their_mean(build_memory, monkeypatch):
    """One element is erased and the others are not: what stays of an NTM's word is the mean."""
    memory = build("ntm", build_memory, heads=1, word_size=4, hidden_dim=2)
    erase = torch.tensor([[100.0, -100.0, -100.0, -100.0]])
    access = memory.access
    monkeypatch.setattr(
        memory,
        "access",
        lambda state, emitted, write=True: access(state, {**emitted, "erase": erase}, write),
    )
    state = memory.initial_state(())
    first = memory.step(state, torch.randn(3))
    second = memory.step(first.state, torch.randn(3))
    written = second.details["write_weights"][0]
    torch.testing.assert_close(second.details["kept"], 1 - written / 4)
    torch.testing.assert_close(
        second.state.origins[:, 1], first.state.origins[:, 0] * (1 - written / 4)
    )


@pytest.mark.parametrize("name", ["ntm", "lru", "dnc"])
def test_asking_changes_nothing_else(name, build_memory):
    """The same contexts with and without, the origins and two details aside."""
    asked = build(name, build_memory)
    not_asked = build_memory(name, slots=STEPS)
    not_asked.load_state_dict(asked.state_dict())
    states = [memory.initial_state((2,)) for memory in (asked, not_asked)]
    for latent in torch.randn(8, 2, asked.latent_dim):
        steps = [m.step(s, latent) for m, s in zip((asked, not_asked), states, strict=True)]
        assert steps[0].context.equal(steps[1].context)
        assert steps[0].details.keys() - steps[1].details.keys() == {"kept", "log_shares"}
        assert steps[1].log_shares is None and steps[1].state.origins.numel() == 0
        states = [step.state for step in steps]
    assert asked.recall_length == STEPS and not_asked.recall_length == 0


@pytest.mark.parametrize("name", ["ntm", "lru", "dnc"])
def test_origins_wait_where_nothing_is_written(name, build_memory):
    """A step kept from writing neither ages what there is nor adds to it."""
    memory = build(name, build_memory)
    state = memory.initial_state((2,))
    for latent in torch.randn(3, 2, memory.latent_dim):
        state = memory.step(state, latent).state
    still, _, details = memory.step(state, torch.randn(2, memory.latent_dim), write=False)
    assert still.origins.equal(state.origins) and not details["write_weights"].any()
    assert details["kept"].equal(torch.ones(2, STEPS))
