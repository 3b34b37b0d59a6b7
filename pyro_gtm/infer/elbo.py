"""Pyro's bounds, computed without reading anything back from the device.

``Trace_ELBO`` and ``TraceMeanField_ELBO`` turn the log-probability of every site into a Python
number, and ask of the loss whether it is NaN.  Each is a wait for the device, and forbids the
capture of a step as a CUDA graph.  These give the same loss as a tensor, and the same gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from pyro.distributions.util import is_identically_zero, scale_and_mask
from pyro.infer import ELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.trace_elbo import _compute_log_r
from pyro.infer.util import check_fully_reparametrized, is_validation_enabled
from pyro.poutine import Trace
from pyro.util import warn_if_nan
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gtm.internals.registry import Registry

__all__ = ["ELBOS", "DeviceELBO", "DeviceTraceMeanField_ELBO", "DeviceTrace_ELBO", "register_elbo"]

Program = Callable[..., Any]


class DeviceELBO(ELBO):
    """Base class of the two bounds: a loss that stays a tensor.

    Takes the options of :class:`pyro.infer.ELBO`.  Pyro's validation, where it is on, reads values;
    a loss that is NaN is warned of under validation only.
    """

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """The negative ELBO in nats, a 0-dim tensor without gradient."""
        return self.differentiable_loss(model, guide, *args, **kwargs).detach()

    def differentiable_loss(
        self, model: Program, guide: Program, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The negative ELBO in nats, 0-dim; its gradient is the estimator's."""
        losses, surrogates = zip(*self._particles(model, guide, args, kwargs), strict=True)
        surrogate = torch.as_tensor(sum(surrogates))
        return _checked(sum(losses)) + (surrogate - surrogate.detach())

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """The negative ELBO in nats, 0-dim, after its gradient was added to the parameters'."""
        total: Any = 0.0
        for loss, surrogate in self._particles(model, guide, args, kwargs):
            total = total + loss
            if surrogate.requires_grad:
                surrogate.backward(retain_graph=self.retain_graph)
        return _checked(total)

    def _particles(
        self, model: Program, guide: Program, args: Any, kwargs: Any
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Each particle's part of the loss and of what is differentiated."""
        for traces in self._get_traces(model, guide, args, kwargs):
            loss, surrogate = self._particle(*traces)
            yield loss / self.num_particles, surrogate / self.num_particles

    def _particle(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """The loss without gradient, and what to differentiate in its place."""
        raise NotImplementedError


class DeviceTrace_ELBO(DeviceELBO, Trace_ELBO):
    """:class:`pyro.infer.Trace_ELBO` without a read: same loss, same gradients.

    Sites that cannot be reparameterised are differentiated by their score, as in the parent.
    """

    def _particle(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        log_r: Any = None
        elbo: Any = 0.0
        surrogate: Any = 0.0
        for site in _samples(model_trace).values():
            elbo = elbo + site["log_prob_sum"]
        surrogate = surrogate + elbo
        for site in _samples(guide_trace).values():
            _, score_function, entropy = site["score_parts"]
            elbo = elbo - site["log_prob_sum"]
            if not is_identically_zero(entropy):
                surrogate = surrogate - entropy.sum()
            if not is_identically_zero(score_function):
                if log_r is None:
                    log_r = _compute_log_r(model_trace, guide_trace)
                weight = log_r.sum_to(site["cond_indep_stack"])
                surrogate = surrogate + (weight * score_function).sum()
        return -torch.as_tensor(elbo).detach(), -torch.as_tensor(surrogate)


class DeviceTraceMeanField_ELBO(DeviceELBO, TraceMeanField_ELBO):
    """:class:`pyro.infer.TraceMeanField_ELBO` without a read: same loss, same gradients.

    Every latent site must be reparameterised, as in the parent, which checks it under validation
    only; the KL is the analytic one where there is one.
    """

    def _particle(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        elbo: Any = 0.0
        guides = _samples(guide_trace)
        for name, site in _samples(model_trace).items():
            if site["is_observed"]:
                elbo = elbo + site["log_prob_sum"]
                continue
            guide_site = guides[name]
            if is_validation_enabled():
                check_fully_reparametrized(guide_site)
            elbo = elbo + _negative_kl(site, guide_site)
        for name, guide_site in guides.items():
            if name in model_trace.nodes:
                continue
            if is_validation_enabled():  # of an auxiliary site
                check_fully_reparametrized(guide_site)
            elbo = elbo - guide_site["score_parts"].entropy_term.sum()
        elbo = torch.as_tensor(elbo)
        return -elbo.detach(), -elbo


def _samples(trace: Trace) -> dict[str, Any]:
    return {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}


def _checked(loss: Any) -> Tensor:
    loss = torch.as_tensor(loss)
    if is_validation_enabled():
        warn_if_nan(loss, "loss")
    return loss


def _negative_kl(model_site: Any, guide_site: Any) -> Tensor | float:
    """Minus the KL of a latent site, from its sample where there is no closed form.

    That of a whole sequence is registered in ``model/latent_process.py``.
    """
    try:
        kl = kl_divergence(guide_site["fn"], model_site["fn"])
    except NotImplementedError:
        return model_site["log_prob_sum"] - guide_site["score_parts"].entropy_term.sum()
    kl = scale_and_mask(kl, scale=guide_site["scale"], mask=guide_site["mask"])
    if torch.is_tensor(kl):
        return -kl.sum()
    return -kl * guide_site["fn"].batch_shape.numel()


ELBOS: Registry[DeviceELBO] = Registry("elbo")
register_elbo = ELBOS.register
register_elbo("trace")(DeviceTrace_ELBO)
register_elbo("mean-field")(DeviceTraceMeanField_ELBO)
