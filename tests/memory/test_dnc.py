"""The DNC against its equations, number by number, against DeepMind's, and worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import pyro_gtm as gtm
from pyro_gtm.memory import addressing, dnc

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dnc.json").read_text())


STRUCTURED = {"initialisation": "structured", "tie": 0.01, "erase_freed": True}


def make(**options):
    """As published, unless told otherwise."""
    sizes = {"latent_dim": 2, "slots": 3, "heads": 2, "word_size": 2, "hidden_dim": 3}
    return gtm.DNCMemory(**{"initialisation": "plain", "tie": 0.0, **sizes, **options})


@pytest.mark.parametrize(
    "shape, used, options",
    [
        ((), False, {"control_dim": 2}),
        ((3,), False, {"heads": 3, "word_size": 1}),
        ((2, 3), True, {"slots": 5, "word_size": 3, "control_dim": 2}),
        ((2, 3), True, {"slots": 14, "heads": 1}),
        ((), True, {"slots": 1, "heads": 1, "word_size": 4}),
        ((3,), False, {"slots": 7, "initialisation": "structured", "tie": 0.01}),
        ((2, 3), True, {"slots": 5, "heads": 3, "tie": 0.1}),
        ((3,), False, {"slots": 4, "recall": True}),
        ((2,), True, {"slots": 5, "heads": 1, "recall": True, "erase_freed": True}),
        ((2, 3), True, {"slots": 5, "word_size": 3, "masked_keys": True}),
        ((3,), False, {"slots": 7, "erase_freed": True}),
        ((2, 3), True, {"slots": 5, "sharpened_links": True}),
        ((3,), True, {"slots": 4, "masked_keys": True, "sharpened_links": True, **STRUCTURED}),
    ],
    ids=str,
)
def test_equals_the_scalar_oracle(shape, used, options, assert_equals_oracle):
    assert_equals_oracle("dnc", make(**options), shape, used)


@pytest.mark.usefixtures("float64")
def test_reads_equal_the_oracle_whichever_of_equal_slots_is_taken(oracles):
    """Slots never written differ by rounding alone: their order may change, what is read not."""
    memory, latents = make(slots=14), torch.randn(12, 4, 2)
    for parameter in memory.parameters():
        parameter.data.normal_(std=0.7)
    state = memory.initial_state((4,))
    expected = oracles.unroll(oracles.dnc, memory, state, latents, None)
    for latent, step in zip(latents, expected, strict=True):
        state, context, _ = memory.step(state, latent)
        torch.testing.assert_close(context, step["context"], rtol=1e-10, atol=1e-12)


def golden(values):
    return torch.tensor(values, dtype=torch.float64)


def raw(name):
    """What a sigmoid makes the published input."""
    return golden(GOLDEN["access"]["inputs"][name]).logit()


@pytest.mark.parametrize(
    "outputs, epsilon, tolerance",
    [("outputs_tiny_eps", 1e-24, 1e-10), ("outputs", addressing.EPSILON, 2e-5)],
    ids=["as in the paper", "as published"],
)
def test_equals_the_published_access(outputs, epsilon, tolerance, monkeypatch):
    """Six steps of two heads from an empty memory, with their softplus for strengths.

    Their cosine has the constant in its denominator once more, hence the second tolerance; their
    modes are ordered backward, forward, content.
    """
    monkeypatch.setattr(addressing, "EPSILON", epsilon)
    monkeypatch.setattr(dnc, "_oneplus", lambda emitted: F.softplus(emitted.squeeze(-1)))
    inputs = GOLDEN["access"]["inputs"]
    emitted = {
        "read_keys": golden(inputs["read_content_keys"]),
        "read_strengths": golden(inputs["read_content_strengths_raw"]).unsqueeze(-1),
        "read_modes": golden(inputs["read_mode_logits"])[..., [0, 2, 1]],
        "free_gates": raw("free_gate").unsqueeze(-1),
        "write_keys": golden(inputs["write_content_keys"]),
        "write_strengths": golden(inputs["write_content_strengths_raw"]).unsqueeze(-1),
        "allocation_gates": raw("allocation_gate").unsqueeze(-1),
        "write_gates": raw("write_gate").unsqueeze(-1),
        "erase": raw("erase_vectors"),
        "add": golden(inputs["write_vectors"]),
    }
    memory = make(latent_dim=3, slots=5, word_size=3).double()
    state = memory.initial_state((2,))
    for t in range(6):
        state, _ = memory.access(state, {name: value[t] for name, value in emitted.items()})
        found = {
            "memory": state.memory,
            "read_weights": state.read_weights,
            "write_weights": state.write_weights.unsqueeze(1),
            "link": state.links.unsqueeze(1),
            "precedence_weights": state.precedence.unsqueeze(1),
            "usage": state.usage,
            "read_words": state.reads,
        }
        for name, value in found.items():
            expected = golden(GOLDEN["access"][outputs][name][t])
            torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def test_stages_equal_the_published_ones(monkeypatch):
    """Their ``usage`` and ``linkage`` have no constant; content and allocation have, made tiny."""
    case = {name: golden(values) for name, values in GOLDEN["usage"].items()}
    usage = addressing.update_usage(case["prev_usage"], case["prev_write_weights"].squeeze(1))
    usage = usage * addressing.retention(case["prev_read_weights"], case["free_gate"])
    torch.testing.assert_close(usage, case["usage"], rtol=1e-10, atol=1e-12)

    case = {name: golden(values).squeeze(1) for name, values in GOLDEN["linkage"].items()}
    found = addressing.update_links(
        case["prev_link"], case["prev_precedence_weights"], case["write_weights"]
    )
    torch.testing.assert_close(found, case["link"], rtol=1e-10, atol=1e-12)
    found = addressing.update_precedence(case["prev_precedence_weights"], case["write_weights"])
    torch.testing.assert_close(found, case["precedence_weights"], rtol=1e-10, atol=1e-12)
    for found, name in zip(
        addressing.follow_links(case["link"], case["prev_read_weights"]),
        ("forward_weights", "backward_weights"),
        strict=True,
    ):
        torch.testing.assert_close(found, case[name].squeeze(2), rtol=1e-10, atol=1e-12)

    case = {name: golden(values) for name, values in GOLDEN["allocation"].items()}
    torch.testing.assert_close(
        addressing.allocate(case["usage"]), case["allocation"], rtol=1e-10, atol=1e-15
    )
    monkeypatch.setattr(addressing, "EPSILON", 1e-24)
    torch.testing.assert_close(
        addressing.allocate(case["usage"]), case["allocation_tiny_eps"], rtol=1e-10, atol=1e-15
    )
    case = {name: golden(values) for name, values in GOLDEN["content_weights"].items()}
    found = addressing.content_weights(case["memory"], case["keys"], case["strengths_softplus"])
    torch.testing.assert_close(found, case["weights_tiny_eps"], rtol=1e-10, atol=1e-12)


BACKWARD, CONTENT, FORWARD = range(3)


class Drive:
    """One head of a DNC told in plain words what to do."""

    def __init__(self, slots, word_size, **options):
        self.memory = make(slots=slots, heads=1, word_size=word_size, **options)
        self.state = self.memory.initial_state(())

    def __call__(self, write=None, key=None, mode=CONTENT, free=False, strength=100.0):
        """Write to the freest slot, if anything; read by the mode; free what was read before.

        ``strength`` is the logit of the gate that writes.
        """
        emitted = {name: torch.full(shape, -100.0) for name, shape in self.memory.parts.items()}
        emitted["erase"].fill_(100.0)
        emitted["allocation_gates"].fill_(100.0)
        emitted["read_strengths"].fill_(1e4)
        emitted["read_modes"][0, mode] = 100.0
        if self.memory.sharpened_links:
            emitted["link_exponents"].fill_(10.0)
        if write is not None:
            emitted["add"] = write.unsqueeze(0)
            emitted["write_gates"].fill_(strength)
        if key is not None:
            emitted["read_keys"] = key.unsqueeze(0)
        if free:
            emitted["free_gates"].fill_(100.0)
        self.state, self.details = self.memory.access(self.state, emitted)
        return self.state.reads[0]


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)  # a few times EPSILON


def test_goes_through_what_was_written_forwards_and_backwards():
    one, two, three = items = torch.eye(3)
    step = Drive(slots=5, word_size=3)
    for item in items:
        step(write=item)
    slots = step.state.memory.argmax(dim=0)  # of each item
    close(step.state.memory[slots], items)
    close(step.state.precedence[slots], torch.tensor([0.0, 0.0, 1.0]))
    close(step.details["link_sharpness"][slots], torch.tensor([0.0, 1.0, 1.0]))

    close(step(key=one), one)
    close(step(mode=FORWARD), two)
    close(step(mode=FORWARD), three)
    close(step(mode=FORWARD), torch.zeros(3))  # nothing was written after it
    close(step(key=three), three)
    close(step(mode=BACKWARD), two)
    close(step(mode=BACKWARD), one)
    close(step(mode=BACKWARD), torch.zeros(3))


def test_a_full_memory_takes_nothing_until_a_slot_is_freed():
    items = torch.eye(5)
    step = Drive(slots=4, word_size=5)
    for item in items[:4]:
        step(write=item)
    slots = step.state.memory.argmax(dim=0)[:4]  # of each item
    step(write=items[4], key=items[2])
    close(step.state.memory[slots], items[:4])
    step(write=items[4], free=True)
    close(step.state.memory[slots], items[[0, 1, 4, 3]])
    step(key=items[3])
    close(step(mode=FORWARD), items[4])  # the links follow it


def test_a_rewritten_slot_leaves_the_order_it_had():
    """It is no longer between its old neighbours, but after the last."""
    items = torch.eye(4)
    step = Drive(slots=3, word_size=4)
    for item in items[:3]:
        step(write=item)
    step(key=items[1])
    step(write=items[3], free=True, key=items[0])
    close(step(mode=FORWARD), torch.zeros(4))
    step(key=items[3])
    close(step(mode=BACKWARD), items[2])


def test_what_is_freed_is_erased_if_asked():
    """As published its word stays until another is written over it, and is found by its content."""
    items = torch.eye(3)
    for erases in (False, True):
        step = Drive(slots=4, word_size=3, erase_freed=erases)
        step(write=items[0])
        step(write=items[1], key=items[0])
        step(free=True, key=items[1])
        close(step.state.memory.sum(0), items[1] if erases else items[0] + items[1])


def test_sharpened_links_undo_the_blur_of_many_steps():
    """Half a write in each step blurs the links; a head that follows them stays on one slot."""
    heaviest = []
    for sharpened in (False, True):
        step = Drive(slots=6, word_size=6, sharpened_links=sharpened)
        for item in torch.eye(6):
            step(write=item, strength=1.0)
        step(key=torch.eye(6)[0])
        for _ in range(3):
            step(mode=FORWARD)
        assert step.state.read_weights.argmax() == step.state.memory[:, 3].argmax()
        heaviest.append(step.state.read_weights.max().item())
    assert heaviest[0] < 0.5 and heaviest[1] > 0.99


def test_fresh_slots_are_taken_in_order():
    """As built by default, in every sequence alike: the lowest of those as good as free."""
    memory = gtm.DNCMemory(latent_dim=8, slots=12)
    state = memory.initial_state((5,))
    for slot in range(12):
        state, _, details = memory.step(state, torch.randn(5, 8))
        written = details["write_weights"][:, 0]
        assert written.argmax(-1).eq(slot).all() and written.amax(-1).min() > 0.9


def test_a_head_that_goes_on_in_order_reads_at_a_constant_lag():
    """As built by default, once it has learned where to start: here, seven slots behind."""
    memory, latents = gtm.DNCMemory(latent_dim=8, slots=12, heads=1), torch.randn(12, 5, 8)
    with torch.no_grad():
        memory.initial_read_weights.logits[0, 12 - 7 - 1] = 2.0
    state = memory.initial_state((5,))
    for t, latent in enumerate(latents):
        state, _, details = memory.step(state, latent)
        weights = details["read_weights"][:, 0]  # (5, slots)
        assert weights.argmax(-1).eq((t - 7) % 12).all() and weights.amax(-1).min() > 0.6


@pytest.mark.parametrize("tie", [-0.1, 1.0])
def test_impossible_ties_are_named(tie):
    with pytest.raises(ValueError, match=r"tie must lie in \[0, 1\), got"):
        make(tie=tie)


@pytest.mark.parametrize("option", ["slots", "heads", "word_size"])
def test_impossible_sizes_are_named(option):
    with pytest.raises(ValueError, match=f"{option} must be a positive integer, got 0"):
        make(**{option: 0})


def test_unknown_initialisation_is_named():
    with pytest.raises(
        ValueError, match="initialisation must be one of structured, plain; got 'no'"
    ):
        make(initialisation="no")
