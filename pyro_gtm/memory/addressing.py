"""The addressing of slots by content, location and age: pure functions, any leading batch shape.

A memory is a matrix M of N slots with W numbers each.  A *weighting* w says how strongly each slot
is meant: w[i] >= 0, and the w[i] sum to one (where a slot is always chosen) or to at most one
(where a gate may decline).  Heads stand in a dimension of their own before the last.

Shapes below leave out ``*batch``, which may be anything and is the same for all arguments::

    memory      M        (N, W)         keys        k   (R, W)
    weights     w        (R, N)         strengths   β   (R,)
    usage       u        (N,)           links       L   (N, N)

Sources:

- [NTM] Graves, Wayne and Danihelka 2014 (arXiv 1410.5401), section 3.
- [LRUA] Santoro et al. 2016 (arXiv 1605.06065), section 3.2.
- [DNC] Graves et al. 2016 (Nature 538, 471-476), Methods.
- [MDS] Csordás and Schmidhuber 2019 (arXiv 1904.10278).
- [RoPE] Su et al. 2021 (arXiv 2104.09864).

Two departures keep numbers finite: the norms in the cosine are sqrt(Σ x² + 1e-6), so that a slot
full of zeros resembles no key and has a gradient; and usage is moved into [1e-6, 1] before its
logarithms are summed.  Both constants are those of DeepMind's own implementation of the DNC.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "allocate",
    "content_weights",
    "decay_usage",
    "erase_and_add",
    "follow_links",
    "interpolate",
    "kept_shares",
    "least_used",
    "mix_read_modes",
    "product",
    "read_words",
    "retention",
    "shares_of",
    "sharpen",
    "shift",
    "trace_origins",
    "turn",
    "update_links",
    "update_precedence",
    "update_usage",
]

EPSILON = 1e-6
"""Added to squared norms; least usage."""

LEAST_SHARE = 1e-6
"""Least share of a read that is told from none."""

LOG_EPSILON = 1e-16
"""Least weight in a logarithm: far below the rounding of any weight that matters."""


def read_words(memory: Tensor, weights: Tensor) -> Tensor:
    """Read: r = Σ_i w[i] M[i].  [NTM] eq 2.

    Args:
        memory: M, ``(*batch, N, W)``.
        weights: w, ``(*batch, R, N)``.

    Returns:
        r, ``(*batch, R, W)``.
    """
    return product(weights, memory)


def erase_and_add(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """Write: M[i] <- M[i] ∏_h (1 - w_h[i] e_h) + Σ_h w_h[i] a_h.  [NTM] eqs 3-4, [DNC] write.

    All heads erase before any adds, as [NTM] prescribes for several heads.

    Args:
        memory: M, ``(*batch, N, W)``.
        weights: w, ``(*batch, H, N)``.
        erase: e in [0, 1], ``(*batch, H, W)``.
        add: a, ``(*batch, H, W)``.

    Returns:
        The new M, ``(*batch, N, W)``.
    """
    if weights.shape[-2] == 1:  # M + w (a - M e), without an outer product of its own
        change = torch.addcmul(add, memory, erase, value=-1)  # (*batch, N, W)
        return torch.addcmul(memory, weights.mT, change)
    kept = _product(1 - weights.unsqueeze(-1) * erase.unsqueeze(-2), dim=-3)  # (*batch, N, W)
    return memory * kept + product(weights.mT, add)


def content_weights(
    memory: Tensor, keys: Tensor, strengths: Tensor, masks: Tensor | None = None
) -> Tensor:
    """Look a key up: w[i] = softmax_i(β cos(k, M[i])).  [NTM] eqs 5-6.

    With masks, w[i] = softmax_i(β cos(m ∘ k, m ∘ M[i])): what a head does not look at makes no
    word less like its key.  [MDS].

    Args:
        memory: M, ``(*batch, N, W)``.
        keys: k, ``(*batch, R, W)``.
        strengths: β >= 0, ``(*batch, R)``.
        masks: m in [0, 1], ``(*batch, R, W)``; None for ones.

    Returns:
        w, ``(*batch, R, N)``, each summing to one.
    """
    if masks is not None:
        squares = masks.square()  # (*batch, R, W)
        norms = (product(squares, memory.square().mT) + EPSILON).rsqrt()  # (*batch, R, N)
        scale = strengths * ((squares * keys.square()).sum(dim=-1) + EPSILON).rsqrt()  # (*batch, R)
        similarity = product(keys * squares * scale.unsqueeze(-1), memory.mT)  # (*batch, R, N)
        return (similarity * norms).softmax(dim=-1)
    inverse_norms = (memory.square().sum(dim=-1) + EPSILON).rsqrt()  # (*batch, N)
    scale = strengths * (keys.square().sum(dim=-1) + EPSILON).rsqrt()  # (*batch, R)
    # The strength goes onto the keys, which are fewer than the pairs of key and slot.
    similarity = product(keys * scale.unsqueeze(-1), memory.mT)  # (*batch, R, N)
    return (similarity * inverse_norms.unsqueeze(-2)).softmax(dim=-1)


def interpolate(content: Tensor, previous: Tensor, gates: Tensor) -> Tensor:
    """Between content and where the head was before: w = g w_content + (1 - g) w_previous.

    [NTM] eq 7; with other arguments, also the choice of [LRUA] and of [DNC]'s write head.

    Args:
        content: ``(*batch, R, N)``.
        previous: ``(*batch, R, N)``.
        gates: g in [0, 1], ``(*batch, R)``.

    Returns:
        w, ``(*batch, R, N)``.
    """
    return torch.addcmul(previous, gates.unsqueeze(-1), content - previous)


def shift(weights: Tensor, kernels: Tensor) -> Tensor:
    """Circular convolution: w'[i] = Σ_o s[o] w[(i - o) mod N], o = -S//2..S//2.  [NTM] eq 8.

    With all of s on o = 1, a head that was at slot i goes to slot i + 1, and from the last to the
    first.

    Args:
        weights: w, ``(*batch, R, N)``.
        kernels: s, a distribution over offsets, from the most negative; ``(*batch, R, S)``, S odd.

    Returns:
        w', ``(*batch, R, N)``.
    """
    reach = kernels.shape[-1] // 2
    moved = torch.stack(
        [weights.roll(offset, dims=-1) for offset in range(-reach, reach + 1)], dim=-2
    )  # (*batch, R, S, N)
    return (kernels.unsqueeze(-2) @ moved).squeeze(-2)


def sharpen(weights: Tensor, exponents: Tensor) -> Tensor:
    """Undo the blur of shifting: w'[i] = w[i]^γ / Σ_j w[j]^γ.  [NTM] eq 9.

    Computed from logarithms, so that no power underflows to a division of zero by zero.

    Args:
        weights: w, ``(*batch, R, N)``.
        exponents: γ >= 1, ``(*batch, R)``.

    Returns:
        w', ``(*batch, R, N)``, each summing to one.
    """
    return (exponents.unsqueeze(-1) * (weights + LOG_EPSILON).log()).softmax(dim=-1)


def turn(words: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn the last 2 J numbers of each word, as J pairs, each by an angle of its own.

    (a_j, b_j) <- (a_j cos θ_j - b_j sin θ_j, a_j sin θ_j + b_j cos θ_j), the a_j standing before
    the b_j.  A key and a word that were turned by t ω and s ω resemble each other as a key turned
    by (t - s) ω and a word left alone.  [RoPE].

    Args:
        words: ``(*batch, R, W)``, W >= 2 J.
        cosines: cos θ, ``(*batch, J)``.
        sines: sin θ, ``(*batch, J)``.

    Returns:
        ``(*batch, R, W)``.
    """
    pairs = cosines.shape[-1]
    rest, first, second = words.split([words.shape[-1] - 2 * pairs, pairs, pairs], dim=-1)
    cosines, sines = cosines.unsqueeze(-2), sines.unsqueeze(-2)  # (*batch, 1, J)
    turned = first * cosines - second * sines, first * sines + second * cosines
    return torch.cat([rest, *turned], dim=-1)


