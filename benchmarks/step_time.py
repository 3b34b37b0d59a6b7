"""How long is a gradient step, against hand-written PyTorch and a naive Pyro pair?

    python benchmarks/step_time.py
    python benchmarks/step_time.py --memory vrnn --num-steps 25 --batch-size 16

Contestants, all with the same sizes of network, the same batch, Adam and a gradient clip:

- ``hand-written``: a plain PyTorch loop as a careful person writes it: encoder once before the
  loop, ``nn.LSTMCell``, memory and posterior in it, decoder once after it (and the prior, with
  ``--posterior direct``), the KL in closed form.
- ``naive pair``: a Pyro model and guide as the tutorials teach them: two functions, each with its
  own loop, every network called in every step, ``pyro.optim.ClippedAdam``; once with Pyro's
  validation off and once with it on, which is Pyro's default.
- ``stacked``, ``per step``: this library's two site layouts, as trained by ``examples/train.py``.

The contestants take turns, one step each, and the table gives the median of each and the median of
the ratios to the hand-written step of the same turn.  Absolute times say more about the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import pyro_gtm as gtm

EVENT = (1, 28, 28)
REFERENCE = "hand-written"
Step = Callable[[Tensor], float]
Pair = tuple[Tensor, Tensor]
Times = dict[str, list[float]]


class Networks(nn.Module):
    """The networks of the comparison, written with ``torch.nn`` alone."""

    def __init__(
        self,
        memory: str,
        corrects: bool,
        latent: int,
        width: int,
        hidden: int,
        slots: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.corrects = corrects
        self.latent, self.slots, self.heads, self.hidden_dim = latent, slots, heads, hidden
        self.attends = memory == "introspective"
        context = heads * latent if self.attends else hidden
        self.encoder = nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width))
        self.cell = nn.LSTMCell(latent, hidden)
        self.interface = nn.Linear(hidden, heads * (slots + latent)) if self.attends else None
        self.prior = nn.Sequential(
            nn.Linear(context, width), nn.ReLU(), nn.Linear(width, 2 * latent)
        )
        self.posterior_in = nn.Linear(context, width)
        self.posterior_out = nn.Linear(width, 2 * latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent + context, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 784),
        )

    def start(self, batch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h = torch.zeros(batch, self.hidden_dim)
        buffer = torch.zeros(batch, self.slots, self.latent)
        return h, torch.zeros_like(h), buffer, torch.zeros(batch, self.latent)

    def read(
        self, h: Tensor, c: Tensor, buffer: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, c = self.cell(z, (h, c))
        if self.interface is None:
            return h, h, c, buffer
        buffer = torch.cat([z.unsqueeze(1), buffer[:, :-1]], 1)
        logits, gates = (
            self.interface(h).view(len(h), self.heads, -1).split([self.slots, self.latent], -1)
        )
        reads = torch.bmm(logits.softmax(-1), buffer) * gates.sigmoid()
        return reads.flatten(1), h, c, buffer

    def infer(self, features: Tensor, context: Tensor) -> Pair:
        loc, raw = self.posterior_out((features + self.posterior_in(context)).relu()).chunk(2, -1)
        return loc, F.softplus(raw) + 1e-4

    def correct(self, prior: Pair, correction: Pair) -> Pair:
        return prior[0] + correction[0], (prior[1] * correction[1]).clamp(min=1e-4)

    def predict(self, context: Tensor) -> Pair:
        loc, raw = self.prior(context).chunk(2, -1)
        return loc, F.softplus(raw) + 1e-4

    def decode(self, z: Tensor, context: Tensor) -> Tensor:
        return self.decoder(torch.cat([z, context], -1))


def hand_written(networks: Networks) -> Step:
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-3, fused=True)

    def step(frames: Tensor) -> float:
        frames = frames.flatten(2)  # (T, B, 784)
        features = networks.encoder(frames)
        h, c, buffer, z = networks.start(frames.shape[1])
        contexts, latents, posteriors, priors = [], [], [], []
        for feature in features:
            context, h, c, buffer = networks.read(h, c, buffer, z)
            loc, scale = networks.infer(feature, context)
            if networks.corrects:
                priors.append(networks.predict(context))
                loc, scale = networks.correct(priors[-1], (loc, scale))
            z = loc + scale * torch.randn_like(scale)
            contexts.append(context)
            latents.append(z)
            posteriors.append((loc, scale))
        contexts_, latents_ = torch.stack(contexts), torch.stack(latents)
        posterior = Normal(*map(torch.stack, zip(*posteriors, strict=True)), validate_args=False)
        parameters = (
            map(torch.stack, zip(*priors, strict=True)) if priors else networks.predict(contexts_)
        )
        prior = Normal(*parameters, validate_args=False)
        logits = networks.decode(latents_, contexts_)
        reconstruction = F.binary_cross_entropy_with_logits(logits, frames, reduction="sum")
        loss = reconstruction + kl_divergence(posterior, prior).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 10.0)
        optimizer.step()
        return loss.item()

    return step


def naive_pair(networks: Networks, validation: bool, name: str) -> Step:
    def model(frames: Tensor) -> None:
        pyro.module(name, networks)
        state = networks.start(frames.shape[1])
        with pyro.plate("sequences", frames.shape[1]):
            for t in range(len(frames)):
                context, h, c, buffer = networks.read(*state)
                z = pyro.sample(f"z_{t}", dist.Normal(*networks.predict(context)).to_event(1))
                logits = networks.decode(z, context)
                pyro.sample(f"x_{t}", dist.Bernoulli(logits=logits).to_event(1), obs=frames[t])
                state = (h, c, buffer, z)

    def guide(frames: Tensor) -> None:
        pyro.module(name, networks)
        state = networks.start(frames.shape[1])
        with pyro.plate("sequences", frames.shape[1]):
            for t in range(len(frames)):
                context, h, c, buffer = networks.read(*state)
                q = networks.infer(networks.encoder(frames[t]), context)
                if networks.corrects:
                    q = networks.correct(networks.predict(context), q)
                z = pyro.sample(f"z_{t}", dist.Normal(*q).to_event(1))
                state = (h, c, buffer, z)

    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 1e-3, "clip_norm": 10.0}), Trace_ELBO())

    def step(frames: Tensor) -> float:
        with pyro.validation_enabled(validation):
            return float(svi.step(frames.flatten(2)))

    return step


def product(name: str, layout: str, networks: Networks, width: int) -> tuple[Step, int]:
    options: dict[str, int] = {"latent_dim": networks.latent, "hidden_dim": networks.hidden_dim}
    if networks.attends:
        options.update(slots=networks.slots, heads=networks.heads)
    memory = gtm.make_memory(name, **options)
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=networks.latent,
        encoder=gtm.MLPEncoder(EVENT, width, feature_dim=width),
        decoder=gtm.MLPDecoder(networks.latent + memory.context_dim, width, EVENT),
        likelihood=gtm.Bernoulli(EVENT),
        posterior="correction" if networks.corrects else "direct",
        name=f"program, {layout}",
    ).with_layout("stacked" if layout == "stacked" else "per_step")
    model = gtm.use_memory(memory, name=f"memory, {layout}")(program.model)
    guide = gtm.FilteringGuide(model, program)
    svi = SVI(model, guide, gtm.optim.Adam(lr=1e-3, clip_norm=10.0), Trace_ELBO())

    def step(frames: Tensor) -> float:
        with pyro.validation_enabled(False):
            return float(svi.step(frames))

    return step, sum(p.numel() for module in (program, memory) for p in module.parameters())


def time_in_turns(contestants: dict[str, Step], draw: Callable[[], Tensor], turns: int) -> Times:
    """Seconds of every step: all contestants one step each, ``turns`` times, after two to warm."""
    times: Times = {name: [] for name in contestants}
    for turn in range(-2, turns):
        frames = draw()
        for name, step in contestants.items():
            begun = time.perf_counter()
            step(frames)
            if turn >= 0:
                times[name].append(time.perf_counter() - begun)
    return times


@click.command(context_settings={"show_default": True})
@click.option("--memory", type=click.Choice(["introspective", "vrnn"]), default="introspective")
@click.option("--posterior", type=click.Choice(["correction", "direct"]), default="correction")
@click.option("-T", "--num-steps", type=click.IntRange(1), default=20, help="Frames in a sequence.")
@click.option("-b", "--batch-size", type=click.IntRange(1), default=32)
@click.option("--width", type=click.IntRange(1), default=400, help="Of the MLPs.")
@click.option("--hidden-dim", type=click.IntRange(1), default=128, help="Of the LSTM.")
@click.option("--latent-dim", type=click.IntRange(1), default=32)
@click.option("--heads", type=click.IntRange(1), default=3)
@click.option("--turns", type=click.IntRange(1), default=40, help="Steps of each contestant.")
def main(
    memory: str,
    posterior: str,
    num_steps: int,
    batch_size: int,
    width: int,
    hidden_dim: int,
    latent_dim: int,
    heads: int,
    turns: int,
) -> None:
    """Time one gradient step of each contestant, in turns, on the CPU."""
    pyro.set_rng_seed(0)

    def networks() -> Networks:
        corrects = posterior == "correction"
        return Networks(memory, corrects, latent_dim, width, hidden_dim, num_steps, heads)

    stacked, parameters = product(memory, "stacked", networks(), width)
    per_step, _ = product(memory, "per step", networks(), width)
    contestants = {
        REFERENCE: hand_written(networks()),
        "stacked": stacked,
        "per step": per_step,
    }
    for label, validation in (("naive pair", False), ("naive pair, validated", True)):
        contestants[label] = naive_pair(networks(), validation, label)
    times = time_in_turns(
        contestants, lambda: (torch.rand(num_steps, batch_size, *EVENT) > 0.8).float(), turns
    )

    click.echo(
        f"{memory}, posterior {posterior}: T={num_steps}, B={batch_size}, "
        f"{parameters:,} parameters, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}, {turns} turns"
    )
    click.echo(f"{'':24}{'ms a step':>10}{'to hand-written':>18}{'to naive pair':>16}")
    for name, seconds in times.items():
        to_reference = ratio(seconds, times[REFERENCE])
        to_naive = ratio(seconds, times["naive pair"])
        median = 1e3 * statistics.median(seconds)
        click.echo(f"{name:24}{median:10.1f}{to_reference:18.2f}{to_naive:16.2f}")


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios turn by turn, which a drift of the machine leaves alone."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
