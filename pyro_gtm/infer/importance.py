"""The importance-weighted (IWAE) bound on the evidence, from many particles of each sequence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_gtm.infer.batch import arguments
from pyro_gtm.infer.check_observations import check_observations
from pyro_gtm.infer.evaluation import check_guide, refuse_invalid, refuse_scale
from pyro_gtm.internals.checks import check_positive

__all__ = ["importance_weighted_bound"]

NUMBERS_AT_ONCE = 2**24
"""Greatest size of all frames of a chunk of particles: 64 MiB in single precision."""


@torch.no_grad()
def importance_weighted_bound(
    guide: GuideMessenger,
    frames: Any,
    controls: Any = None,
    *,
    mask: Any = None,
    lengths: Any = None,
    num_particles: int,
    chunk: int | None = None,
) -> Tensor:
    """log 1/K ∑_k p(x, z_k) / q(z_k | x) with z_k ~ q, of each whole sequence.

    Source: Burda, Grosse, Salakhutdinov 2016 (arXiv 1509.00519), equation 8.  In expectation it is
    a lower bound on log p(x) that is the evidence lower bound for K = 1 and never falls as K grows;
    for large K it says how much of a model's bound is lost to its posterior.

    Both densities are those of the samples themselves; no analytic KL enters.  Works for either
    site layout, and for any program whose sites all lie in a plate of the sequences at dim -1;
    dimensions between that plate and the particles, such as time, are summed over.  The first
    particle is drawn by itself and shows how deep the program's plates are; the others lie in a
    plate to the left of these.

    Networks with batch normalisation want ``program.eval()`` first.

    Args:
        guide: an effect-based guide with its model, such as :class:`pyro_gtm.FilteringGuide`.
        frames: ``(T, B, *event)``.
        controls: ``(T, B, control_dim)`` or None.
        mask: the frames that there are, ``(T, B)`` of bool; None for all.
        lengths: the same for sequences that end early, ``(B,)``.
        num_particles: K.
        chunk: the most particles that are drawn at once; by default as many as keep the frames of
            all of them within 2^24 numbers.  Another chunk means other draws from the same seed.

    Returns:
        ``(B,)``, in nats; its sum is what ``RenyiELBO(alpha=0)`` estimates.

    Raises:
        ValueError: a number of particles or a chunk that is no positive integer, or a site outside
            the plate of the sequences.
        InvalidFramesError: frames outside the support of the likelihood, or not finite.
    """
    check_guide("importance_weighted_bound", guide)
    check_positive("importance_weighted_bound", num_particles=num_particles)
    size, batch_size = math.prod(np.shape(frames)), np.shape(frames)[1]
    if chunk is None:
        chunk = max(1, NUMBERS_AT_ONCE // max(1, size))
    check_positive("importance_weighted_bound", chunk=chunk)
    inputs, named = arguments(frames, controls, mask, lengths)

    with check_observations() as check:
        guide(*inputs, **named)
    refuse_invalid(check)
    weights = [_log_weights(guide, 1, batch_size)]  # (1, B)
    dim = -1 - _depth(guide.trace)
    for start in range(1, num_particles, chunk):
        size = min(chunk, num_particles - start)
        with pyro.plate("importance_particles", size, dim=dim):
            guide(*inputs, **named)
        weights.append(_log_weights(guide, size, batch_size))  # (size, B)
    return torch.cat(weights).logsumexp(0) - math.log(num_particles)


def _log_weights(guide: GuideMessenger, num_particles: int, batch_size: int) -> Tensor:
    """log p(x, z) - log q(z | x) of what the guide has just drawn: ``(num_particles, B)``."""
    total = torch.zeros(())
    for trace, sign in zip(guide.get_traces(), (1, -1), strict=True):
        trace.compute_log_prob()
        for name, site in trace.nodes.items():
            if site["type"] != "sample":
                continue
            refuse_scale("importance_weighted_bound", site)
            term: Tensor = site["log_prob"]  # ([particles, ...,] B)
            plates = {plate.dim: plate.size for plate in site["cond_indep_stack"]}
            if plates.get(-1) != batch_size:
                raise ValueError(
                    f"importance_weighted_bound: every site must lie in a plate of the "
                    f"{batch_size} sequences at dim -1, and site {name!r} does not"
                )
            total = total + sign * term.reshape(num_particles, -1, batch_size).sum(1)
    return total


def _depth(trace: Trace) -> int:
    """The number of dimensions that the plates of a program take."""
    plates = (plate for site in trace.nodes.values() for plate in site.get("cond_indep_stack", ()))
    return max(-plate.dim for plate in plates if plate.dim is not None)
