"""The NTM against its equations, number by number, and against pytorch-ntm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import pyro_gtm as gtm
from pyro_gtm.memory import addressing

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ntm.json").read_text())


def make(**options):
    sizes = {"latent_dim": 2, "slots": 3, "heads": 2, "word_size": 2, "hidden_dim": 3, **options}
    return gtm.NTMMemory(**sizes)


@pytest.mark.parametrize(
    "shape, used, options",
    [
        ((), False, {"control_dim": 2, "write_heads": 2}),
        ((3,), False, {"slots": 5, "word_size": 3, "initial_memory": "learned"}),
        ((2, 3), True, {"slots": 2, "heads": 1, "write_heads": 2, "control_dim": 2}),
        ((2, 3), True, {"slots": 14, "heads": 1, "word_size": 1}),
        ((), True, {"slots": 1, "heads": 3, "word_size": 4, "initial_memory": "learned"}),
        ((3,), False, {"slots": 4, "write_heads": 2, "recall": True}),
        ((2,), True, {"slots": 5, "recall": True}),
    ],
    ids=str,
)
def test_equals_the_scalar_oracle(shape, used, options, assert_equals_oracle):
    assert_equals_oracle("ntm", make(**options), shape, used)


def golden(values):
    return torch.tensor(values, dtype=torch.float64)


def test_equals_the_published_heads(monkeypatch):
    """Four steps of a head that reads and one that writes, the cosine without its constant.

    There the read happens before the write, so that ours is held against their weights on the
    memory they leave; their first shift is by +1.
    """
    monkeypatch.setattr(addressing, "EPSILON", 1e-24)
    chain = GOLDEN["chain"]
    memory = make(latent_dim=3, slots=5, heads=1, word_size=3).double()
    weights = golden([chain["initial_read_weights"], chain["initial_write_weights"]])
    state = memory.initial_state((2,))._replace(
        memory=golden(chain["initial_memory"]), weights=weights.swapdims(0, 1)
    )
    read, write = golden(chain["read"]["raw"]), golden(chain["write"]["raw"])
    for t in range(4):
        heads = torch.stack([read[t], write[t, :, :9]], dim=-2)  # (2, R + H, 9)
        emitted = {
            "keys": heads[..., :3],
            "strengths": heads[..., 3:4],
            "gates": heads[..., 4:5],
            "shifts": heads[..., 5:8].flip(-1),
            "exponents": heads[..., 8:9],
            "erase": write[t, :, None, 9:12],
            "add": write[t, :, None, 12:15],
        }
        state, details = memory.access(state, emitted)
        weights = golden(chain["read"]["weights"][t]), golden(chain["write"]["weights"][t])
        written = golden(chain["write"]["memory"][t])
        expected = {
            "read_weights": weights[0].unsqueeze(1),
            "write_weights": weights[1].unsqueeze(1),
            "memory": written,
        }
        for name, value in expected.items():
            torch.testing.assert_close(details[name], value, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            state.reads, weights[0].unsqueeze(1) @ written, rtol=1e-10, atol=1e-12
        )


def test_stages_equal_the_published_ones(monkeypatch):
    monkeypatch.setattr(addressing, "EPSILON", 1e-24)
    for case in (GOLDEN["shift"], GOLDEN["shift"]["random"]):
        weights, kernels = golden(case["weights"]), golden(case["shift"])
        found = addressing.shift(weights, kernels.flip(-1))
        torch.testing.assert_close(found, golden(case["shifted_weights"]), rtol=1e-10, atol=1e-12)

    case = {name: golden(values) for name, values in GOLDEN["sharpen"].items()}
    found = addressing.sharpen(case["weights"], case["gamma"].squeeze(-1))
    expected = case["sharpened_weights"]  # whose sum lacks what the 1e-16 in its denominator took
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    case = {name: golden(values) for name, values in GOLDEN["content_with_zeros"].items()}
    found = addressing.content_weights(case["memory"], case["key"].unsqueeze(-2), case["beta"])
    expected = case["content_weights"].unsqueeze(-2)  # they add 1e-16 to every number of a word
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_a_head_steps_through_the_slots():
    """The gate closed and all shifts by one: places are visited in turn, contents unseen."""
    memory = make(slots=4, heads=1)
    state = memory.initial_state(())._replace(weights=torch.eye(4)[[0, 0]])
    emitted = {name: torch.zeros(shape) for name, shape in memory.parts.items()}
    emitted["gates"].fill_(-100.0)
    emitted["shifts"][:, 2] = 100.0
    emitted["erase"].fill_(100.0)
    for t in range(6):
        emitted["add"] = torch.tensor([[t + 1.0, -1.0]])
        state, details = memory.access(state, emitted)
        assert details["write_weights"].argmax().item() == (t + 1) % 4
        torch.testing.assert_close(state.reads, emitted["add"])  # written first, then read
    expected = torch.tensor([[4.0, -1.0], [5.0, -1.0], [6.0, -1.0], [3.0, -1.0]])
    torch.testing.assert_close(state.memory, expected)


def test_initial_memory():
    constant, learned = make(), make(initial_memory="learned")
    assert constant.initial_state(()).memory.eq(1e-6).all()
    assert "initial_memory" not in dict(constant.named_parameters())
    assert learned.initial_state((4,)).memory[2].equal(learned.initial_memory)
    learned.step(learned.initial_state((4,)), torch.randn(4, 2)).context.sum().backward()
    assert learned.initial_memory.grad.any()


def test_where_heads_start():
    """Those that write at the first slot, those that read where they have learned to."""
    memory = make(write_heads=2)
    weights = memory.initial_state((5,)).weights
    assert weights[:, 2:].equal(torch.eye(3)[0].expand(5, 2, 3))
    starts, slots = memory.initial_read_weights, torch.full((2, 3), 1 / 3)
    assert weights[:, :2].equal(starts().expand(5, 2, 3))
    torch.testing.assert_close(weights[0, :2], slots, rtol=0, atol=0.1)  # near uniform
    memory.step(memory.initial_state((5,)), torch.randn(5, 2)).context.sum().backward()
    assert starts.logits.grad.any()


def test_unknown_initial_memory_is_named():
    with pytest.raises(ValueError, match="initial_memory must be 'constant' or 'learned', got 'z'"):
        make(initial_memory="z")


@pytest.mark.parametrize("option", ["slots", "heads", "write_heads", "word_size"])
def test_impossible_sizes_are_named(option):
    with pytest.raises(ValueError, match=f"{option} must be a positive integer, got 0"):
        make(**{option: 0})
