"""The deep Markov model, written anew in Pyro.

Source: Krishnan, Shalit, Sontag 2017 (arXiv 1609.09869), sections 3 to 5, with the networks and
settings of the example ``dmm`` that comes with Pyro (its documentation names them; none of its code
is here).  Latents are a Markov chain, and the posterior of each looks at all frames to come::

    p(z_t | z_{t-1})           a gated transition
    p(x_t | z_t)               independent keys
    h_t = RNN(x_t, h_{t+1})    from the end to the beginning
    q(z_t | z_{t-1}, x_{t:T})  of (tanh(A z_{t-1} + a) + h_t) / 2

Without its inverse autoregressive flows.  Emissions of all steps are one site, for speed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.nn import functional as F

from music.contestants import Contestant
from pyro_gtm.experiments.pieces import NUM_KEYS, Pieces

LEARNING_RATE, BETAS, CLIP_NORM, DECAY = 3e-4, (0.96, 0.999), 10.0, 0.99996
WEIGHT_DECAY = 2.0  # of a loss that is summed over pieces and steps
LEAST_WEIGHT, ANNEALED = 0.2, 0.2
"""The weight of the KL at the start, and the share of training over which it grows to one: there
1,000 of 5,000 epochs."""

Gaussian = tuple[Tensor, Tensor]
"""Location and scale, ``(B, Z)`` each."""


class Sizes(NamedTuple):
    """Widths of the networks."""

    latent: int = 100
    emission: int = 100
    transition: int = 200
    recurrence: int = 600


PUBLISHED_SIZES = Sizes()


class GatedTransition(nn.Module):
    """p(z_t | z_{t-1}): between a linear map, the identity at the start, and a nonlinear one.

    Args:
        sizes: of all networks.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        latent, width = sizes.latent, sizes.transition
        self.gate = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, latent))
        self.proposal = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, latent))
        self.linear = nn.Linear(latent, latent)
        self.scale = nn.Linear(latent, latent)
        with torch.no_grad():
            nn.init.eye_(self.linear.weight)
            self.linear.bias.zero_()

    def forward(self, z: Tensor) -> Gaussian:
        gate, proposed = self.gate(z).sigmoid(), self.proposal(z)
        location = (1 - gate) * self.linear(z) + gate * proposed
        return location, F.softplus(self.scale(proposed.relu()))


