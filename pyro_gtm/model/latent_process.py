"""A whole sequence of latents as one random variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints, kl_divergence, register_kl

from pyro_gtm.model.networks.gaussian import Parameters, correct
from pyro_gtm.ops import Mapped, unroll

__all__ = ["LatentProcess"]

Head = Callable[[Tensor, "Tensor | None"], Parameters]
Shape = torch.Size | list[int] | tuple[int, ...]


class Rollout(NamedTuple):
    """One pass of the recurrence over a sequence of latents."""

    latents: Tensor  # (*batch, T, B, Z)
    contexts: Tensor  # (*batch, T, B, C)
    factors: dist.TorchDistribution | None  # the T Gaussians, or None: not needed in the loop


@dataclass(frozen=True)
class _Draw:
    """A step of drawing: z_t is location + scale * noise."""

    head: Head
    corrected: Head | None
    """The prior's head, if the other gives a correction of it."""

    def __call__(
        self, context: Tensor, noise: Tensor, features: Tensor | None, beside: Tensor | None
    ) -> tuple[Tensor, ...]:
        parameters = self.head(context, features)
        prior: Parameters | tuple[()] = ()
        if self.corrected is not None:
            prior = self.corrected(context, None)
            parameters = correct(prior, parameters)
        location, scale = parameters
        latent = torch.addcmul(location, scale, noise)
        return _with(latent, beside), latent, location, scale, *prior


def _follow(context: Tensor, latent: Tensor, beside: Tensor | None) -> tuple[Tensor, ...]:
    """A step along a given latent."""
    return (_with(latent, beside),)


