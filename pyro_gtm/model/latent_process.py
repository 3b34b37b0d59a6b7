"""A whole sequence of latents as one random variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints, kl_divergence, register_kl

from pyro_gtm.internals.unrolling import LazyMap, Recurrence, align
from pyro_gtm.model.networks.gaussian import Parameters, residual_gaussian

__all__ = ["Dynamics", "LatentProcess", "PosteriorTerms"]

PriorHead = Callable[[Tensor], Parameters]
PosteriorHead = Callable[[Tensor, Tensor], Parameters]
Shape = torch.Size | list[int] | tuple[int, ...]


class Rollout(NamedTuple):
    """One pass of the recurrence along a sequence of latents."""

    latents: Tensor
    """The value it went along, ``(*batch, T, Z)``."""

    version: int
    """That of the value then: one changed in place since is another."""

    graded: bool
    """Whether gradients could go back through it."""

    detached: bool
    """Whether the value was one without gradients then."""

    contexts: Tensor
    """``(T, *batch, C)``."""

    parameters: dict[str, Parameters]
    """Of the T Gaussians of ``"prior"`` and ``"posterior"``, as far as the loop computed them:
    ``(T, *batch, Z)`` each."""

    def fits(self, latents: Tensor) -> bool:
        """Whether it went along just this value, with gradients if such are wanted now."""
        same = self.latents is latents and self.version == _version(latents)
        as_then = self.detached == (not latents.requires_grad)
        return same and as_then and (self.graded or not torch.is_grad_enabled())


def rollout_of(latents: Tensor, contexts: Tensor, parameters: dict[str, Parameters]) -> Rollout:
    """A rollout along a value as it is now."""
    return Rollout(
        latents,
        _version(latents),
        torch.is_grad_enabled(),
        not latents.requires_grad,
        contexts,
        parameters,
    )


def _version(tensor: Tensor) -> int:
    """A number that grows with every change in place; such tensors as are never tracked have 0."""
    return 0 if tensor.is_inference() else tensor._version


@dataclass(eq=False)
class Dynamics:
    """The contexts along a sequence of latents, z_{<t} to Ψ_t: a pure function, last value kept.

    Args:
        recurrence: of the memory.
        controls: c_1..c_T, ``(T, B, control_dim)``.
        extra: extra inputs of the memory, put behind the latents: ``(T, B, n)``.
    """

    recurrence: Recurrence
    controls: Tensor | None = None
    extra: Tensor | None = None
    last: Rollout | None = None

    def along(self, latents: Tensor, keep: bool = False) -> Rollout:
        """The rollout along given latents, ``(*batch, T, Z)``, to be kept as the last if asked."""
        last = self.last
        if last is not None and last.fits(latents):
            return last
        steps = latents.movedim(-2, 0)  # (T, *batch, Z)
        run = self.recurrence.run(
            _replay,
            [steps, self.extra],
            controls=self.controls,
            length=len(steps),
            batch_shape=latents.shape[:-2],
        )
        rollout = rollout_of(latents, run.contexts, {})
        if keep:
            self.last = rollout
        return rollout


class PosteriorTerms(NamedTuple):
    """The terms that make a posterior of a prior: what it sees of the frames, and how."""

    head: PosteriorHead
    """The network from context and features to location and scale."""

    features: Tensor | LazyMap
    """Of the frames: ``(T, B, feature_dim)``."""

    residual: bool
    """Whether the head gives a residual, :func:`~pyro_gtm.model.networks.residual_gaussian`."""

    observed: Tensor | None
    """Frames that there are, ``(T, B, 1)`` of bool, None for all: where there is none, the prior
    takes the posterior's place."""

    @property
    def needs_prior(self) -> bool:
        """Whether the posterior's parameters depend on the prior's."""
        return self.residual or self.observed is not None

    def parameters(
        self,
        context: Tensor,
        features: Tensor,
        observed: Tensor | None,
        prior: Parameters | None,
    ) -> Parameters:
        """Location and scale of q(z_t | Ψ_t, x_t), at one step or many."""
        parameters = self.head(context, features)
        if prior is None:
            return parameters
        if self.residual:
            parameters = residual_gaussian(prior, parameters)
        if observed is None:
            return parameters
        location, scale = (
            torch.where(observed, one, other) for one, other in zip(parameters, prior, strict=True)
        )
        return location, scale


