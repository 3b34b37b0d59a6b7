"""A whole sequence of latents as one random variable."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints, kl_divergence, register_kl

from pyro_gtm.internals.memory_step import NEVER
from pyro_gtm.internals.shapes import broadcast_shapes
from pyro_gtm.internals.stored import StoredComponents, StoredPosterior
from pyro_gtm.internals.unrolling import LazyMap, Recalls, Recurrence, Run, Unrolling, align
from pyro_gtm.model.mixture import MixturePrior, count_of, mix_heads
from pyro_gtm.model.networks.gaussian import Parameters, residual_gaussian

__all__ = ["Dynamics", "LatentProcess", "MixtureTerms", "PosteriorTerms"]

PriorHead = Callable[[Tensor], Parameters]
PosteriorHead = Callable[[Tensor | None, Tensor], Parameters]
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

    recalls: Recalls | None
    """What the reads are made of, where the memory tells."""

    parameters: dict[str, Parameters]
    """Of the T Gaussians of ``"prior"`` (of something new, if it is a mixture) and ``"posterior"``,
    as far as they are known: ``(T, *batch, Z)`` each."""

    mixtures: list[MixturePrior]
    """The T mixtures, once they were asked for."""

    def fits(self, latents: Tensor) -> bool:
        """Whether it went along just this value, with gradients if such are wanted now."""
        same = self.latents is latents and self.version == _version(latents)
        as_then = self.detached == (not latents.requires_grad)
        return same and as_then and (self.graded or not torch.is_grad_enabled())


def rollout_of(
    latents: Tensor, contexts: Tensor, recalls: Recalls | None, parameters: dict[str, Parameters]
) -> Rollout:
    """A rollout along a value as it is now."""
    return Rollout(
        latents,
        _version(latents),
        torch.is_grad_enabled(),
        not latents.requires_grad,
        contexts,
        recalls,
        parameters,
        [],
    )


def _version(tensor: Tensor) -> int:
    """A number that grows with every change in place; such tensors as are never tracked have 0."""
    return 0 if tensor.is_inference() else tensor._version


class PosteriorTerms(NamedTuple):
    """The terms that make a posterior of a prior: what it sees of the frames, and how."""

    head: PosteriorHead
    """The network from context, if it wants one, and features to location and scale."""

    features: Tensor | LazyMap
    """Of the frames: ``(T, B, feature_dim)``."""

    residual: bool
    """Whether the head gives a residual, :func:`~pyro_gtm.model.networks.residual_gaussian`."""

    observed: Tensor | None
    """Frames that there are, ``(T, B, 1)`` of bool, None for all: where there is none, the prior
    takes the posterior's place."""

    sees_context: bool = True
    """Whether the head wants the context."""

    def written(self, location: Tensor, latent: Tensor, observed: Tensor | None) -> Tensor:
        """What a memory of means is given: the latent itself where a frame is missing."""
        location = location.expand(latent.shape)
        return location if observed is None else torch.where(observed, location, latent)

    # No property: PyTorch's compiler follows those of a named tuple in late releases only.
    def needs_prior(self) -> bool:
        """Whether the posterior's parameters depend on the prior's."""
        return self.residual or self.observed is not None

    @property
    def known(self) -> Parameters | None:
        """Location and scale of all steps, ``(T, B, Z)`` each, where they depend on nothing but the
        frames."""
        if self.sees_context or self.needs_prior():
            return None
        return self.head(None, self.all_features)

    @property
    def all_features(self) -> Tensor:
        """Of all steps: ``(T, B, feature_dim)``."""
        features = self.features
        return features.values() if isinstance(features, LazyMap) else features

    def parameters(
        self,
        context: Tensor,
        features: Tensor,
        observed: Tensor | None,
        prior: Parameters | None,
    ) -> Parameters:
        """Location and scale of q(z_t | Ψ_t, x_t), at one step or many."""
        if self.sees_context:
            parameters = self.head(context, features)
        else:
            batch_shape = broadcast_shapes(context.shape[:-1], features.shape[:-1])
            parameters = self.head(None, features.expand(*batch_shape, -1))
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


class MixtureTerms(NamedTuple):
    """The terms that make a mixture of a Gaussian prior."""

    gates: Callable[[Tensor], Tensor]
    """The network from context to the logits of how far each head is trusted, of each prototype
    and, last, of something new: ``(*batch, context_dim)`` to ``(*batch, R + C + 1)``."""

    stored: PosteriorTerms
    """The posteriors that are its components."""

    prototypes: Parameters | None = None
    """Locations and scales of further components, ``(C, Z)`` each."""

    def log_weights(self, log_shares: Tensor, contexts: Tensor) -> Tensor:
        """Of slots, prototypes and new, given what each head reads."""
        return mix_heads(log_shares, self.gates(contexts), count_of(self.prototypes))