class LatentProcess(dist.TorchDistribution):
    """z_1..z_T with z_t ~ N(location_t, scale_t), both functions of the memory of z_{<t}.

    This is the site ``z`` of the stacked layout.  To draw from it is to run the recurrence; to be
    told a value (by a guide's replay, by conditioning) is to run the recurrence along that value.
    Either happens once, and then the factors are ordinary Gaussians, all T at a time.  Batch
    shape ``(*batch, T, B)``, event shape ``(Z,)``.

    The recurrence speaks to whatever memory handler is active (:func:`pyro_gtm.ops.unroll`), so a
    process can be drawn from or followed inside one only, and only once: the memory moves on.

    Args:
        head: the network from context (and features) to location and scale.
        batch_shape: ``(*batch, T, B)``.
        latent_dim: Z.
        controls: c_1..c_T, ``(T, B, control_dim)``.
        features: of the frames, for a posterior's head: ``(T, B, feature_dim)``.
        beside: what the memory is given beside the latents: ``(T, B, n)``.
        like: a tensor of the kind and on the device that draws are to be of.
        stands_in_for: the prior, if this is a posterior: it takes this one's draws as its own and
            need not run the recurrence again.
        corrects: the head gives a correction of that prior.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)
    support = constraints.independent(constraints.real, 1)
    has_rsample = True

    def __init__(
        self,
        head: Head,
        *,
        batch_shape: torch.Size,
        latent_dim: int,
        controls: Tensor | None = None,
        features: Tensor | Mapped | None = None,
        beside: Tensor | None = None,
        like: Tensor | None = None,
        stands_in_for: LatentProcess | None = None,
        corrects: bool = False,
    ) -> None:
        self.head = head
        self.controls = controls
        self.features = features
        self.beside = beside
        self.like = like
        self.prior = stands_in_for
        self.corrects = corrects
        self._rollout: Rollout | None = None
        super().__init__(batch_shape, torch.Size([latent_dim]), validate_args=False)

    def stand_in(self, head: Head, features: Tensor | Mapped, corrects: bool) -> LatentProcess:
        """The posterior that takes this prior's place, and tells it what was drawn."""
        return LatentProcess(
            head,
            batch_shape=self.batch_shape,
            latent_dim=self.event_shape[0],
            controls=self.controls,
            features=features,
            beside=self.beside,
            like=self.like,
            stands_in_for=self,
            corrects=corrects,
        )

    def expand(self, batch_shape: Shape, _instance: LatentProcess | None = None) -> LatentProcess:
        if torch.Size(batch_shape) != self.batch_shape:
            raise ValueError(
                f"LatentProcess: cannot be expanded from {tuple(self.batch_shape)} to "
                f"{tuple(batch_shape)}; its shape comes from the plates it was made in"
            )
        return self

    def rsample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        if sample_shape:
            raise ValueError("LatentProcess: draw several samples with a plate, not sample_shape")
        corrected = self.prior if self.corrects else None
        cell = _Draw(self.head, None if corrected is None else corrected.head)
        # In the order of a loop that draws step by step, as the other layout does.
        like = torch.empty(0) if self.like is None else self.like
        shape = (*self._memory_shape, *self.event_shape)
        noise = torch.stack([like.new_empty(shape).normal_() for _ in range(self.num_steps)])
        contexts, latents, *parameters = self._unroll(cell, noise, self.features, self.beside)
        self._rollout = Rollout(latents, contexts, _gaussians(*parameters[:2]))
        if self.prior is not None:
            prior_factors = _gaussians(*parameters[2:]) if corrected is not None else None
            self.prior._rollout = self._rollout._replace(factors=prior_factors)
        return latents

    def contexts(self, latents: Tensor) -> Tensor:
        """What the memory gave along these latents: ``(*batch, T, B, Z) -> (*batch, T, B, C)``."""
        return self._along(latents).contexts

    def factors(self, latents: Tensor) -> dist.TorchDistribution:
        """The T Gaussians N(z_t | z_{<t}) along these latents."""
        rollout = self._along(latents)
        factors = rollout.factors
        if factors is None:
            features = self.features
            if isinstance(features, Mapped):
                features = features.values()
            parameters = self.head(rollout.contexts, features)
            if self.prior is not None and self.corrects:
                parameters = correct(self.prior.head(rollout.contexts, None), parameters)
            factors = _gaussians(*parameters)
            self._rollout = rollout._replace(factors=factors)
        return factors

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(z_t | z_{<t}) of every step: ``(*batch, T, B)``, in nats."""
        return self.factors(value).log_prob(value)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.batch_shape[-2]

    @property
    def _memory_shape(self) -> torch.Size:
        """The batch shape of a step; plates left of time leave a gap where time is."""
        *batch, _, sequences = self.batch_shape
        return torch.Size([*batch, 1, sequences] if batch else [sequences])

    def _along(self, latents: Tensor) -> Rollout:
        if self._rollout is None:
            steps = latents.expand(self.batch_shape + self.event_shape)
            if steps.dim() > 3:
                steps = steps.movedim(-3, 0).unsqueeze(-3)  # (T, *batch, 1, B, Z)
            (contexts,) = self._unroll(_follow, steps, self.beside)
            self._rollout = Rollout(latents, contexts, None)
        elif not _same(self._rollout.latents, latents):
            raise RuntimeError(
                "LatentProcess: it went along other latents already, and its memory has moved on; "
                "run the program again"
            )
        return self._rollout

    def _unroll(
        self, cell: Callable[..., tuple[Tensor, ...]], *sequences: Tensor | Mapped | None
    ) -> tuple[Tensor, ...]:
        return unroll(
            cell,
            sequences,
            self.controls,
            num_steps=self.num_steps,
            batch_shape=self._memory_shape,
        )


@register_kl(LatentProcess, LatentProcess)
def _kl_of_factors(p: LatentProcess, q: LatentProcess) -> Tensor:
    """The analytic KL of every step along p's own draw, in nats: ``(*batch, T, B)``."""
    if p._rollout is None:
        raise RuntimeError("kl_divergence: the LatentProcess has not been drawn from yet")
    latents = p._rollout.latents
    return kl_divergence(p.factors(latents), q.factors(latents))


def _gaussians(location: Tensor, scale: Tensor) -> dist.TorchDistribution:
    return dist.Normal(location, scale).to_event(1)


def _with(latent: Tensor, beside: Tensor | None) -> Tensor:
    """[z_t, what is written beside it]."""
    if beside is None:
        return latent
    return torch.cat([latent, beside.expand(*latent.shape[:-1], -1)], dim=-1)


def _same(one: Tensor, other: Tensor) -> bool:
    """The same tensor, or a view of all of it, as ``detach`` gives."""
    return one is other or (one.data_ptr() == other.data_ptr() and one.shape == other.shape)
