"""A bound over the sequences of several processes, each of which has its part of the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_gtm.infer.check_observations import check_observations
from pyro_gtm.infer.elbo import DeviceELBO
from pyro_gtm.infer.ranks import Ranks

__all__ = ["DistributedELBO"]

Program = Callable[..., Any]


class DistributedELBO(DeviceELBO):
    """The bound of the batch that all ranks have together, and its gradients.

    Between the backward pass and the optimizer, loss and gradients are summed over the ranks: the
    negative ELBO is a sum over sequences, so they are what one process would have of all of them
    (for a loss that is a mean, this would be the mean).  The clip, the learning rate and the check
    for NaN see that gradient, the same everywhere, and so every rank takes the same step.  A batch
    in one rank that has no density makes the loss NaN in all.

    Before the first step, all ranks take the first one's parameters, those of Pyro's parameter
    store that the step itself brings into being included.

    The ranks must take the same steps, on batches of one shape, so that the same parameters have a
    gradient in each; gradients must be dropped after each step, as Pyro's optimisers do.
    ``loss`` and :meth:`differentiable_loss` are of this rank's sequences alone.

    Args:
        elbo: the bound of a rank's own sequences.
        ranks: the processes, from :func:`pyro_gtm.infer.joined`.

    Raises:
        LostRankError: from a step, when another rank has ended or does not answer.
    """

    def __init__(self, elbo: DeviceELBO, ranks: Ranks) -> None:
        super().__init__(num_particles=elbo.num_particles)
        self.elbo = elbo
        self.ranks = ranks
        self._parameters_are_shared = False

    def _get_trace(self, *args: Any) -> Any:
        return self.elbo._get_trace(*args)

    def differentiable_loss(
        self, model: Program, guide: Program, *args: Any, **kwargs: Any
    ) -> Tensor:
        """The negative ELBO of this rank's sequences, in nats, 0-dim."""
        return self.elbo.differentiable_loss(model, guide, *args, **kwargs)

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """The negative ELBO of all ranks' sequences, in nats, 0-dim, after its gradient was added
        to the parameters'."""

        def own() -> tuple[Tensor, Tensor]:
            with check_observations() as check:
                loss = self.elbo.loss_and_grads(model, guide, *args, **kwargs)
            valid = torch.ones_like(loss, dtype=torch.bool) if check.valid is None else check.valid
            return loss.detach(), valid

        if self._parameters_are_shared:
            loss, valid = own()
        else:
            with self.ranks.failing_together():  # validation is on, and may speak up in one rank
                loss, valid = own()
            if self._share_parameters():
                with self.ranks.failing_together():
                    loss, valid = own()
            self._parameters_are_shared = True
        loss = loss.masked_fill(~valid, torch.nan)
        self.ranks.sum_([*(p.grad for p in _parameters() if p.grad is not None), loss])
        return loss

    def _share_parameters(self) -> bool:
        """Take the first rank's parameters; whether the gradients of any rank are of others."""
        changed = self.ranks.greatest(int(self.ranks.broadcast_(_parameters()))) > 0
        if changed:
            for parameter in _parameters():
                parameter.grad = None
        return changed


def _parameters() -> list[Tensor]:
    """Those of Pyro's parameter store, unconstrained, in the order of their names."""
    named = sorted(pyro.get_param_store().named_parameters(), key=lambda pair: pair[0])
    return [parameter for _, parameter in named]
