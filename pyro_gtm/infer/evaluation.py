"""What a model knows, frame by frame, in nats."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from pyro.distributions import TorchDistribution, Unit
from pyro.poutine.guide import GuideMessenger
from torch import Tensor
from torch.distributions import kl_divergence

__all__ = ["Evaluation", "evaluate"]


class Evaluation(NamedTuple):
    """The two terms of the evidence lower bound for each frame of each sequence, in nats.

    Source: Gemici et al. 2017, equation 6, with one posterior sample threaded through the sequence.
    """

    kl: Tensor
    """KL[q(z_t | z_{<t}, x_{<=t}) ‖ p(z_t | z_{<t})], analytic: ``(T, B)``."""

    reconstruction: Tensor
    """-log p(x_t | z_t, Ψ_t): ``(T, B)``."""

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
            the share of sequences in which a frame is.  All are means over sequences, in nats.
        """
        return {
            "negative_elbo_per_frame": self.negative_elbo.mean().item(),
            "negative_elbo_per_sequence": self.negative_elbo.sum(0).mean().item(),
            "reconstruction_per_frame": self.reconstruction.mean().item(),
            "reconstruction_by_frame": self.reconstruction.mean(-1).tolist(),
            "negative_elbo_by_frame": self.negative_elbo.mean(-1).tolist(),
            "kl_per_frame": self.kl.mean(-1).tolist(),
            "predictable_by_frame": predictable.float().mean(-1).tolist(),
            "recall_kl": self.kl[predictable].mean().item() if predictable.any() else None,
            "last_frame_kl": self.kl[-1].mean().item(),
        }

    def frame_cost(self, labels: Tensor, new: Tensor) -> tuple[float | None, dict[int, float]]:
        """What a new frame costs: the KL of frames of which the past tells nothing, in nats.

        Args:
            labels: the class of each frame, ``(T, B)`` of int64.
            new: frames of which the past tells nothing, ``(T, B)`` of bool.

        Returns:
            The mean over new frames (None if there are none), and for each class among them the
            mean over its frames.
        """
        costs, labels = self.kl[new], labels[new]  # (new frames,)
        if len(costs) == 0:
            return None, {}
        by_class = {c: costs[labels == c].mean().item() for c in labels.unique().tolist()}
        return costs.mean().item(), by_class


def arguments(frames: Tensor, controls: Tensor | None) -> tuple[Tensor, ...]:
    """What a program is called with: one that takes no controls is not told that there are none."""
    return (frames,) if controls is None else (frames, controls)


@torch.no_grad()
def evaluate(guide: GuideMessenger, frames: Tensor, controls: Tensor | None = None) -> Evaluation:
    """Both terms of the bound for every frame.

    Works for either site layout, and for any program whose latent sites all have a Gaussian (or
    otherwise closed-form) KL and whose sites come in the order of time.

    Args:
        guide: an effect-based guide with its model, such as :class:`pyro_gtm.FilteringGuide`.
        frames: ``(T, B, *event)``.
        controls: ``(T, B, control_dim)`` or None.

    Networks with batch normalisation want ``program.eval()`` first, here as everywhere.

    Raises:
        ValueError: the sites do not make one term a frame and sequence.
    """
    guide(*arguments(frames, controls))
    model_trace, guide_trace = guide.get_traces()
    kls: list[Tensor] = []
    reconstructions: list[Tensor] = []
    for name, site in model_trace.nodes.items():
        if site["type"] != "sample" or isinstance(site["fn"], Unit):  # a factor is no frame
            continue
        fn = cast(TorchDistribution, site["fn"])
        if site["is_observed"]:
            terms, value = reconstructions, -fn.log_prob(cast(Tensor, site["value"]))
        else:
            posterior = cast(TorchDistribution, guide_trace.nodes[name]["fn"])
            terms, value = kls, kl_divergence(posterior, fn)
        terms.append(value if value.dim() > 1 else value.unsqueeze(0))  # ([1 or T], B)
    evaluation = Evaluation(kl=torch.cat(kls), reconstruction=torch.cat(reconstructions))
    if any(terms.shape != frames.shape[:2] for terms in evaluation):
        raise ValueError(
            f"evaluate: the program must have one latent and one observed site a frame, with no "
            f"plate but that of the sequences; for frames {tuple(frames.shape[:2])} it gave a KL "
            f"of shape {tuple(evaluation.kl.shape)}"
        )
    return evaluation