class LatentProcess(dist.TorchDistribution):
    """z_1..z_T with z_t ~ N(location_t, scale_t), both functions of the memory of z_{<t}.

    This is the site ``z`` of the stacked layout: one draw is a whole sequence.  Batch shape
    ``(*batch, B)``, event shape ``(T, Z)``.  The distribution is a value: it may be drawn from, and
    asked for the density of any sequence, any number of times, also when the memory's handler is
    gone.  Each runs the recurrence.  The run along the value that was drawn last, or whose
    :meth:`contexts` were asked for last, is kept, so that the density of that costs nothing.

    Its KL to another one is that of the T Gaussians along that value: if that was drawn from the
    first, an unbiased estimate of the KL of the whole sequences, with less variance than the
    difference of log-densities.

    Args:
        dynamics: the contexts along latents.
        prior: the network from context to location and scale.
        batch_shape: ``(*batch, B)``.
        num_steps: T.
        latent_dim: Z.
        like: a tensor of the kind and on the device that draws are to be of.
        terms: what makes this a posterior; None for the prior.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        dynamics: Dynamics,
        prior: PriorHead,
        *,
        batch_shape: torch.Size,
        num_steps: int,
        latent_dim: int,
        like: Tensor,
        terms: PosteriorTerms | None = None,
    ) -> None:
        self.dynamics = dynamics
        self.prior = prior
        self.like = like
        self.terms = terms
        super().__init__(batch_shape, torch.Size([num_steps, latent_dim]), validate_args=False)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.event_shape[0]

    def posterior(self, terms: PosteriorTerms) -> LatentProcess:
        """The posterior for this prior; the two share the last run of the recurrence."""
        return self._with(batch_shape=self.batch_shape, terms=terms)

    def expand(self, batch_shape: Shape, _instance: LatentProcess | None = None) -> LatentProcess:
        return self._with(batch_shape=torch.Size(batch_shape), terms=self.terms)

    def _with(self, *, batch_shape: torch.Size, terms: PosteriorTerms | None) -> LatentProcess:
        num_steps, latent_dim = self.event_shape
        return LatentProcess(
            self.dynamics,
            self.prior,
            batch_shape=batch_shape,
            num_steps=num_steps,
            latent_dim=latent_dim,
            like=self.like,
            terms=terms,
        )

    def rsample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        """A draw: ``(*sample_shape, *batch, B, T, Z)``."""
        shape = (*sample_shape, *self.batch_shape, self.event_shape[1])
        # In the order of a loop that draws step by step, as the other layout does.
        noise = torch.stack([self.like.new_empty(shape).normal_() for _ in range(self.num_steps)])
        dynamics, terms = self.dynamics, self.terms
        features, observed = (None, None) if terms is None else (terms.features, terms.observed)
        run = dynamics.recurrence.run(
            _Sample(self.prior, terms),
            [noise, features, observed, dynamics.extra],
            controls=dynamics.controls,
            length=self.num_steps,
            batch_shape=shape[:-1],
        )
        steps, *flat = run.outputs  # (T, *sample_shape, *batch, B, Z) each
        parameters = {"prior" if terms is None else "posterior": (flat[0], flat[1])}
        if len(flat) > 2:
            parameters["prior"] = (flat[2], flat[3])
        latents = steps.movedim(0, -2)
        dynamics.last = rollout_of(latents, run.contexts, parameters)
        return latents

    def contexts(self, latents: Tensor) -> Tensor:
        """The contexts along these latents: ``(*batch, T, Z) -> (*batch, T, C)``."""
        return self._along(latents, keep=True).contexts.movedim(0, -2)

    def factors(self, latents: Tensor) -> dist.TorchDistribution:
        """The T Gaussians N(z_t | z_{<t}) along these latents: batch shape ``(T, *batch, B)``."""
        return dist.Normal(*self._parameters(self._along(latents))).to_event(1)

    def log_prob_per_step(self, latents: Tensor) -> Tensor:
        """log N(z_t | z_{<t}) of every step: ``(T, *batch, B)``, in nats."""
        return self.factors(latents).log_prob(latents.movedim(-2, 0))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z_1..z_T): ``(*batch, B)``, in nats."""
        return self.log_prob_per_step(value).sum(0)

    def _along(self, latents: Tensor, keep: bool = False) -> Rollout:
        if latents.shape[-2:] != self.event_shape:
            raise ValueError(
                f"LatentProcess: latents of event shape {tuple(latents.shape[-2:])} given, "
                f"(T, Z) = {tuple(self.event_shape)} needed"
            )
        return self.dynamics.along(latents, keep)

    def _parameters(self, rollout: Rollout) -> Parameters:
        role = "prior" if self.terms is None else "posterior"
        if role not in rollout.parameters:
            if role == "prior":
                rollout.parameters[role] = self.prior(rollout.contexts)
            else:
                rollout.parameters[role] = self._posterior_parameters(rollout)
        return rollout.parameters[role]

    def _posterior_parameters(self, rollout: Rollout) -> Parameters:
        terms = self.terms
        assert terms is not None
        prior = None
        if terms.needs_prior:
            if "prior" not in rollout.parameters:
                rollout.parameters["prior"] = self.prior(rollout.contexts)
            prior = rollout.parameters["prior"]
        features = terms.features
        if isinstance(features, LazyMap):
            features = features.values()
        batch_dims = rollout.contexts.dim() - 2
        observed = None if terms.observed is None else align(terms.observed, batch_dims)
        return terms.parameters(rollout.contexts, align(features, batch_dims), observed, prior)

    @property
    def loc(self) -> Tensor:
        """None of its own: location and scale of a step depend on the latents before it."""
        raise AttributeError(
            "LatentProcess (the site z of the stacked layout) has no loc and no scale, which "
            "depend on the latents drawn before; to reparameterise each step, use "
            "program.with_layout('per_step')"
        )

    scale = loc


