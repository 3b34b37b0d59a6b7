"""Frames from a trained model: reconstructed, or continued from the first few."""

from __future__ import annotations

from typing import cast

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine import Trace
from torch import Tensor

from pyro_gtm.handlers import FilteringGuide, use_memory
from pyro_gtm.memory import MemoryModule
from pyro_gtm.model.program import GenerativeTemporalModel

__all__ = ["continue_frames", "reconstruct"]


@torch.no_grad()
def continue_frames(
    program: GenerativeTemporalModel,
    memory: MemoryModule,
    frames: Tensor,
    *,
    num_steps: int,
    controls: Tensor | None = None,
    sample: bool = False,
) -> Tensor:
    """Keep the given frames and generate the rest.

    The latents of the given frames come from the posterior, those after from the prior: what comes
    is what the memory holds.

    Args:
        program: the trained program.
        memory: its memory.
        frames: x_1..x_n, ``(n, B, *event)``, n >= 1.
        num_steps: T > n, how many frames there are in the end.
        controls: c_1..c_T, ``(T, B, control_dim)``.
        sample: give samples of p(x_t | z_t, Ψ_t) for the generated frames rather than means.

    Returns:
        All T frames, the first n bit for bit those given: ``(T, B, *event)``.
    """
    if not 1 <= len(frames) < num_steps:
        raise ValueError(
            f"continue_frames: frames must be from 1 to num_steps - 1 = {num_steps - 1} frames, "
            f"got {len(frames)}"
        )
    program = program.with_layout("per_step")
    guide = FilteringGuide(use_memory(memory)(program.model), program)
    samples = guide(frames, controls, num_steps=num_steps)
    trace, _ = guide.get_traces()
    generated = [
        samples[f"x_{t}"] if sample else _mean(trace, f"x_{t}")
        for t in range(len(frames), num_steps)
    ]
    return torch.cat([frames, torch.stack(generated)])


@torch.no_grad()
def reconstruct(
    program: GenerativeTemporalModel,
    memory: MemoryModule,
    frames: Tensor,
    controls: Tensor | None = None,
) -> Tensor:
    """The mean of p(x_t | z_t, Ψ_t) with z from the posterior: ``(T, B, *event)``."""
    program = program.with_layout("stacked")
    guide = FilteringGuide(use_memory(memory)(program.model), program)
    guide(frames, controls)
    trace, _ = guide.get_traces()
    return _mean(trace, "x")


def _mean(trace: Trace, site: str) -> Tensor:
    return cast(TorchDistribution, trace.nodes[site]["fn"]).mean
