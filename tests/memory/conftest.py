"""The scalar oracles, and how a memory is held against its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import pyro_gtm as gtm


@pytest.fixture(scope="session")
def oracles() -> ModuleType:
    """``oracles.py`` beside this file, which ``--import-mode=importlib`` leaves off the path."""
    path = Path(__file__).with_name("oracles.py")
    spec = importlib.util.spec_from_file_location("oracles", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def assert_equals_oracle(oracles: ModuleType, float64: None) -> Callable[..., None]:
    """States, contexts and details of 12 steps, and the gradients of all of them together.

    The weights are drawn anew, so that no particular initialisation is relied on.  ``used`` starts
    from a state with everything in it, drawn too, instead of the initial one.
    """

    def check(
        name: str, memory: gtm.MemoryModule, shape: tuple[int, ...], used: bool, steps: int = 12
    ) -> None:
        for parameter in memory.parameters():
            parameter.data.normal_(std=0.7)
        state = memory.initial_state(shape)
        if used:
            state = type(state)(
                *(torch.rand_like(t).requires_grad_() / memory.slots for t in state)
            )
        latents = torch.randn(steps, *shape, memory.latent_dim, requires_grad=True)
        controls = None
        if memory.control_dim:
            controls = torch.randn(steps, *shape, memory.control_dim, requires_grad=True)

        access = getattr(oracles, name)
        runs = [oracles.unroll(access, memory, state, latents, controls), []]
        inputs = [t for t in (latents, controls, *state, *memory.parameters()) if t is not None]
        inputs = [t for t in inputs if t.requires_grad and t.numel()]
        for t in range(steps):
            control = None if controls is None else controls[t]
            state, context, details = memory.step(state, latents[t], control)
            fields = {f"state.{name}": f for name, f in state._asdict().items() if f.numel()}
            runs[1].append({"context": context, **fields, **details})

        losses = [0.0, 0.0]
        for t, (expected, found) in enumerate(zip(*runs, strict=True)):
            assert expected.keys() == found.keys()
            for quantity, value in expected.items():
                torch.testing.assert_close(
                    found[quantity],
                    value,
                    rtol=1e-10,
                    atol=1e-12,
                    msg=lambda text, at=f"{quantity} of step {t}": f"{at}: {text}",
                )
                direction = torch.randn_like(value)
                losses[0] = losses[0] + (direction * value).sum()
                losses[1] = losses[1] + (direction * found[quantity]).sum()
        expected, found = (
            torch.autograd.grad(loss, inputs, retain_graph=True, materialize_grads=True)
            for loss in losses
        )  # both runs share the graph of a learned initial state
        for one, other in zip(found, expected, strict=True):
            size = max(1.0, other.abs().max().item())
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12 * size)

    return check