def decay_usage(usage: Tensor, read_weights: Tensor, write_weights: Tensor, decay: float) -> Tensor:
    """Decayed usage: u <- γ u + Σ_r w_write + min(1, u + Σ_r w_write) Σ_r w_read.  [LRUA].

    A read counts as use as far as there is something to be read.  In the source all of it counts,
    so that a head that looks for what is not there yet makes slots never written appear more used
    than those that were, and the next writes destroy these.

    Args:
        usage: u, ``(*batch, N)``.
        read_weights: ``(*batch, R, N)``.
        write_weights: ``(*batch, H, N)``.
        decay: γ in [0, 1].

    Returns:
        The new u, ``(*batch, N)``.
    """
    written = write_weights.sum(dim=-2)  # (*batch, N)
    in_use = (usage + written).clamp(max=1)
    return torch.addcmul(decay * usage + written, in_use, read_weights.sum(dim=-2))


def least_used(usage: Tensor, count: int) -> Tensor:
    """One-hot weightings of the ``count`` slots used least, the least first.  [LRUA].

    Of slots used equally the one with the lower number comes first, so that there are always
    exactly ``count`` of them; read literally, the source's indicator would have all that tie.
    Not differentiable.

    Args:
        usage: u, ``(*batch, N)``.
        count: at most N.

    Returns:
        ``(*batch, count, N)``.
    """
    order = usage.argsort(dim=-1, stable=True)[..., :count]  # (*batch, count)
    slots = torch.arange(usage.shape[-1], device=usage.device)
    return (order.unsqueeze(-1) == slots).to(usage.dtype)  # one_hot would read its argument


