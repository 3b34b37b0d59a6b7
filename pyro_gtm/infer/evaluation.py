"""The two terms of the evidence lower bound, frame by frame, in nats."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from pyro.distributions import Unit
from pyro.distributions.util import scale_and_mask
from pyro.poutine.guide import GuideMessenger
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gtm.infer.batch import arguments
from pyro_gtm.infer.check_observations import OUTSIDE, InvalidFramesError, check_observations
from pyro_gtm.model.inputs import observed_frames
from pyro_gtm.model.latent_process import LatentProcess, kl_per_step

__all__ = ["Evaluation", "evaluate"]


class Evaluation(NamedTuple):
    """The two terms of the evidence lower bound for each frame of each sequence, in nats.

    Source: Gemici et al. 2017, equation 6, with one posterior sample threaded through the sequence.
    """

    kl: Tensor
    """KL[q(z_t | z_{<t}, x_{<=t}) ‖ p(z_t | z_{<t})], analytic: ``(T, B)``; 0 for a missing frame,
    whose posterior is the prior.  Of a mixture prior the bound on it
    (:class:`~pyro_gtm.model.MixturePrior`)."""

    reconstruction: Tensor
    """-log p(x_t | z_t, Ψ_t): ``(T, B)``; 0 for a missing frame."""

    mask: Tensor | None = None
    """The frames that there are, ``(T, B)`` of bool; None for all."""

    @property
    def negative_elbo(self) -> Tensor:
        """-F_t, the sum of the two: ``(T, B)``."""
        return self.kl + self.reconstruction

    def summary(self, predictable: Tensor) -> dict[str, float | list[float] | None]:
        """The figures that are reported.

        Args:
            predictable: frames of which the past tells something, ``(T, B)`` of bool.

        Returns:
            ``negative_elbo_per_frame`` and ``negative_elbo_per_sequence``;
            ``reconstruction_per_frame``; ``recall_kl`` (mean over predictable frames, None if there
            are none) and ``last_frame_kl``; and lists over frames: ``kl_per_frame``,
            ``reconstruction_by_frame``, ``negative_elbo_by_frame`` and ``predictable_by_frame``,
            the share of sequences in which a frame is.  All are means over the frames that there
            are, and over the sequences that have any, in nats; that of a frame which no sequence
            has is NaN.
        """
        there = torch.ones_like(self.kl, dtype=torch.bool) if self.mask is None else self.mask
        counts = there.sum(-1)  # (T,)
        recalled = predictable & there
        begun = there.any(0)  # (B,)
        last_frame_kl = self.kl.gather(0, _last(there).unsqueeze(0)).squeeze(0)  # (B,)
        return {
            "negative_elbo_per_frame": self.negative_elbo[there].mean().item(),
            "negative_elbo_per_sequence": self.negative_elbo.sum(0)[begun].mean().item(),
            "reconstruction_per_frame": self.reconstruction[there].mean().item(),
            "reconstruction_by_frame": (self.reconstruction.sum(-1) / counts).tolist(),
            "negative_elbo_by_frame": (self.negative_elbo.sum(-1) / counts).tolist(),
            "kl_per_frame": (self.kl.sum(-1) / counts).tolist(),
            "predictable_by_frame": (recalled.sum(-1) / counts).tolist(),
            "recall_kl": self.kl[recalled].mean().item() if recalled.any() else None,
            "last_frame_kl": last_frame_kl[begun].mean().item(),
        }

    def new_frame_kl(self, labels: Tensor, new: Tensor) -> tuple[float | None, dict[int, float]]:
        """The KL of new frames, of which the past tells nothing, in nats.

        Args:
            labels: the class of each frame, ``(T, B)`` of int64.
            new: frames of which the past tells nothing, ``(T, B)`` of bool.

        Returns:
            The mean over new frames (None if there are none), and for each class among them the
            mean over its frames.
        """
        kl, labels = self.kl[new], labels[new]  # (new frames,)
        if len(kl) == 0:
            return None, {}
        by_class = {c: kl[labels == c].mean().item() for c in labels.unique().tolist()}
        return kl.mean().item(), by_class


@torch.no_grad()
def evaluate(
    guide: GuideMessenger,
    frames: Any,
    controls: Any = None,
    *,
    mask: Any = None,
    lengths: Any = None,
) -> Evaluation:
    """Both terms of the bound for every frame.

    Works for either site layout, and for any program whose latent sites all have a Gaussian (or
    otherwise closed-form) KL and whose sites come in the order of time.

    Args:
        guide: an effect-based guide with its model, such as :class:`pyro_gtm.FilteringGuide`.
        frames: ``(T, B, *event)``.
        controls: ``(T, B, control_dim)`` or None.
        mask: the frames that there are, ``(T, B)`` of bool; None for all.
        lengths: the same for sequences that end early, ``(B,)``.

    A site's ``poutine.mask`` counts.  Networks with batch normalisation want ``program.eval()``
    first, here as everywhere.

    Raises:
        TypeError: the guide is no effect-based one.
        ValueError: the sites do not make one term a frame and sequence, or are scaled.
        InvalidFramesError: frames outside the support of the likelihood, or not finite.
    """
    check_guide("evaluate", guide)
    positional, named = arguments(frames, controls, mask, lengths)
    with check_observations() as check:
        guide(*positional, **named)
    refuse_invalid(check)
    model_trace, guide_trace = guide.get_traces()
    kls: list[Tensor] = []
    reconstructions: list[Tensor] = []
    for name, site in model_trace.nodes.items():
        if site["type"] != "sample" or isinstance(site["fn"], Unit):  # a factor is no frame
            continue
        refuse_scale("evaluate", site)
        if site["is_observed"]:
            terms, value = reconstructions, -_log_prob(site)
        else:
            terms, value = kls, _kl(guide_trace.nodes[name], site)
        value = scale_and_mask(value, mask=site["mask"])
        terms.append(value if value.dim() > 1 else value.unsqueeze(0))  # ([1 or T], B)
    wanted = np.shape(frames)[:2]
    given = observed_frames(mask, lengths, *wanted, device=reconstructions[0].device)
    evaluation = Evaluation(torch.cat(kls), torch.cat(reconstructions), given)
    if any(terms.shape != wanted for terms in evaluation[:2]):
        raise ValueError(
            f"evaluate: the program must have one latent and one observed site a frame, with no "
            f"plate but that of the sequences; for frames {wanted} it gave a KL of shape "
            f"{tuple(evaluation.kl.shape)}"
        )
    return evaluation


def check_guide(function: str, guide: Any) -> None:
    """Refuse what is no effect-based guide.

    Raises:
        TypeError: so it is.
    """
    if not hasattr(guide, "get_traces"):
        raise TypeError(
            f"{function}: guide of type {type(guide).__name__} given, an effect-based guide is "
            "allowed, such as gtm.FilteringGuide(model)"
        )


def refuse_scale(function: str, site: Any) -> None:
    """Refuse a site whose density counts other than once: the sum would be no bound.

    Raises:
        ValueError: so it does.
    """
    scale = site["scale"]
    if bool((torch.as_tensor(scale) != 1).any()):
        raise ValueError(
            f"{function}: the site {site['name']!r} is scaled (poutine.scale, a subsampled plate), "
            "and a bound counts every density once"
        )


def refuse_invalid(check: check_observations) -> None:
    """Refuse the observed values of a run that were found to have no density.

    Raises:
        InvalidFramesError: so they were.
    """
    if check.valid is not None and not check.valid:
        raise InvalidFramesError(OUTSIDE)


def _log_prob(site: Any) -> Tensor:
    per_step = getattr(site["fn"], "log_prob_per_step", site["fn"].log_prob)
    return cast(Tensor, per_step(site["value"]))


def _kl(guide_site: Any, model_site: Any) -> Tensor:
    posterior, prior = guide_site["fn"], model_site["fn"]
    if isinstance(posterior, LatentProcess) and isinstance(prior, LatentProcess):
        return kl_per_step(posterior, prior, model_site["value"])
    return kl_divergence(posterior, prior)


def _last(there: Tensor) -> Tensor:
    """The last frame of each sequence that there is: ``(T, B) -> (B,)``."""
    steps = torch.arange(len(there), device=there.device).unsqueeze(1)
    return torch.where(there, steps, 0).amax(0)
