"""The distributions that latents were written with, as the handler of a memory keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor
from torch.distributions import Normal

from pyro_gtm.internals.memory_step import NEVER, Taken

__all__ = [
    "Recalled",
    "StoredComponents",
    "StoredPosterior",
    "gaussian_parameters",
    "posterior_of",
]


class Recalled(NamedTuple):
    """What the memory in use was told with ``write(latent, distribution)``, newest first."""

    log_shares: Tensor
    """The logarithm of the share that each write has in each head's read of this step, -1e9 for
    none (log 1e-6 from a memory that overwrites): ``(*batch, R, K)``, K being the number of writes
    so far, the zeros before the first latent among them, or where that is less those that the
    memory tells apart."""

    locations: Tensor
    """Of the Gaussians: ``(*batch, K, Z)``."""

    scales: Tensor
    """``(*batch, K, Z)``."""


class StoredPosterior(NamedTuple):
    """A Gaussian that a latent was written with."""

    location: Tensor
    """``(*batch, Z)``."""

    scale: Tensor
    """``(*batch, Z)``."""

    there: Tensor | None = None
    """The sequences that have it, ``(*batch)`` of bool; None for all."""

    def swapped(self, first: int, second: int) -> StoredPosterior:
        """With two sequences exchanged."""

        def exchanged(tensor: Tensor, dim: int) -> Tensor:
            order = torch.arange(tensor.shape[dim], device=tensor.device)
            order[first], order[second] = second, first
            return tensor.index_select(dim, order)

        there = self.there
        return StoredPosterior(
            exchanged(self.location, -2),
            exchanged(self.scale, -2),
            there if there is None or there.dim() == 0 else exchanged(there, -1),
        )


def gaussian_parameters(owner: str, distribution: Any) -> tuple[Tensor, Tensor]:
    """Location and scale of a diagonal Gaussian.

    Raises:
        TypeError: it is none.
    """
    base = getattr(distribution, "base_dist", None)
    if isinstance(base, Normal) and len(distribution.event_shape) == 1:
        return base.loc, base.scale
    raise TypeError(
        f"{owner}: distribution must be a diagonal Gaussian, Normal(...).to_event(1), got "
        f"{distribution!r}"
    )


def posterior_of(distribution: Any) -> StoredPosterior:
    """What is kept of a distribution.

    Raises:
        TypeError: it is no diagonal Gaussian.
    """
    mask = None
    if isinstance(distribution, MaskedDistribution):
        mask, distribution = distribution._mask, distribution.base_dist
    location, scale = gaussian_parameters("gtm.write", distribution)
    there = None if mask is None else torch.as_tensor(mask, device=location.device)
    return StoredPosterior(location, scale, there)


class StoredComponents:
    """The distributions of what a memory holds, newest first.

    Args:
        most: how many of the last writes the memory tells apart; None for all.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._held: list[StoredPosterior | None] = []
        self._next: StoredPosterior | None = None

    def write(self, distribution: StoredPosterior | None) -> None:
        """That of the latent which the next step of the memory takes."""
        self._next = distribution

    def add_step(self, taken: Taken) -> None:
        """Follow a step of the memory."""
        for pair in taken.swapped:
            self._held = [held and held.swapped(*pair) for held in self._held]
        if taken.write:
            self._held = [self._next, *self._held][: self.most]
        self._next = None

    def add_steps(self, length: int, watched: Sequence[Taken] | None) -> None:
        """Follow a whole sequence, of whose latents no distribution is known.

        Its first step takes the latent written before it, and nobody has taken its last yet.

        Args:
            length: of the sequence.
            watched: its steps, where some may not have been as usual.
        """
        if watched is None:
            self._held = [*[None] * (length - 1), self._next, *self._held][: self.most]
            self._next = None
        else:
            for taken in watched:
                self.add_step(taken)

    def recalled(self, shares: Tensor) -> Recalled:
        """What reads are made of, of the last K writes ``(*batch, R, K)``."""
        return _recalled(shares, self._held)


def _recalled(shares: Tensor, held: Sequence[StoredPosterior | None]) -> Recalled:
    """What reads are made of.

    Args:
        shares: of the last K writes, ``(*batch, R, K)``.
        held: of these, newest first, as far as there are some.
    """
    *batch, _, count = shares.shape
    held = held[:count]
    known = [s for s in held if s is not None]
    width = known[0].location.shape[-1] if known else 1
    shares = shares[..., : len(held)]
    if not held:
        nothing = shares.new_zeros(*batch, 0, width)
        return Recalled(shares, nothing, nothing)
    none = StoredPosterior(
        shares.new_zeros(width),
        shares.new_ones(width),
        torch.zeros((), dtype=torch.bool, device=shares.device),
    )
    entries = [none if s is None else s for s in held]
    locations, scales = (
        torch.stack([part.expand(*batch, width) for part in parts], dim=-2)
        for parts in list(zip(*entries, strict=True))[:2]
    )
    if any(s.there is not None for s in entries):
        yes = torch.ones((), dtype=torch.bool, device=shares.device)
        there = [(yes if s.there is None else s.there).expand(batch) for s in entries]
        shares = torch.where(torch.stack(there, dim=-1).unsqueeze(-2), shares, NEVER)
    return Recalled(shares, locations, scales)