def retention(read_weights: Tensor, free_gates: Tensor) -> Tensor:
    """How much of each slot is not freed: ψ[i] = ∏_r (1 - f_r w_r[i]).  [DNC] retention vector.

    Args:
        read_weights: w of the step before, ``(*batch, R, N)``.
        free_gates: f in [0, 1], ``(*batch, R)``.

    Returns:
        ψ in [0, 1], ``(*batch, N)``: what usage is multiplied with, and in [MDS] also M.
    """
    return _product(1 - free_gates.unsqueeze(-1) * read_weights, dim=-2)


def update_usage(usage: Tensor, write_weights: Tensor) -> Tensor:
    """Count what was written: u <- u + w - u ∘ w.  [DNC] usage vector.

    Args:
        usage: u in [0, 1], ``(*batch, N)``.
        write_weights: w of the step before, ``(*batch, N)``.

    Returns:
        The new u in [0, 1], ``(*batch, N)``.
    """
    return 1 - (1 - usage) * (1 - write_weights)


def allocate(usage: Tensor, tie: float = 0.0) -> Tensor:
    """Where there is room: a[φ_j] = (1 - u[φ_j]) ∏_{i<j} u[φ_i], φ sorting u upwards.  [DNC] eq 1.

    All of it goes to the freest slot if that is quite free, none of it anywhere if no slot is.
    Of slots used equally the one with the lower number comes first.  The product is a sum of
    logarithms, which neither underflows nor has zeros to divide by in its gradient.

    Args:
        usage: u in [0, 1], ``(*batch, N)``.
        tie: for the order, usage is rounded to multiples of this, so that the slot taken may be
            less free than the freest by as much; 0 as published.

    Returns:
        a, ``(*batch, N)``, summing to at most one.
    """
    in_use = EPSILON + (1 - EPSILON) * usage
    rank = (in_use / tie).round() if tie else in_use
    order = rank.argsort(dim=-1, stable=True)  # (*batch, N)
    ascending = in_use.log().gather(-1, order)  # (*batch, N), up to ties
    fuller = F.pad(ascending.cumsum(dim=-1)[..., :-1], (1, 0))  # Σ_{i<j} log u[φ_i]
    # Back by the inverse order: of a scatter PyTorch 2.13's compiler gives a wrong gradient.
    return (1 - in_use) * fuller.gather(-1, order.argsort(dim=-1)).exp()


def update_links(
    links: Tensor, precedence: Tensor, write_weights: Tensor, itself: Tensor | None = None
) -> Tensor:
    """L[i, j] <- (1 - w[i] - w[j]) L[i, j] + w[i] p[j], L[i, i] = 0.  [DNC] temporal links.

    L[i, j] is how much slot i was the next to be written after slot j.  Its size, and the time it
    takes, grow with the square of N.

    Args:
        links: L, ``(*batch, N, N)``.
        precedence: p of the step before, ``(*batch, N)``.
        write_weights: w, ``(*batch, N)``.
        itself: where i = j, ``(N, N)``, bool; made anew unless given.

    Returns:
        The new L, ``(*batch, N, N)``.
    """
    to, since = write_weights.unsqueeze(-1), write_weights.unsqueeze(-2)  # (N, 1), (1, N)
    if itself is None:
        itself = torch.eye(links.shape[-1], dtype=torch.bool, device=links.device)
    # As L + w[i] (p[j] - L) - w[j] L: three passes over what is quadratic in N, and the mask.
    updated = torch.addcmul(links, to, precedence.unsqueeze(-2) - links)  # (*batch, N, N)
    return torch.addcmul(updated, since, links, value=-1).masked_fill(itself, 0.0)


