"""The guide that runs inside the model: one recurrence, two traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pyro.distributions import TorchDistribution
from pyro.poutine.guide import GuideMessenger
from torch import Tensor

from pyro_gtm.ops import Mapped

__all__ = ["FilteringGuide", "FilteringProgram"]


class FilteringProgram(Protocol):
    """What a program must offer to be guided: here, :class:`pyro_gtm.GenerativeTemporalModel`."""

    def encode(self, frames: Tensor) -> Tensor | Mapped:
        """What the posterior sees of each frame: ``(T, B, *event) -> (T, B, feature_dim)``."""

    def posterior(
        self, name: str, prior: TorchDistribution, features: Tensor | Mapped | None
    ) -> TorchDistribution:
        """The posterior of the site ``name``, or ``prior`` itself for a site without one."""


class FilteringGuide(GuideMessenger):
    """The filtering posterior q(z_t | z_{<t}, x_{<=t}) of a program, as an effect handler.

    Source: Gemici et al. 2017, equations 4 and 8.

    It runs the model once, puts the posterior in the place of the prior at each latent site and
    yields the traces of both, so the recurrence and its memory are computed once for a gradient
    step.  An ordinary guide function, ``use_memory(memory)(program.guide)``, gives the same
    numbers for twice the work.

    Given fewer frames than ``num_steps`` (in the per-step layout), it follows the posterior as far
    as there are frames and the prior from there: a conditioned generation.

    Args:
        model: the program's model with its memory, ``use_memory(memory)(program.model)``.
        program: the program itself, which holds the encoder and the posterior.
    """

    def __init__(self, model: Callable[..., Any], program: FilteringProgram) -> None:
        super().__init__(model)
        self.program = program
        self._features: Tensor | Mapped | None = None

    def __call__(  # type: ignore[override]
        self, frames: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        self._features = None if frames is None else self.program.encode(frames)
        try:
            return super().__call__(frames, *args, **kwargs)
        finally:
            self._features = None

    def get_posterior(self, name: str, prior: TorchDistribution) -> TorchDistribution:
        return self.program.posterior(name, prior, self._features)