@dataclass(eq=False)
class Dynamics:
    """The contexts along a sequence of latents, z_{<t} to Ψ_t: a pure function, last value kept.

    Args:
        recurrence: of the memory.
        controls: c_1..c_T, ``(T, B, control_dim)``.
        extra: extra inputs of the memory, put behind the latents: ``(T, B, n)``.
        means: the posteriors whose means are written in the latents' place, and the prior that
            they may need; None for the latents themselves.
    """

    recurrence: Recurrence
    controls: Tensor | None = None
    extra: Tensor | None = None
    means: tuple[PosteriorTerms, PriorHead] | None = None
    last: Rollout | None = None

    def along(
        self, latents: Tensor, keep: bool = False, known: Parameters | None = None
    ) -> Rollout:
        """The rollout along given latents, ``(*batch, T, Z)``.

        Args:
            latents: of all steps.
            keep: as the last.
            known: the posterior's parameters where they need no context, ``(T, B, Z)``; None if
                they were not computed yet.
        """
        last = self.last
        if last is not None and last.fits(latents):
            return last
        steps = latents.movedim(-2, 0)  # (T, *batch, Z)
        if known is None and self.means is not None:
            known = self.means[0].known
        run = self._run(steps, known)
        parameters = {}
        if known is not None:
            location, scale = (align(part, steps.dim() - 2).expand(steps.shape) for part in known)
            parameters["posterior"] = (location, scale)
        rollout = rollout_of(latents, run.contexts, run.recalls, parameters)
        if keep:
            self.last = rollout
        return rollout

    def _run(self, steps: Tensor, known: Parameters | None) -> Run:
        batch_shape = steps.shape[1:-1]
        if self.means is None:
            written = steps
        elif known is not None:
            written = align(known[0], len(batch_shape)).expand(steps.shape)
        else:
            terms, prior = self.means
            return self.recurrence.run(
                _WriteMeans(prior, terms),
                [steps, terms.features, terms.observed, self.extra],
                controls=self.controls,
                length=len(steps),
                batch_shape=batch_shape,
            )
        if self.extra is not None:
            extra = align(self.extra, len(batch_shape)).expand(*steps.shape[:-1], -1)
            written = torch.cat([written, extra], dim=-1)
        return self.recurrence.along(written, controls=self.controls)