def update_precedence(precedence: Tensor, write_weights: Tensor) -> Tensor:
    """Precedence, each slot's share in the last write: p <- (1 - Σ_i w[i]) p + w.  [DNC].

    Args:
        precedence: p, ``(*batch, N)``.
        write_weights: w, ``(*batch, N)``.

    Returns:
        The new p, ``(*batch, N)``, summing to at most one.
    """
    return (1 - write_weights.sum(dim=-1, keepdim=True)) * precedence + write_weights


def follow_links(links: Tensor, read_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Go on in the order of writing, or back: f = L w, b = Lᵀ w.  [DNC].

    Args:
        links: L, ``(*batch, N, N)``.
        read_weights: w of the step before, ``(*batch, R, N)``.

    Returns:
        f and b, ``(*batch, R, N)`` each, summing to at most one.
    """
    return product(read_weights, links.mT), product(read_weights, links)


def mix_read_modes(backward: Tensor, content: Tensor, forward: Tensor, modes: Tensor) -> Tensor:
    """w = π[1] b + π[2] c + π[3] f.  [DNC] read weighting.

    Args:
        backward: b, ``(*batch, R, N)``.
        content: c, ``(*batch, R, N)``.
        forward: f, ``(*batch, R, N)``.
        modes: π, a distribution over the three, in this order; ``(*batch, R, 3)``.

    Returns:
        w, ``(*batch, R, N)``.
    """
    return modes[..., 0:1] * backward + modes[..., 1:2] * content + modes[..., 2:3] * forward


def product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``; with one batch dimension, without the detours of broadcasting."""
    if left.dim() == right.dim() == 3:
        return torch.bmm(left, right)
    return left @ right


def _product(factors: Tensor, dim: int) -> Tensor:
    """The product of factors in [0, 1] along ``dim``.

    ``torch.prod`` would look for zeros when it goes backwards, and wait for the device to answer.
    The gradient of a factor that is exactly zero is zero.
    """
    return factors.clamp(min=LOG_EPSILON).log().sum(dim=dim).exp()


def kept_shares(weights: Tensor, erase: Tensor) -> Tensor:
    """What a write leaves of each word, in the mean of its elements: ∏_h (1 - w_h[i] mean(e_h)).

    Args:
        weights: w, ``(*batch, H, N)``.
        erase: e in [0, 1], ``(*batch, H, W)``.

    Returns:
        ``(*batch, N)``.
    """
    factors = 1 - weights * erase.mean(dim=-1, keepdim=True)  # (*batch, H, N)
    return factors.squeeze(-2) if factors.shape[-2] == 1 else _product(factors, dim=-2)


def trace_origins(origins: Tensor, kept: Tensor, added: Tensor) -> Tensor:
    """Follow a write: how much of each of the last K written words is in each slot.

    A word is a sum of what was written to it, each part scaled down by all that was erased since,
    which this keeps account of, exactly where a word is erased as a whole and in the mean where its
    elements are erased by different amounts.

    Args:
        origins: before the write, newest first: ``(*batch, N, K)``.
        kept: the share of each word that stays, ``(*batch, N)``.
        added: how much of the new word goes to each slot, ``(*batch, N)``.

    Returns:
        After the write: ``(*batch, N, K)``; the oldest is forgotten.
    """
    older = origins[..., :-1] * kept.unsqueeze(-1)
    return torch.cat([added.unsqueeze(-1), older], dim=-1)


def shares_of(weights: Tensor, origins: Tensor) -> Tensor:
    """The logarithm of the share that each of the last K written words has in each read.

    Args:
        weights: of the heads that read, ``(*batch, R, N)``.
        origins: of the slots, ``(*batch, N, K)``.

    Returns:
        ``(*batch, R, K)``; shares are scaled to one in all where they come to more, and none is
        told from below 1e-6.
    """
    amounts = product(weights, origins)
    shares = amounts / amounts.sum(dim=-1, keepdim=True).clamp(min=1)
    return shares.clamp(min=LEAST_SHARE).log()
