"""The prior that recalls: a mixture of what the memory was told, and of something new.

    p(z_t | z_{<t}, x_{<t}) = Σ_i w_t(i) N(z_t; m_i, s_i) + w_t(new) N(z_t; μ_t, σ_t)
    w_t(i) = Σ_r π_t(r) share_t^r(i),   π_t over the heads, any prototypes and "new"

(m_i, s_i) are those of the posterior with which latent i was written (``gtm.write(latent,
distribution)``), share_t^r(i) is the share that it has in head r's read, and what a read has of
nothing that is known counts as new.  The address becomes a latent variable, summed out: the
gradient of the bound with respect to the logits of an address is its weight less its
responsibility, so that addressing is trained as a classifier is.

Sources: Bornschein, Mnih, Zoran, Rezende 2017, "Variational Memory Addressing" (arXiv 1709.07116);
Fraccaro et al. 2018, GTM-SM (arXiv 1804.09401).  Equation 7 of Gemici et al. 2017 has the prior
depend on x_{<t}, as this one does by way of the posteriors; theirs is one Gaussian.

Prototypes are learned Gaussians that are the same in all steps and sequences, each with a weight of
its own in π_t: they stand for kinds of frames, where what comes is known by its kind alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent, constraints, register_kl

from pyro_gtm.internals.activation_checkpointing import checkpointed
from pyro_gtm.internals.shapes import broadcast_shapes
from pyro_gtm.internals.stored import gaussian_parameters
from pyro_gtm.model.networks.gaussian import Parameters
from pyro_gtm.ops import recall

__all__ = ["MixturePrior", "PartlyObserved", "mix_heads", "mixture_prior"]

Shape = torch.Size | list[int] | tuple[int, ...]

NUMBERS_AT_ONCE = 2**22
"""Greatest size of what is computed for all components at once."""


TINY = 1e-30
"""Least weight of new in a logarithm."""

ROUNDING = 1e-6
"""A part of a read that is nothing but the rounding of its sum."""


HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class MixturePrior(dist.TorchDistribution):
    """Σ_i w(i) N(m_i, s_i) + Σ_c w(c) N(m_c, s_c) + w(new) N(μ, σ), diagonal Gaussians over event
    shape ``(Z,)``: slots i, prototypes c, and something new.

    The density is exact.  To Gaussian posteriors there is a bound in closed form, registered as
    their divergence::

        KL[q ‖ Σ_a w_a p_a] <= -log Σ_a w_a exp(-KL[q ‖ p_a])

    which is what ``TraceMeanField_ELBO`` and :func:`pyro_gtm.evaluate` use; it is exact for one
    component, and -log w_a where component a equals q and all others are far.

    A draw has no gradient with respect to which component it came from (``has_rsample`` is False).

    Args:
        new: μ and σ, ``(*batch, Z)`` each.
        components: m and s of the K slots, ``(*batch, K, Z)`` each, or what broadcasts to it.
        log_weights: log w of the slots, the prototypes and, last, of new:
            ``(*batch, K + C + 1)``.
        prototypes: m and s of the C prototypes, ``(C, Z)`` each; None for none.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)
    support = constraints.real_vector
    has_rsample = False

    def __init__(
        self,
        new: Parameters,
        components: Parameters,
        log_weights: Tensor,
        prototypes: Parameters | None = None,
    ) -> None:
        self.new = new
        self.prototypes = prototypes
        location, scale = (part.expand(*part.shape[:-1], *new[0].shape[-1:]) for part in components)
        self.components = (location, scale)
        self.log_weights = log_weights
        batch_shape = broadcast_shapes(new[0].shape[:-1], log_weights.shape[:-1])
        super().__init__(batch_shape, new[0].shape[-1:], validate_args=False)

    def expand(self, batch_shape: Shape, _instance: MixturePrior | None = None) -> MixturePrior:
        location, scale = (part.expand(*batch_shape, -1) for part in self.new)
        return MixturePrior(
            (location, scale),
            self.components,
            self.log_weights.expand(*batch_shape, -1),
            self.prototypes,
        )

    def sample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        """A component is drawn, then a value: ``(*sample_shape, *batch, Z)``."""
        with torch.no_grad():
            # By the Gumbel trick, and without the samplers that look at their arguments: nothing
            # is read back from the device.
            shape = torch.Size([*sample_shape, *self.batch_shape, self.log_weights.shape[-1]])
            gumbel = -self.log_weights.new_empty(shape).exponential_().log()
            index = (self.log_weights + gumbel).argmax(-1)
            location, scale = self._choose(index, self.new, self.prototypes)
            return location + scale * torch.randn_like(location)

    def log_prob(self, value: Tensor) -> Tensor:
        """The exact log-density: ``(*batch)``, in nats."""
        return self._joint(value).logsumexp(-1)

    def log_responsibilities(self, value: Tensor) -> Tensor:
        """log p(component | value): ``(*batch, K + C + 1)``, new last."""
        return self._joint(value).log_softmax(-1)

    def component_of(self, value: Tensor, new: Parameters) -> Parameters:
        """Location and scale of the slot that a value most probably came from.

        Args:
            value: ``(*batch, Z)``.
            new: what to give where it came from none of the slots: ``(*batch, Z)`` each.
        """
        slots = self.components[0].shape[-2]
        return self._choose(self.log_responsibilities(value).argmax(-1).clamp(max=slots), new)

    def _choose(
        self, index: Tensor, new: Parameters, prototypes: Parameters | None = None
    ) -> Parameters:
        """Location and scale of the components of these numbers, ``(*batch)`` of int64."""

        def chosen(which: int) -> Tensor:
            parts = [self.components[which], new[which].unsqueeze(-2)]
            if prototypes is not None:
                parts.insert(1, prototypes[which])
            shape = index.shape
            every = torch.cat([p.expand(*shape, *p.shape[-2:]) for p in parts], dim=-2)
            wanted = index[..., None, None].expand(*shape, 1, every.shape[-1])
            return every.gather(-2, wanted).squeeze(-2)

        return chosen(0), chosen(1)

    def kl_bound(self, posterior: Parameters) -> Tensor:
        """-log Σ_a w_a exp(-KL[N(posterior) ‖ p_a]): ``(*batch)``, in nats."""
        location, scale = posterior
        kl = self._of_components(_kl, location, scale)
        return -(self.log_weights - kl).logsumexp(-1)

    def _joint(self, value: Tensor) -> Tensor:
        """log w_a p_a(value): ``(*batch, K + C + 1)``."""
        return self.log_weights + self._of_components(_log_density, value)

    def _of_components(self, function: Callable[..., Tensor], *of: Tensor) -> Tensor:
        """A function of each component: ``(*batch, K + C + 1)``."""
        of_new = function(*of, *self.new)
        shape = broadcast_shapes(of[0].shape[:-1], self.batch_shape)
        count = self.components[0].shape[-2]
        rows = shape[0] if shape else 1
        size = math.prod(shape) * count * self.event_shape[0]
        at_once = max(1, rows * NUMBERS_AT_ONCE // max(1, size))
        of = tuple(part.unsqueeze(-2) for part in of)
        if at_once >= rows:
            of_slots = function(*of, *self.components)
        else:
            parts = [p.expand(*shape, *p.shape[-2:]) for p in (*of, *self.components)]
            blocks = zip(*(part.split(at_once) for part in parts), strict=True)
            of_slots = torch.cat([checkpointed(function, *block) for block in blocks])
        parts = [of_slots.expand(*shape, -1), of_new.expand(shape).unsqueeze(-1)]
        if self.prototypes is not None:
            parts.insert(1, function(*of, *self.prototypes))
        return torch.cat(parts, dim=-1)


class PartlyObserved(dist.TorchDistribution):
    """The posterior for those sequences that have a frame, and the mixture itself for the others.

    A draw from the mixture has no gradient with respect to the choice of its component.

    Args:
        posterior: a diagonal Gaussian over ``(Z,)``.
        prior: what takes its place.
        observed: the sequences that have a frame, ``(*batch)`` of bool.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  (as torch declares it)
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, posterior: dist.TorchDistribution, prior: MixturePrior, observed: Tensor
    ) -> None:
        self.posterior = posterior
        self.prior = prior
        self.observed = observed
        shape = broadcast_shapes(posterior.batch_shape, prior.batch_shape, observed.shape)
        super().__init__(shape, posterior.event_shape, validate_args=False)

    def expand(self, batch_shape: Shape, _instance: PartlyObserved | None = None) -> PartlyObserved:
        return PartlyObserved(
            self.posterior.expand(batch_shape), self.prior.expand(batch_shape), self.observed
        )

    def rsample(self, sample_shape: Shape = torch.Size()) -> Tensor:  # noqa: B008
        drawn = self.posterior.expand(self.batch_shape).rsample(sample_shape)
        of_prior = self.prior.expand(self.batch_shape).sample(sample_shape)
        return torch.where(self.observed.unsqueeze(-1), drawn, of_prior)

    def log_prob(self, value: Tensor) -> Tensor:
        """``(*batch)``, in nats."""
        of_posterior, of_prior = self.posterior.log_prob(value), self.prior.log_prob(value)
        return torch.where(self.observed, of_posterior, of_prior)


def mix_heads(log_shares: Tensor, gate_logits: Tensor, prototypes: int = 0) -> Tensor:
    """log w of the slots and of new, from what each head reads and how far it is trusted.

    Args:
        log_shares: of K slots in the reads of R heads: ``(*batch, R, K)``.
        gate_logits: of π over the heads, the prototypes and new, ``(*batch, R + C + 1)``.
        prototypes: C.

    Returns:
        ``(*batch, K + C + 1)``.

    Raises:
        ValueError: another number of gates.
    """
    heads = log_shares.shape[-2]
    wanted = heads + prototypes + 1
    if gate_logits.shape[-1] != wanted:
        raise ValueError(
            f"mixture_prior: gate_logits of size {gate_logits.shape[-1]} given, {wanted} needed "
            f"for the {heads} heads of the memory in use, {prototypes} prototypes and something new"
        )
    log_gates = gate_logits.log_softmax(-1)
    of_heads, of_prototypes, of_new = log_gates.split([heads, prototypes, 1], dim=-1)
    of_slots = (of_heads.unsqueeze(-1) + log_shares).logsumexp(-2)  # (*, K)
    left = 1 - log_shares.exp().sum(-1)  # (*, R), read of nothing that is known
    left = torch.where(left > ROUNDING, left, 0.0)
    new = of_new.exp() + (of_heads.exp() * left).sum(-1, keepdim=True)
    shape = new.shape[:-1]
    return torch.cat(
        [
            of_slots.expand(*shape, -1),
            of_prototypes.expand(*shape, -1),
            new.clamp(min=TINY).log(),
        ],
        dim=-1,
    )


def mixture_prior(
    new: dist.TorchDistribution, gate_logits: Tensor, prototypes: Parameters | None = None
) -> MixturePrior:
    """The mixture of what the memory in use recalls in this step, and of ``new``.

    ::

        context = gtm.read()
        prior = gtm.mixture_prior(Normal(*new(context)).to_event(1), gates(context))
        z = pyro.sample("z_1", prior, infer={"posterior": posterior})
        gtm.write(z, posterior)

    Args:
        new: a diagonal Gaussian over ``(Z,)``, ``Normal(...).to_event(1)``.
        gate_logits: how far each of the memory's R heads is trusted, how likely each of the C
            prototypes is and, last, something new: ``(*batch, R + C + 1)``.
        prototypes: locations and scales of further components, ``(C, Z)`` each; None for none.

    Raises:
        TypeError: ``new`` is no diagonal Gaussian.
        ValueError: another number of gates.
        RuntimeError: see :func:`pyro_gtm.ops.recall`.
    """
    recalled = recall()
    return MixturePrior(
        gaussian_parameters("mixture_prior", new),
        (recalled.locations, recalled.scales),
        mix_heads(recalled.log_shares, gate_logits, count_of(prototypes)),
        prototypes,
    )


def count_of(prototypes: Parameters | None) -> int:
    """C."""
    return 0 if prototypes is None else len(prototypes[0])


@register_kl(PartlyObserved, MixturePrior)
def _kl_partly(posterior: PartlyObserved, prior: MixturePrior) -> Tensor:
    bound = prior.kl_bound(gaussian_parameters("MixturePrior", posterior.posterior))
    return torch.where(posterior.observed, bound, 0.0)


@register_kl(Independent, MixturePrior)
def _kl_to_mixture(posterior: Independent, prior: MixturePrior) -> Tensor:
    return prior.kl_bound(gaussian_parameters("MixturePrior", posterior))


def _log_density(value: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """log N(value; location, scale), summed over the last dimension."""
    # What is as large as values times components is touched as rarely as can be.
    apart = ((value - location) * scale.reciprocal()).square().sum(-1)
    return -0.5 * apart - (scale.log() + HALF_LOG_TAU).sum(-1)


def _kl(location: Tensor, scale: Tensor, other: Tensor, other_scale: Tensor) -> Tensor:
    """KL[N(location, scale) ‖ N(other, other_scale)], summed over the last dimension."""
    precision = other_scale.reciprocal()
    ratio = (scale * precision).square().sum(-1)
    apart = ((location - other) * precision).square().sum(-1)
    logarithms = other_scale.log().sum(-1) - scale.log().sum(-1)
    return 0.5 * (ratio + apart - scale.shape[-1]) + logarithms