class LatentProcess(dist.TorchDistribution):
    """z_1..z_T with z_t ~ N(location_t, scale_t), or a mixture of such, by the memory of z_{<t}.

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
        mixture: what makes the prior a mixture; None for Gaussians.  A draw from it has no gradient
            with respect to the choice of a component; it is drawn from in generation, and in the
            place of missing frames.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)
    support = constraints.independent(constraints.real, 2)

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
        mixture: MixtureTerms | None = None,
    ) -> None:
        self.mixture = mixture
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
            mixture=self.mixture,
        )

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether a draw has all of its gradients: not that from a mixture."""
        return self.mixture is None or self.terms is not None

    def sample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        """A draw: ``(*sample_shape, *batch, B, T, Z)``."""
        shape = (*sample_shape, *self.batch_shape, self.event_shape[1])
        # In the order of a loop that draws step by step, as the other layout does (which draws
        # components of a mixture in between).
        noise = torch.stack([self.like.new_empty(shape).normal_() for _ in range(self.num_steps)])
        dynamics, terms = self.dynamics, self.terms
        if self._draws_from_mixture:
            return self._draw_step_by_step(noise)
        known = None if terms is None else terms.known
        if known is not None:
            location, scale = (align(part, noise.dim() - 2) for part in known)
            latents = torch.addcmul(location, scale, noise).movedim(0, -2)
            dynamics.along(latents, keep=True, known=known)
            return latents
        means = None if dynamics.means is None else dynamics.means[0]
        seen = means if terms is None else terms
        features, observed = (None, None) if seen is None else (seen.features, seen.observed)
        run = dynamics.recurrence.run(
            _Sample(self.prior, terms, means),
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
        dynamics.last = rollout_of(latents, run.contexts, run.recalls, parameters)
        return latents

    @property
    def _draws_from_mixture(self) -> bool:
        missing = self.terms is None or self.terms.observed is not None
        return self.mixture is not None and missing

    def _draw_step_by_step(self, noise: Tensor) -> Tensor:
        """A draw in which a component may have to be chosen: ``(T, *batch, Z)`` of noise."""
        assert self.mixture is not None
        if self.dynamics.recurrence.settings != Unrolling() and torch.is_grad_enabled():
            warnings.warn(
                "LatentProcess: steps are taken one by one, without checkpoint_every and "
                "compile_steps, where frames are missing and the prior is a mixture",
                RuntimeWarning,
                stacklevel=2,
            )
        dynamics, mixture, terms = self.dynamics, self.mixture, self.terms
        stored = mixture.stored
        length, batch_shape = len(noise), noise.shape[1:-1]
        walk = dynamics.recurrence.walk(dynamics.controls, length, batch_shape)
        history = StoredComponents()
        latents, contexts, priors, posteriors = [], [], [], []
        inputs, result = next(walk)
        features = align(stored.all_features, len(batch_shape)).unbind(0)
        for t in range(length):
            history.add_step(inputs.taken)
            context = result.context
            prior = self.prior(context)
            observed = None if stored.observed is None else stored.observed[t]
            posterior = stored.parameters(context, features[t], observed, prior)
            with torch.no_grad():  # a draw from the mixture has no gradient
                recalled = history.recalled(_shares_of(result.details))
                fn = MixturePrior(
                    prior,
                    (recalled.locations, recalled.scales),
                    mixture.log_weights(recalled.log_shares, context),
                    mixture.prototypes,
                )
                latent = fn.expand(batch_shape).sample()
            if terms is not None:
                drawn = torch.addcmul(*posterior, noise[t])
                latent = drawn if observed is None else torch.where(observed, drawn, latent)
            there = None if observed is None else observed.squeeze(-1)
            history.write(StoredPosterior(*posterior, there))
            written = latent
            if dynamics.means is not None:
                written = stored.written(posterior[0], latent, observed)
            extra = None if dynamics.extra is None else dynamics.extra[t]
            latents.append(latent)
            contexts.append(context)
            priors.append(prior)
            posteriors.append(posterior)
            try:
                inputs, result = walk.send(_written(written, extra))
            except StopIteration as stop:
                recalls = stop.value.recalls
        value = torch.stack(latents).movedim(0, -2)
        parameters = {
            name: (torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))
            for name, pairs in (("prior", priors), ("posterior", posteriors))
        }
        dynamics.last = rollout_of(value, torch.stack(contexts), recalls, parameters)
        return value

    def contexts(self, latents: Tensor) -> Tensor:
        """The contexts along these latents: ``(*batch, T, Z) -> (*batch, T, C)``."""
        return self._along(latents, keep=True).contexts.movedim(0, -2)

    def factors(self, latents: Tensor) -> dist.TorchDistribution:
        """The distributions of z_t given z_{<t} along these latents, T Gaussians or mixtures, batch
        shape ``(T, *batch, B)``.  (Those of a posterior are Gaussians, also where a frame is
        missing.)"""
        rollout = self._along(latents)
        if self.terms is None and self.mixture is not None:
            return self._mixtures(rollout)
        return dist.Normal(*self._parameters(rollout)).to_event(1)

    def log_prob_per_step(self, latents: Tensor) -> Tensor:
        """log p(z_t | z_{<t}) of every step: ``(T, *batch, B)``, in nats."""
        steps = latents.movedim(-2, 0)
        log_prob: Tensor = self.factors(latents).log_prob(steps)
        if self.mixture is None or self.terms is None or self.terms.observed is None:
            return log_prob
        of_prior = self._mixtures(self._along(latents)).log_prob(steps)
        return torch.where(self._observed(log_prob), log_prob, of_prior)

    def _observed(self, like: Tensor) -> Tensor:
        """The frames that there are, to be broadcast to ``like``, ``(T, *batch, B)``."""
        assert self.terms is not None and self.terms.observed is not None
        return align(self.terms.observed, like.dim() - 1).squeeze(-1)

    def _mixtures(self, rollout: Rollout) -> MixturePrior:
        """The mixtures of all T steps."""
        if not rollout.mixtures:
            rollout.mixtures.append(self._make_mixtures(rollout))
        return rollout.mixtures[0]

    def _make_mixtures(self, rollout: Rollout) -> MixturePrior:
        mixture, recalls = self.mixture, rollout.recalls
        assert mixture is not None
        if recalls is None:
            raise RuntimeError(NO_SHARES)
        if "prior" not in rollout.parameters:
            rollout.parameters["prior"] = self.prior(rollout.contexts)
        stored = self._parameters_of(mixture.stored, rollout)
        shares = recalls.by_step()  # (T, *batch, R, T - 1)
        batch_dims = shares.dim() - 3
        observed = mixture.stored.observed
        if observed is not None:
            there = align(observed[:-1], batch_dims).squeeze(-1).movedim(0, -1)  # (*, T - 1)
            shares = torch.where(there.unsqueeze(-2), shares, NEVER)
        location, scale = (_components(part, recalls.owners) for part in stored)
        return MixturePrior(
            rollout.parameters["prior"],
            (location, scale),
            mixture.log_weights(shares, rollout.contexts),
            mixture.prototypes,
        )

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
        if self.terms is not None:
            return self._parameters_of(self.terms, rollout)
        if "prior" not in rollout.parameters:
            rollout.parameters["prior"] = self.prior(rollout.contexts)
        return rollout.parameters["prior"]

    def _parameters_of(self, terms: PosteriorTerms, rollout: Rollout) -> Parameters:
        """Of the posteriors that these terms make, which are the same in all of a rollout."""
        known = rollout.parameters
        if "posterior" in known:
            return known["posterior"]
        if terms.needs_prior() and "prior" not in known:
            known["prior"] = self.prior(rollout.contexts)
        batch_dims = rollout.contexts.dim() - 2
        known["posterior"] = terms.parameters(
            rollout.contexts,
            align(terms.all_features, batch_dims),
            None if terms.observed is None else align(terms.observed, batch_dims),
            known["prior"] if terms.needs_prior() else None,
        )
        return known["posterior"]

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
    means: PosteriorTerms | None
    """Whose mean is written in the latent's place."""

    def __call__(
        self,
        context: Tensor,
        noise: Tensor,
        features: Tensor | None,
        observed: Tensor | None,
        extra: Tensor | None,
    ) -> tuple[Tensor, ...]:
        terms = self.terms
        base: tuple[Tensor, ...] = ()
        if terms is None or features is None:
            location, scale = prior = self.prior(context)
        else:
            known = self.prior(context) if terms.needs_prior() else None
            location, scale = prior = terms.parameters(context, features, observed, known)
            base = () if known is None else known
        latent = torch.addcmul(location, scale, noise)
        written = latent
        if self.means is not None and features is not None:
            mean = location
            if terms is None:  # drawn from the prior, of frames that are there
                mean, _ = self.means.parameters(context, features, observed, prior)
            written = self.means.written(mean, latent, observed)
        return _written(written, extra), latent, location, scale, *base


