"""Everything that makes a model of one's own series: saved beside its weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast, get_args

from pyro_gtm.infer.elbo import ELBOS
from pyro_gtm.internals.checks import check_choice, check_not_negative, check_positive
from pyro_gtm.memory.registry import MEMORIES
from pyro_gtm.model import Posterior, Prior, Writes
from pyro_gtm.model.likelihoods import LIKELIHOODS
from pyro_gtm.model.networks import NETWORKS

__all__ = ["Settings"]

OWNER = "fit"


@dataclass(frozen=True)
class Settings:
    """The arguments of :func:`pyro_gtm.series.fit`, checked.

    Raises:
        ValueError: an impossible value.
    """

    memory: str = "vrnn"
    """Name of the memory; ``vrnn`` has none but the state of its LSTM, and is the fastest."""

    memory_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of its class."""

    likelihood: str = "auto"
    """Name of the likelihood; ``auto`` is Bernoulli for values of 0 and 1, and else Gaussian."""

    likelihood_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of its class."""

    network: str = "auto"
    """Encoder and decoder; ``auto`` is ``small_conv`` for images, and else ``mlp``."""

    latent_dim: int = 16
    """Z."""

    hidden_dim: int = 64
    """Width of the networks."""

    prior: str = "gaussian"
    """``gaussian`` or ``mixture``."""

    posterior: str = "auto"
    """``residual``, ``direct`` or ``frame``; ``auto`` is ``residual``, and ``frame`` for the
    associative memory."""

    writes: str = "auto"
    """What the memory is given: ``latent``, ``mean`` or ``latent+frame``; ``auto`` is
    ``latent+frame``, and ``mean`` for the associative memory, which then takes all steps at
    once."""

    window: int = 100
    """The most steps that the model sees at once, in training and after."""

    num_steps: int = 2_000
    """Gradient steps."""

    batch_size: int = 32
    """Windows in a step."""

    learning_rate: float = 2e-3
    """Of Adam, at its peak."""

    schedule: str = "cosine"
    """Of the learning rate, ``constant`` or ``cosine``."""

    kl_annealing: int | None = None
    """Steps over which the weight of the KL grows from 0 to 1; None for a quarter of all steps.

    Without it the latents of a plain series go unused: an untrained decoder makes nothing of them,
    so that they are soon not worth their KL."""

    clip_norm: float = 10.0
    """Greatest global norm of the gradient."""

    elbo: str = "mean-field"
    """``mean-field`` (the KL in closed form) or ``trace``."""

    drop: float = 0.25
    """Share of windows of which some values are hidden in training, so that the model has seen
    gaps; only of frames with several channels."""

    validation: float = 0.1
    """Share of the series that is set apart to say which weights are best: by the negative ELBO of
    what is set apart, looked at twenty times in a fit.  0 for the last weights."""

    seed: int = 0
    """Of the weights and the windows."""

    def __post_init__(self) -> None:
        check_choice(OWNER, "memory", self.memory, MEMORIES.names())
        check_choice(OWNER, "likelihood", self.likelihood, ("auto", *LIKELIHOODS))
        check_choice(OWNER, "network", self.network, ("auto", *NETWORKS))
        check_choice(OWNER, "prior", self.prior, get_args(Prior))
        check_choice(OWNER, "posterior", self.posterior, ("auto", *get_args(Posterior)))
        check_choice(OWNER, "writes", self.writes, ("auto", *get_args(Writes)))
        check_choice(OWNER, "elbo", self.elbo, tuple(ELBOS))
        check_choice(OWNER, "schedule", self.schedule, ("constant", "cosine"))
        check_positive(
            OWNER,
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            num_steps=self.num_steps,
            batch_size=self.batch_size,
        )
        check_not_negative(OWNER, seed=self.seed, kl_annealing=self.kl_annealing or 0)
        check_positive(OWNER, window=self.window)
        if self.window < 2:
            raise ValueError(f"{OWNER}: window must be at least 2 steps, got {self.window}")
        for name in ("learning_rate", "clip_norm"):
            given = getattr(self, name)
            if not (isinstance(given, (int, float)) and 0 < given < math.inf):
                raise ValueError(f"{OWNER}: {name} must be a positive number, got {given!r}")
        if not (isinstance(self.drop, (int, float)) and 0 <= self.drop <= 1):
            raise ValueError(f"{OWNER}: drop must lie from 0 to 1, got {self.drop!r}")
        if not (isinstance(self.validation, (int, float)) and 0 <= self.validation <= 0.5):
            raise ValueError(f"{OWNER}: validation must lie from 0 to 0.5, got {self.validation!r}")

    @property
    def annealing(self) -> int:
        """Steps of KL annealing."""
        return self.num_steps // 4 if self.kl_annealing is None else self.kl_annealing

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file; :meth:`of` takes them back."""
        return asdict(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Settings:
        """Settings by name.

        Raises:
            ValueError: one of them is unknown.
        """
        known = [entry.name for entry in fields(cls)]
        for name in given:
            if name not in known:
                raise ValueError(f"{OWNER}: setting {name!r} given, {', '.join(known)} are allowed")
        return cls(**cast(Any, given))
