"""Addresses under a mixture prior: which write a latent was expected, and found, to come from."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.nn import functional as F

from pyro_gtm.infer.batch import arguments
from pyro_gtm.infer.check_observations import check_observations
from pyro_gtm.infer.evaluation import check_guide, refuse_invalid
from pyro_gtm.internals.memory_step import NEVER
from pyro_gtm.model.latent_process import LatentProcess
from pyro_gtm.model.mixture import MixturePrior

__all__ = ["Addresses", "addresses"]


class Addresses(NamedTuple):
    """The address of each latent, a latent variable itself that a mixture prior sums out.

    Column s is what was written in step s, for s < T; the last is something new, prototypes among
    it.  What cannot be addressed, such as the steps to come, has -1e9 for a logarithm.
    """

    log_weights: Tensor
    """log w_t, before the frame is seen: ``(T, B, T + 1)``."""

    log_responsibilities: Tensor
    """log p(address | z_t), of the posterior's sample: ``(T, B, T + 1)``."""

    def log_weight_of_right(self, repeats: Tensor) -> Tensor:
        """log w of all slots that hold the same frame; for a new frame, that of something new.

        It is what recall costs: where slots hold the posterior of the very frame, and all other
        components are far, the bound on the KL is the negative of it.

        Args:
            repeats: the earlier step whose frame is shown again, -1 for a new one, ``(T, B)`` of
                integers.

        Returns:
            ``(T, B)``, in nats.

        Raises:
            ValueError: another shape, or a step that is not earlier.
        """
        length, batch_size = self.log_weights.shape[:2]
        steps = torch.arange(length, device=repeats.device).unsqueeze(-1)  # (T, 1)
        if repeats.shape != (length, batch_size) or ((repeats < -1) | (repeats >= steps)).any():
            raise ValueError(
                f"repeats: got shape {tuple(repeats.shape)} with values from {repeats.min()} to "
                f"{repeats.max()}, must be {(length, batch_size)}, each an earlier step or -1"
            )
        first = repeats.where(repeats >= 0, steps)  # the step that showed the frame first
        for _ in range(max(1, length).bit_length()):  # of a repeat of a repeat, that of the latter
            first = first.gather(0, first)
        same = first.unsqueeze(1) == first  # (T, T, B), whatever comes later has no weight
        right = torch.cat([same, (repeats < 0).unsqueeze(1)], dim=1).movedim(1, -1)
        return self.log_weights.masked_fill(~right, NEVER).logsumexp(-1)


@torch.no_grad()
def addresses(
    guide: GuideMessenger,
    frames: Any,
    controls: Any = None,
    *,
    mask: Any = None,
    lengths: Any = None,
) -> Addresses:
    """Weights and responsibilities of a mixture prior, over what was written in which step.

    Works for either site layout, and for any program whose latents have a
    :class:`~pyro_gtm.model.MixturePrior` and come in the order of time.  Where something keeps the
    memory from writing (:class:`pyro_gtm.freeze_writes`), the stacked layout alone knows in which
    step a slot was written.

    Args:
        guide: an effect-based guide with its model, such as :class:`pyro_gtm.FilteringGuide`.
        frames: ``(T, B, *event)``.
        controls: ``(T, B, control_dim)`` or None.
        mask: the frames that there are, ``(T, B)`` of bool; None for all.
        lengths: the same for sequences that end early, ``(B,)``.

    Raises:
        TypeError: the guide is no effect-based one.
        ValueError: no latent has a mixture prior, or there is not one for each frame and sequence.
        InvalidFramesError: frames outside the support of the likelihood, or not finite.
    """
    check_guide("addresses", guide)
    positional, named = arguments(frames, controls, mask, lengths)
    with check_observations() as check:
        guide(*positional, **named)
    refuse_invalid(check)
    model_trace, _ = guide.get_traces()
    wanted = tuple(np.shape(frames)[:2])
    sites = _mixture_sites(model_trace)
    shapes = [weights.shape[:-1] for weights, _ in sites]
    if sum(shape[0] for shape in shapes) != wanted[0] or {s[1:] for s in shapes} != {wanted[1:]}:
        raise ValueError(
            "addresses: the program must have one latent a frame, with no plate but that of the "
            f"sequences; for frames {wanted} it gave latents of shape "
            f"{', '.join(str(tuple(shape)) for shape in shapes)}"
        )
    columns = [[_padded(part, wanted[0]) for part in parts] for parts in sites]
    return Addresses(*(torch.cat(parts) for parts in zip(*columns, strict=True)))


def _mixture_sites(trace: Trace) -> list[tuple[Tensor, Tensor]]:
    """Log-weights and log-responsibilities of each latent site, ``([1 or T], *batch, K + 1)``: of
    the K first steps, and of something new.

    Raises:
        ValueError: no site has a mixture prior.
    """
    found: list[tuple[Tensor, Tensor]] = []
    others = []
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        fn, value = site["fn"], cast(Tensor, site["value"])
        if isinstance(fn, LatentProcess) and fn.mixture is not None:
            mixtures = cast(MixturePrior, fn.factors(value))
            found.append(_without_prototypes(mixtures, value.movedim(-2, 0)))
        elif isinstance(fn, MixturePrior):
            weights, responsibilities = _without_prototypes(fn, value)
            step = len(found)
            found.append((_in_order(weights, step), _in_order(responsibilities, step)))
        else:
            others.append(f"{name!r} has a {type(fn).__name__}")
    if not found:
        raise ValueError(
            "addresses: a latent with a mixture prior is needed, as prior='mixture' makes it; "
            f"{', '.join(others[:2]) or 'there is no latent'}"
        )
    return found


def _without_prototypes(mixture: MixturePrior, value: Tensor) -> tuple[Tensor, Tensor]:
    """Log-weights and log-responsibilities, ``(*batch, K + 1)``: prototypes count as new."""
    slots = mixture.components[0].shape[-2]
    responsibilities = mixture.log_responsibilities(value)

    def parted(part: Tensor) -> Tensor:
        new = part[..., slots:].logsumexp(-1, keepdim=True)
        return torch.cat([part[..., :slots], new], dim=-1)

    return parted(mixture.log_weights.expand(responsibilities.shape)), parted(responsibilities)


def _in_order(part: Tensor, step: int) -> Tensor:
    """What is newest first, of the K latest steps before this one, by step: ``(*batch, K + 1)`` to
    ``(1, *batch, step + 1)``."""
    forgotten = step + 1 - part.shape[-1]
    slots = F.pad(part[..., :-1].flip(-1), (forgotten, 0), value=NEVER)
    return torch.cat([slots, part[..., -1:]], dim=-1).unsqueeze(0)


def _padded(part: Tensor, length: int) -> Tensor:
    """With a column for every step, those to come among them."""
    slots = F.pad(part[..., :-1], (0, length + 1 - part.shape[-1]), value=NEVER)
    return torch.cat([slots, part[..., -1:]], dim=-1)