@dataclass(frozen=True)
class _Sample:
    """A step of drawing: z_t is location + scale * noise."""

    prior: PriorHead
    terms: PosteriorTerms | None

    def __call__(
        self,
        context: Tensor,
        noise: Tensor,
        features: Tensor | None,
        observed: Tensor | None,
        extra: Tensor | None,
    ) -> tuple[Tensor, ...]:
        if self.terms is None or features is None:
            location, scale = self.prior(context)
            base: tuple[Tensor, ...] = ()
        else:
            prior = self.prior(context) if self.terms.needs_prior else None
            location, scale = self.terms.parameters(context, features, observed, prior)
            base = () if prior is None else prior
        latent = torch.addcmul(location, scale, noise)
        return _written(latent, extra), latent, location, scale, *base


def _replay(context: Tensor, latent: Tensor, extra: Tensor | None) -> tuple[Tensor, ...]:
    """A step along a given latent."""
    return (_written(latent, extra),)


def _written(latent: Tensor, extra: Tensor | None) -> Tensor:
    """[z_t, the extra inputs of the memory]."""
    if extra is None:
        return latent
    return torch.cat([latent, extra.expand(*latent.shape[:-1], -1)], dim=-1)


def kl_per_step(posterior: LatentProcess, prior: LatentProcess, latents: Tensor) -> Tensor:
    """The analytic KL of every step along some latents: ``(T, *batch, B)``, in nats.

    Source: Gemici et al. 2017, equation 6.
    """
    return kl_divergence(posterior.factors(latents), prior.factors(latents))


@register_kl(LatentProcess, LatentProcess)
def _kl(posterior: LatentProcess, prior: LatentProcess) -> Tensor:
    last = posterior.dynamics.last
    latents = posterior.rsample() if last is None else last.latents
    return kl_per_step(posterior, prior, latents).sum(0)
