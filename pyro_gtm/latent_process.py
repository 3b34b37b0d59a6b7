"""A whole sequence of latents as one random variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints, kl_divergence, register_kl

from pyro_gtm.nets.gaussian import Parameters, correct
from pyro_gtm.ops import read, write

__all__ = ["LatentProcess"]

Head = Callable[[Tensor, "Tensor | None"], Parameters]
Shape = torch.Size | list[int] | tuple[int, ...]


class Rollout(NamedTuple):
    """One pass of the recurrence over a sequence of latents."""

    latents: Tensor  # (*batch, T, B, Z)
    contexts: Tensor  # (*batch, T, B, C)
    factors: dist.TorchDistribution | None  # the T Gaussians, or None: not needed in the loop


class LatentProcess(dist.TorchDistribution):
    """z_1..z_T with z_t ~ N(location_t, scale_t), both functions of the memory of z_{<t}.

    This is the site ``z`` of the stacked layout.  To draw from it is to run the recurrence; to be
    told a value (by a guide's replay, by conditioning) is to run the recurrence along that value.
    Either happens once, and then the factors are ordinary Gaussians, all T at a time.  Batch
    shape ``(*batch, T, B)``, event shape ``(Z,)``.

    The loop speaks to whatever memory handler is active, so a process can be drawn from or
    followed inside one only, and only once: the memory moves on.

    Args:
        head: the network from context (and features) to location and scale.
        batch_shape: ``(*batch, T, B)``.
        latent_dim: Z.
        controls: c_1..c_T, ``(T, B, control_dim)``.
        features: of the frames, for a posterior's head: ``(T, B, feature_dim)``.
        written: maps z_t and t to what the memory is given; z_t itself by default.
        stands_in_for: the prior, if this is a posterior: it takes this one's draws as its own and
            need not run the recurrence again.
        corrects: the head gives a correction of that prior, :func:`pyro_gtm.nets.correct`.
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
        features: Tensor | None = None,
        written: Callable[[Tensor, int], Tensor] | None = None,
        stands_in_for: LatentProcess | None = None,
        corrects: bool = False,
    ) -> None:
        self.head = head
        self.controls = controls
        self.features = features
        self.written = written
        self.prior = stands_in_for
        self.corrects = corrects
        self._rollout: Rollout | None = None
        super().__init__(batch_shape, torch.Size([latent_dim]), validate_args=False)

    def stand_in(self, head: Head, features: Tensor, corrects: bool) -> LatentProcess:
        """The posterior that takes this prior's place, and tells it what was drawn."""
        return LatentProcess(
            head,
            batch_shape=self.batch_shape,
            latent_dim=self.event_shape[0],
            controls=self.controls,
            features=features,
            written=self.written,
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
        latents, contexts, own, priors = [], [], [], []
        for t in range(self.num_steps):
            context = read(self._at(self.controls, t))
            parameters, prior = self._parameters(context, self._at(self.features, t))
            location, scale = parameters
            latent = location + torch.randn_like(location) * scale
            self._write(latent, t)
            latents.append(latent)
            contexts.append(context)
            own.append(parameters)
            priors.append(prior)
        value = _join(latents)
        self._rollout = Rollout(value, _join(contexts), _join_factors(own))
        if self.prior is not None:
            self.prior._rollout = self._rollout._replace(factors=_join_factors(priors))
        return value

    def contexts(self, latents: Tensor) -> Tensor:
        """What the memory gave along these latents: ``(*batch, T, B, Z) -> (*batch, T, B, C)``."""
        return self._along(latents).contexts

    def factors(self, latents: Tensor) -> dist.TorchDistribution:
        """The T Gaussians N(z_t | z_{<t}) along these latents."""
        rollout = self._along(latents)
        factors = rollout.factors
        if factors is None:
            parameters, _ = self._parameters(rollout.contexts, self.features)
            factors = dist.Normal(*parameters).to_event(1)
            self._rollout = rollout._replace(factors=factors)
        return factors

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(z_t | z_{<t}) of every step: ``(*batch, T, B)``, in nats."""
        return self.factors(value).log_prob(value)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.batch_shape[-2]

    def _parameters(
        self, context: Tensor, features: Tensor | None
    ) -> tuple[Parameters, Parameters | None]:
        """Own parameters, and the prior's if they had to be worked out on the way."""
        own = self.head(context, features)
        if self.prior is None or not self.corrects:
            return own, None
        prior = self.prior.head(context, None)
        return correct(prior, own), prior

    def _along(self, latents: Tensor) -> Rollout:
        if self._rollout is None:
            contexts = []
            # As drawn: a plate left of time (particles) keeps an empty dimension where time was.
            steps = latents.unbind(-3) if latents.dim() == 3 else latents.split(1, dim=-3)
            for t, latent in enumerate(steps):
                contexts.append(read(self._at(self.controls, t)))
                self._write(latent, t)
            self._rollout = Rollout(latents, _join(contexts), None)
        elif not _same(self._rollout.latents, latents):
            raise RuntimeError(
                "LatentProcess: it went along other latents already, and its memory has moved on; "
                "run the program again"
            )
        return self._rollout

    def _write(self, latent: Tensor, t: int) -> None:
        write(latent if self.written is None else self.written(latent, t))

    @staticmethod
    def _at(sequence: Tensor | None, t: int) -> Tensor | None:
        return None if sequence is None else sequence[t]


@register_kl(LatentProcess, LatentProcess)
def _kl_of_factors(p: LatentProcess, q: LatentProcess) -> Tensor:
    """The analytic KL of every step along p's own draw, in nats: ``(*batch, T, B)``."""
    if p._rollout is None:
        raise RuntimeError("kl_divergence: the LatentProcess has not been drawn from yet")
    latents = p._rollout.latents
    return kl_divergence(p.factors(latents), q.factors(latents))


def _join_factors(steps: Sequence[Parameters | None]) -> dist.TorchDistribution | None:
    known = [parameters for parameters in steps if parameters is not None]
    if not known:
        return None
    locations, scales = zip(*known, strict=True)
    return dist.Normal(_join(list(locations)), _join(list(scales))).to_event(1)


def _join(steps: list[Tensor]) -> Tensor:
    """Put time in front of the sequences: T of ``(*batch, [1,] B, n)`` make ``(*batch, T, B, n)``.

    A plate left of time (particles) brings the empty dimension where time will be.
    """
    return torch.stack(steps) if steps[0].dim() == 2 else torch.cat(steps, dim=-3)


def _same(one: Tensor, other: Tensor) -> bool:
    """The same tensor, or a view of all of it, as ``detach`` gives."""
    return one is other or (one.data_ptr() == other.data_ptr() and one.shape == other.shape)