@dataclass(frozen=True)
class _WriteMeans:
    """A step that writes the mean of the posterior, whatever the latent is."""

    prior: PriorHead
    terms: PosteriorTerms

    def __call__(
        self,
        context: Tensor,
        latent: Tensor,
        features: Tensor,
        observed: Tensor | None,
        extra: Tensor | None,
    ) -> tuple[Tensor, ...]:
        prior = self.prior(context) if self.terms.needs_prior() else None
        location, _ = self.terms.parameters(context, features, observed, prior)
        return (_written(self.terms.written(location, latent, observed), extra),)


NO_SHARES = (
    "LatentProcess: the memory in use does not tell what its reads are made of, and the mixture "
    "prior needs one that does (recall_length > 0; NTM, LRU and DNC memory: recall=True)"
)


def _shares_of(details: dict[str, Tensor]) -> Tensor:
    if "log_shares" not in details:
        raise RuntimeError(NO_SHARES)
    return details["log_shares"]


def _components(stored: Tensor, owners: Tensor | None) -> Tensor:
    """What can be recalled in each of T steps, of what each stored: ``(T, *batch, B, Z)`` to
    ``(*batch, B, T - 1, Z)`` for all, or ``(T, *batch, B, T - 1, Z)`` where owners differ."""
    components = stored[:-1].movedim(0, -2)  # (*batch, B, T - 1, Z)
    if owners is None:
        return components
    whose = owners.movedim(-1, 1)  # (T, B, T - 1)
    batch = components.shape[:-3]
    index = whose.view(len(whose), *[1] * len(batch), *whose.shape[1:], 1)
    shape = (len(whose), *components.shape)
    return components.expand(shape).gather(-3, index.expand(shape))


def _written(latent: Tensor, extra: Tensor | None) -> Tensor:
    """[z_t, the extra inputs of the memory]."""
    if extra is None:
        return latent
    return torch.cat([latent, extra.expand(*latent.shape[:-1], -1)], dim=-1)


def kl_per_step(posterior: LatentProcess, prior: LatentProcess, latents: Tensor) -> Tensor:
    """The analytic KL of every step along some latents, or where the prior is a mixture the bound
    on it: ``(T, *batch, B)``, in nats; 0 where a frame is missing.

    Source: Gemici et al. 2017, equation 6; for mixtures :class:`~pyro_gtm.model.MixturePrior`.
    """
    kl = kl_divergence(posterior.factors(latents), prior.factors(latents))
    if prior.mixture is None or posterior.terms is None or posterior.terms.observed is None:
        return kl
    return torch.where(posterior._observed(kl), kl, 0.0)


@register_kl(LatentProcess, LatentProcess)
def _kl(posterior: LatentProcess, prior: LatentProcess) -> Tensor:
    last = posterior.dynamics.last
    latents = posterior.rsample() if last is None else last.latents
    return kl_per_step(posterior, prior, latents).sum(0)
