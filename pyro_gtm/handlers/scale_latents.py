"""The handler behind KL annealing."""

from __future__ import annotations

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor

__all__ = ["scale_latents"]


class scale_latents(Messenger):
    """Scale the log-probabilities of all latent sites, so the KL term of a bound counts ``weight``.

    Wrapped round a model and its guide, it turns the evidence lower bound
    E[log p(x|z)] - KL into E[log p(x|z)] - weight * KL; with a weight below one the result is no
    bound any more, so report with weight one.

    Args:
        weight: the factor, at least 0 (a tensor is taken as it is, unread).
    """

    def __init__(self, weight: float | Tensor) -> None:
        if not isinstance(weight, Tensor) and weight < 0:
            raise ValueError(f"scale_latents: weight must be at least 0, got {weight}")
        super().__init__()
        self.weight = weight

    def _pyro_sample(self, msg: Message) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            msg["scale"] = msg["scale"] * self.weight
