"""The guide that runs inside the model: one recurrence, two traces."""

from __future__ import annotations

from typing import Any, cast

import torch
from pyro.distributions import Delta, TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.util import site_is_subsample
from torch import nn

__all__ = ["FilteringGuide", "MissingPosteriorError"]


class MissingPosteriorError(RuntimeError):
    """A latent site carries no posterior, or frames are given where none can look at them."""


class FilteringGuide(GuideMessenger):
    """The filtering posterior q(z_t | z_{<t}, x_{<=t}) of a program, as an effect handler.

    Source: Gemici et al. 2017, equations 4 and 8.

    It runs the model once, puts the posterior in the place of the prior at each latent site and
    yields the traces of both, so the recurrence and its memory are computed once for a gradient
    step.  An ordinary guide function, ``use_memory(memory)(program.guide)``, gives the same
    numbers for twice the work.

    The posterior belongs to the site, however the site is called: a program says
    ``pyro.sample("z", prior, infer={"posterior": q})`` with ``q`` a distribution, a value, a
    function that makes either of the prior, or None where there is nothing to be seen and the prior
    is meant.  So do both layouts of :class:`pyro_gtm.GenerativeTemporalModel`, and so can a program
    of your own.

    Given fewer frames than ``num_steps`` (in the per-step layout), or a mask, it follows the
    posterior where there are frames and the prior elsewhere: a conditioned generation.

    For latent sites that carry no posterior, such as random weights, name a class that has some::

        class Guide(gtm.FilteringGuide, AutoNormalMessenger):
            pass

    Args:
        model: the program's model with its memory, ``use_memory(memory)(program.model)``.

    Raises:
        TypeError: the model is no function.
        MissingPosteriorError: a latent site carries no posterior.
    """

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        silent = isinstance(model, nn.Module) and type(model).forward is nn.Module.forward
        if silent or not callable(model):
            raise TypeError(
                f"FilteringGuide: model of type {type(model).__name__} given, a function is "
                "allowed, such as gtm.use_memory(memory)(program.model)"
            )
        super().__init__(model, *args, **kwargs)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        if "posterior" not in msg["infer"]:
            super()._pyro_sample(msg)  # asks get_posterior
            return
        prior, posterior = msg["fn"], msg["infer"]["posterior"]
        msg["infer"]["prior"] = prior
        if posterior is None:
            return
        if callable(posterior) and not isinstance(posterior, TorchDistributionMixin):
            posterior = posterior(prior)
        if isinstance(posterior, torch.Tensor):
            posterior = Delta(posterior, event_dim=prior.event_dim)
        if not isinstance(posterior, TorchDistributionMixin):
            raise TypeError(
                f"FilteringGuide: the site {msg['name']!r} carries a posterior of type "
                f"{type(posterior).__name__}; a Pyro distribution, a tensor, a function of the "
                "prior that gives either, or None is allowed"
            )
        if posterior.event_shape != prior.event_shape:
            raise ValueError(
                f"FilteringGuide: the site {msg['name']!r} carries a posterior of event shape "
                f"{tuple(posterior.event_shape)}, its prior has {tuple(prior.event_shape)}"
            )
        same = posterior.batch_shape == prior.batch_shape
        msg["fn"] = posterior if same else posterior.expand(prior.batch_shape)

    def _pyro_post_sample(self, msg: Any) -> None:
        argument = msg["infer"].get("observe_by_argument")
        if msg["is_observed"] and argument is not None:
            raise MissingPosteriorError(
                f"FilteringGuide: the site {msg['name']!r} is conditioned on values that no "
                f"posterior sees; give them to the program, as its argument {argument}"
            )
        super()._pyro_post_sample(msg)

    def get_posterior(self, name: str, prior: Any) -> TorchDistribution | torch.Tensor:
        """The posterior of a site that carries none: that of the next class, if it has some."""
        inherited = cast(Any, super()).get_posterior
        if inherited.__func__ is GuideMessenger.get_posterior:
            raise MissingPosteriorError(
                f"FilteringGuide: the latent site {name!r} carries no posterior; give it one, "
                "pyro.sample(..., infer={'posterior': ...}), or derive the guide from a class that "
                "has some, such as class Guide(gtm.FilteringGuide, AutoNormalMessenger)"
            )
        return inherited(name, prior)