class Combiner(nn.Module):
    """q(z_t | z_{t-1}, x_{t:T}).

    Args:
        sizes: of all networks.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.of_latent = nn.Linear(sizes.latent, sizes.recurrence)
        self.location = nn.Linear(sizes.recurrence, sizes.latent)
        self.scale = nn.Linear(sizes.recurrence, sizes.latent)

    def forward(self, z: Tensor, hidden: Tensor) -> Gaussian:
        combined = (self.of_latent(z).tanh() + hidden) / 2
        return self.location(combined), F.softplus(self.scale(combined))


class DeepMarkovModel(nn.Module):
    """Model and guide, with their networks.

    Args:
        sizes: of the networks.
    """

    def __init__(self, sizes: Sizes = PUBLISHED_SIZES) -> None:
        super().__init__()
        self.sizes = sizes
        self.emitter = nn.Sequential(
            nn.Linear(sizes.latent, sizes.emission),
            nn.ReLU(),
            nn.Linear(sizes.emission, sizes.emission),
            nn.ReLU(),
            nn.Linear(sizes.emission, NUM_KEYS),
        )
        self.transition = GatedTransition(sizes)
        self.combiner = Combiner(sizes)
        self.rnn = nn.RNN(NUM_KEYS, sizes.recurrence, nonlinearity="relu")
        self.first_latent = nn.Parameter(torch.zeros(sizes.latent))  # z_0 of the model
        self.first_of_guide = nn.Parameter(torch.zeros(sizes.latent))  # z_0 of the guide
        self.last_hidden = nn.Parameter(torch.zeros(sizes.recurrence))  # h_{T+1}

    def model(self, frames: Tensor, lengths: Tensor, kl_weight: float = 1.0) -> None:
        """p(x, z).

        Args:
            frames: ``(T, B, 88)``.
            lengths: ``(B,)``.
            kl_weight: factor on the latents' log-probabilities.
        """
        pyro.module("dmm", self)
        num_steps, batch_size = frames.shape[:2]
        there = _there(num_steps, lengths)  # (T, B, 1)
        z = self.first_latent.expand(batch_size, -1)
        latents = []
        with pyro.plate("pieces", batch_size):
            for t in range(num_steps):
                prior = dist.Normal(*self.transition(z)).mask(there[t]).to_event(1)
                with poutine.scale(scale=kl_weight):
                    z = pyro.sample(f"z_{t}", prior)
                latents.append(z)
            logits = self.emitter(torch.stack(latents, 1))  # (B, T, 88)
            emission = dist.Bernoulli(logits=logits).mask(there.transpose(0, 1)).to_event(2)
            pyro.sample("x", emission, obs=frames.transpose(0, 1))

    def guide(self, frames: Tensor, lengths: Tensor, kl_weight: float = 1.0) -> None:
        """q(z | x); arguments as in :meth:`model`."""
        pyro.module("dmm", self)
        num_steps, batch_size = frames.shape[:2]
        there = _there(num_steps, lengths)
        hidden = self.hidden(frames, lengths)
        z = self.first_of_guide.expand(batch_size, -1)
        with pyro.plate("pieces", batch_size):
            for t in range(num_steps):
                posterior = dist.Normal(*self.combiner(z, hidden[t])).mask(there[t]).to_event(1)
                with poutine.scale(scale=kl_weight):
                    z = pyro.sample(f"z_{t}", posterior)

    def hidden(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """h_t of each step, of the frames from x_t to the piece's own last: ``(T, B, H)``."""
        begin = self.last_hidden.expand(1, frames.shape[1], -1).contiguous()
        backwards, _ = self.rnn(reversed_in_time(frames, lengths), begin)
        return reversed_in_time(backwards, lengths)

    @torch.no_grad()
    def log_weight(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """log p(x, z) - log q(z | x) of one sample, in nats: ``(B,)``."""
        drawn, replayed = self._traces(frames, lengths)
        total = torch.zeros(frames.shape[1])
        for trace, sign in ((replayed, 1), (drawn, -1)):
            for name, site in trace.nodes.items():
                if site["type"] == "sample" and name != "pieces":
                    fn: Any = site["fn"]
                    total = total + sign * fn.log_prob(site["value"])
        return total

    def _traces(self, frames: Tensor, lengths: Tensor) -> tuple[Trace, Trace]:
        """Of the guide, and of the model along what it drew."""
        drawn = poutine.trace(self.guide).get_trace(frames, lengths)
        replayed = poutine.trace(poutine.replay(self.model, drawn)).get_trace(frames, lengths)
        return drawn, replayed

    @torch.no_grad()
    def bound(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the negative ELBO, from one sample, the KL in closed form.

        Returns:
            KL and reconstruction, in nats, summed over the steps of each piece: ``(B,)`` each.
        """
        drawn, replayed = self._traces(frames, lengths)
        kl = torch.zeros(frames.shape[1])
        for t, there in enumerate(_there(len(frames), lengths)):
            posterior, prior = (_gaussian(trace, f"z_{t}") for trace in (drawn, replayed))
            of_step = torch.distributions.kl_divergence(posterior, prior)  # (B, Z)
            kl = kl + (of_step * there).sum(-1)
        emission: Any = replayed.nodes["x"]["fn"]
        return kl, -emission.log_prob(replayed.nodes["x"]["value"])


class DMM(Contestant):
    """The deep Markov model and its optimiser."""

    name = "dmm"
    batch_size = 20

    def __init__(self, sizes: Sizes = PUBLISHED_SIZES) -> None:
        self.dmm = DeepMarkovModel(sizes)
        settings = {
            "lr": LEARNING_RATE,
            "betas": BETAS,
            "clip_norm": CLIP_NORM,
            "lrd": DECAY,
            "weight_decay": WEIGHT_DECAY,
        }
        optimizer = pyro.optim.ClippedAdam(settings)
        self.svi = SVI(self.dmm.model, self.dmm.guide, optimizer, Trace_ELBO())

    @property
    def networks(self) -> nn.Module:
        return self.dmm

    def step(self, frames: Tensor, used: float) -> float:
        weight = min(1.0, LEAST_WEIGHT + (1 - LEAST_WEIGHT) * used / ANNEALED)
        lengths = torch.full(frames.shape[1:2], len(frames))
        loss = float(self.svi.step(frames, lengths, weight))
        return loss / frames.shape[:2].numel()

    def terms(self, pieces: Pieces) -> tuple[Tensor, Tensor]:
        return self.dmm.bound(pieces.frames, pieces.lengths)

    def log_weights(self, pieces: Pieces, particles: int) -> Tensor:
        weights = [self.dmm.log_weight(*pieces) for _ in range(particles)]
        return torch.stack(weights).logsumexp(0) - math.log(particles)


def reversed_in_time(sequence: Tensor, lengths: Tensor) -> Tensor:
    """Each piece from its own end to its beginning; what is behind the end stays there.

    Args:
        sequence: ``(T, B, N)``.
        lengths: ``(B,)``.
    """
    times = torch.arange(len(sequence)).unsqueeze(1)  # (T, 1)
    index = torch.where(times < lengths, lengths - 1 - times, times)  # (T, B)
    return sequence.gather(0, index.unsqueeze(-1).expand(sequence.shape))


def _there(num_steps: int, lengths: Tensor) -> Tensor:
    """The steps that there are, ``(T, B, 1)`` of bool."""
    return (torch.arange(num_steps).unsqueeze(1) < lengths).unsqueeze(-1)


def _gaussian(trace: Trace, name: str) -> dist.Normal:
    """The diagonal Gaussian of a latent site, without its mask."""
    independent: Any = trace.nodes[name]["fn"]
    normal: dist.Normal = independent.base_dist.base_dist
    return normal
