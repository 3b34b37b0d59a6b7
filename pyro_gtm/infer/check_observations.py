"""Are the observed values such that they have a density at all?"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Unit
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

from pyro_gtm.model.inputs import InvalidFramesError

__all__ = ["OUTSIDE", "InvalidFramesError", "check_observations"]

OUTSIDE = "frames hold values outside the support of the likelihood, or NaN or infinity"


class check_observations(Messenger):
    """Check the observed values of every site, without a read from the device.

    Pyro's validation does the same, and more, for far more time.

    Attributes:
        valid: whether all observed values of the last run are finite and inside their supports,
            0-dim of bool on their device; None before the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.valid: Tensor | None = None

    def __enter__(self) -> Any:
        self.valid = None
        return super().__enter__()

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] or isinstance(msg["fn"], Unit):
            return
        fn = msg["fn"]
        valid = _inside(msg["value"], fn.support, fn.event_dim)
        for mask in (msg["mask"], getattr(fn, "_mask", None)):  # what is masked may be anything
            if isinstance(mask, Tensor):
                valid = valid | ~mask
            elif mask is False:
                valid = torch.ones_like(valid)
        valid = valid.all()
        self.valid = valid if self.valid is None else self.valid & valid


def _inside(value: Tensor, support: constraints.Constraint, event_dim: int) -> Tensor:
    """Whether the values of each event are finite and inside the support: the batch shape."""
    base = support
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    # In every step: what is usual, in few and vectorised passes.
    if event_dim and value.numel() and value.is_floating_point():
        zeros = None
        if base is constraints.boolean:
            zeros = value * value - value  # NaN where the value is not finite
        elif base is constraints.real:
            zeros = value - value
        if zeros is not None:
            zeros = zeros.flatten(-event_dim)
            return (zeros.amin(-1) == 0) & (zeros.amax(-1) == 0)  # NaN, if there is one, is both
    valid: Tensor = support.check(value)
    if value.is_floating_point():
        finite = value.isfinite()
        valid = valid & (finite.flatten(-event_dim).all(-1) if event_dim else finite)
    return valid
