"""Are the observed values such that they have a density at all?"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Unit
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_gtm.model.inputs import InvalidFramesError

__all__ = ["OUTSIDE", "InvalidFramesError", "check_observations"]

OUTSIDE = "frames hold values outside the support of the likelihood, or NaN or infinity"


class check_observations(Messenger):
    """Check the observed values of every site, without a read from the device.

    Costs one pass over the frames.  Pyro's validation does the same, and more, for far more time.

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
        fn, value = msg["fn"], msg["value"]
        valid = fn.support.check(value)  # the batch shape
        if value.is_floating_point() and fn.event_dim:
            valid = valid & value.isfinite().flatten(-fn.event_dim).all(-1)
        elif value.is_floating_point():
            valid = valid & value.isfinite()
        for mask in (msg["mask"], getattr(fn, "_mask", None)):  # what is masked may be anything
            if isinstance(mask, Tensor):
                valid = valid | ~mask
            elif mask is False:
                valid = torch.ones_like(valid)
        valid = valid.all()
        self.valid = valid if self.valid is None else self.valid & valid
