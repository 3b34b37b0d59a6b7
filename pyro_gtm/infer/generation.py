"""Frames from a trained model: reconstructed, imputed, or continued from the first few."""

from __future__ import annotations

from typing import Any, cast

import torch
from pyro.distributions import MaskedDistribution, TorchDistribution
from torch import Tensor

from pyro_gtm.handlers import FilteringGuide, use_memory
from pyro_gtm.memory import MemoryModule
from pyro_gtm.model.frame_process import FrameProcess
from pyro_gtm.model.likelihoods import point_estimate
from pyro_gtm.model.program import GenerativeTemporalModel

__all__ = ["continue_frames", "reconstruct"]


@torch.no_grad()
def continue_frames(
    program: GenerativeTemporalModel,
    memory: MemoryModule,
    frames: Any,
    *,
    num_steps: int,
    controls: Any = None,
    mask: Any = None,
    sample: bool = False,
    fill_gaps: bool = False,
) -> Tensor:
    """Keep the given frames and generate the rest.

    The latents of the given frames come from the posterior, those after, and in gaps, from the
    prior: what comes is what the memory holds.

    Args:
        program: the trained program.
        memory: its memory.
        frames: x_1..x_n, ``(n, B, *event)``, n >= 1.
        num_steps: T >= n, how many frames there are in the end; T > n without a mask.
        controls: c_1..c_T, ``(T, B, control_dim)``.
        mask: the frames that there are, ``(n, B)`` of bool; the others are generated in place.
        sample: give samples of p(x_t | z_t, Ψ_t) for the generated frames rather than their means
            (or modes, where a likelihood has no mean).
        fill_gaps: draw samples of what is missing of the given frames, and go on as if they had
            come, just as after the last frame.  Without it, a memory is told nothing of a gap.

    Returns:
        All T frames, those given bit for bit: ``(T, B, *event)``.

    Raises:
        ValueError: impossible arguments, or a likelihood without mean and mode and no ``sample``.
    """
    given = len(frames)
    most = num_steps if mask is not None or fill_gaps else num_steps - 1
    if not 1 <= given <= most:
        raise ValueError(
            f"continue_frames: frames must be from 1 to {most} for num_steps={num_steps}, got "
            f"{given}"
        )
    program = program.with_layout("per_step")
    guide = FilteringGuide(use_memory(memory)(program.model))
    guide(frames, controls, mask=mask, num_steps=num_steps, fill_gaps=fill_gaps)
    trace, _ = guide.get_traces()
    output: list[Tensor] = []
    for t in range(num_steps):
        site = trace.nodes[f"x_{t}"]
        if t >= given:
            output.append(cast(Tensor, site["value"]) if sample else _estimate(site["fn"]))
        elif fill_gaps:
            output.append(cast(Tensor, trace.nodes[f"filled_{t}"]["value"]))
        elif mask is None:
            output.append(cast(Tensor, site["value"]))
        else:
            here = torch.as_tensor(mask, device=program.like.device)[t]  # (B,)
            here = here.reshape(-1, *[1] * len(program.likelihood.event_shape))
            made = cast(Any, site["fn"]).sample() if sample else _estimate(site["fn"])
            output.append(torch.where(here, cast(Tensor, site["value"]), made))
    return torch.stack(output)


@torch.no_grad()
def reconstruct(
    program: GenerativeTemporalModel,
    memory: MemoryModule,
    frames: Any,
    controls: Any = None,
    *,
    mask: Any = None,
    lengths: Any = None,
    sample: bool = False,
) -> Tensor:
    """The mean of p(x_t | z_t, Ψ_t) with z from the posterior: ``(T, B, *event)``.

    Missing frames, whose latents come from the prior, are imputed.  A likelihood without a mean
    gives its mode.

    Args:
        program: the trained program.
        memory: its memory.
        frames: ``(T, B, *event)``.
        controls: ``(T, B, control_dim)``.
        mask: the frames that there are, ``(T, B)`` of bool; None for all.
        lengths: the same for sequences that end early, ``(B,)``.
        sample: give samples rather than means.

    Raises:
        ValueError: impossible arguments, or a likelihood without mean and mode and no ``sample``.
    """
    program = program.with_layout("stacked")
    guide = FilteringGuide(use_memory(memory)(program.model))
    guide(frames, controls, mask=mask, lengths=lengths)
    trace, _ = guide.get_traces()
    frames_of = cast(FrameProcess, trace.nodes["x"]["fn"]).frames
    return (frames_of.sample() if sample else point_estimate(frames_of)).movedim(1, 0)


def _estimate(fn: Any) -> Tensor:
    base = fn.base_dist if isinstance(fn, MaskedDistribution) else fn
    return point_estimate(cast(TorchDistribution, base))
