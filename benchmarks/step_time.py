"""How long is a gradient step, against hand-written PyTorch and a naive Pyro pair?

    python benchmarks/step_time.py
    python benchmarks/step_time.py --memory vrnn --memory ntm --num-steps 25 --batch-size 16

Contestants, all with the same sizes of network, the same weights at first, the same batch, Adam and
a gradient clip:

- ``hand-written``: a plain PyTorch loop as a careful person writes it (``benchmarks/handwritten``):
  encoder once before the loop, ``nn.LSTMCell``, memory and posterior in it, decoder once after it
  (and the prior, with ``--posterior direct``), the KL in closed form.  A test holds its loss and
  its gradients to be the library's.
- ``naive pair``: a Pyro model and guide as the tutorials teach them: two functions, each with its
  own loop, every network called in every step, ``pyro.optim.ClippedAdam``; once with Pyro's
  validation off and once with it on, which is Pyro's default.  Its memory is the hand-written one.
- ``stacked``, ``per step``: this library's two site layouts, as trained by ``examples/train.py``.

The contestants take turns, one step each, and the table gives the median of each and the median of
the ratios to the hand-written step of the same turn.  Absolute times say more about the machine.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import click
import pyro
import pyro.distributions as dist
import torch
from handwritten import MEMORIES, Networks, negative_bound
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

import pyro_gtm as gtm

EVENT = (1, 28, 28)
PIXELS = 784
REFERENCE = "hand-written"
PAIR = "naive pair"
Step = Callable[[Tensor], float]
Times = dict[str, list[float]]


class Sizes(NamedTuple):
    """Of every contestant."""

    latent: int
    width: int
    hidden: int
    slots: int
    heads: int


class Product(NamedTuple):
    """A program of this library, and its memory."""

    program: gtm.GenerativeTemporalModel
    memory: gtm.MemoryModule

    def weights(self) -> dict[str, Tensor]:
        modules = nn.ModuleDict({"program": self.program, "memory": self.memory})
        return dict(modules.named_parameters())


def build_product(name: str, corrects: bool, sizes: Sizes) -> Product:
    options: dict[str, int] = {"latent_dim": sizes.latent, "hidden_dim": sizes.hidden}
    if name != "vrnn":
        options.update(slots=sizes.slots, heads=sizes.heads)
    memory = gtm.make_memory(name, **options)
    program = gtm.GenerativeTemporalModel(
        context_dim=memory.context_dim,
        latent_dim=sizes.latent,
        encoder=gtm.MLPEncoder(EVENT, sizes.width, feature_dim=sizes.width),
        decoder=gtm.MLPDecoder(sizes.latent + memory.context_dim, sizes.width, EVENT),
        likelihood=gtm.Bernoulli(EVENT),
        posterior="correction" if corrects else "direct",
    )
    return Product(program, memory)


def build_networks(name: str, corrects: bool, sizes: Sizes) -> Networks:
    return Networks(name, corrects=corrects, pixels=PIXELS, **sizes._asdict())


RENAMED = {  # beginnings of names, and what stands for them in the hand-written networks
    "program.encoder.layers.": "encoder.",
    "program.prior_head.hidden.": "prior.0.",
    "program.prior_head.parameters_of.": "prior.2.",
    "program.posterior_head.hidden.": "posterior_in.",
    "program.posterior_head.parameters_of.": "posterior_out.",
    "program.decoder.layers.": "decoder.",
    "memory.interface.": "memory.interface.",
    "memory.read_starts.logits": "memory.starts",
}


def as_hand_written(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of :class:`Product`, or their gradients, by the names of the hand-written networks.

    All but ``memory.cell.bias_hh``: ``nn.LSTMCell`` has two biases where the library has one.
    """
    renamed = {}
    for name, tensor in weights.items():
        if name == "memory.controller.gates.weight":
            hidden = len(tensor) // 4
            renamed["memory.cell.weight_ih"] = tensor[:, :-hidden]
            renamed["memory.cell.weight_hh"] = tensor[:, -hidden:]
        elif name == "memory.controller.gates.bias":
            renamed["memory.cell.bias_ih"] = tensor
        else:
            (ours,) = (beginning for beginning in RENAMED if name.startswith(beginning))
            renamed[RENAMED[ours] + name.removeprefix(ours)] = tensor
    return renamed


def copy_weights(product: Product, networks: Networks) -> None:
    """Make the hand-written networks compute what the library's do."""
    weights = as_hand_written(product.weights())
    weights["memory.cell.bias_hh"] = torch.zeros_like(weights["memory.cell.bias_ih"])
    networks.load_state_dict(weights)


def hand_written(networks: Networks) -> Step:
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-3, fused=True)

    def step(frames: Tensor) -> float:
        loss = negative_bound(networks, frames.flatten(2))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 10.0)
        optimizer.step()
        return loss.item()

    return step


def naive_pair(networks: Networks, validation: bool, name: str) -> Step:
    def model(frames: Tensor) -> None:
        pyro.module(name, networks)
        state = networks.memory.start(frames.shape[1])
        z = frames.new_zeros(frames.shape[1], networks.latent)
        with pyro.plate("sequences", frames.shape[1]):
            for t in range(len(frames)):
                context, state = networks.memory(state, z)
                z = pyro.sample(f"z_{t}", dist.Normal(*networks.predict(context)).to_event(1))
                logits = networks.decode(z, context)
                pyro.sample(f"x_{t}", dist.Bernoulli(logits=logits).to_event(1), obs=frames[t])

    def guide(frames: Tensor) -> None:
        pyro.module(name, networks)
        state = networks.memory.start(frames.shape[1])
        z = frames.new_zeros(frames.shape[1], networks.latent)
        with pyro.plate("sequences", frames.shape[1]):
            for t in range(len(frames)):
                context, state = networks.memory(state, z)
                q = networks.infer(networks.encoder(frames[t]), context)
                if networks.corrects:
                    q = networks.correct(networks.predict(context), q)
                z = pyro.sample(f"z_{t}", dist.Normal(*q).to_event(1))

    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 1e-3, "clip_norm": 10.0}), Trace_ELBO())

    def step(frames: Tensor) -> float:
        with pyro.validation_enabled(validation):
            return float(svi.step(frames.flatten(2)))

    return step


def library(product: Product, layout: str) -> Step:
    """A step of this library; ``layout`` as :class:`gtm.GenerativeTemporalModel` names it."""
    program = product.program.with_layout(layout)
    program.name = f"program, {layout}"  # each contestant has an optimiser's state of its own
    model = gtm.use_memory(product.memory, name=f"memory, {layout}")(program.model)
    guide = gtm.FilteringGuide(model, program)
    svi = SVI(model, guide, gtm.optim.Adam(lr=1e-3, clip_norm=10.0), Trace_ELBO())

    def step(frames: Tensor) -> float:
        with pyro.validation_enabled(False):
            return float(svi.step(frames))

    return step


def build_contestants(name: str, corrects: bool, sizes: Sizes) -> dict[str, Step]:
    """All contestants for one memory, each with its copy of the same weights."""

    def networks() -> Networks:
        own = build_networks(name, corrects, sizes)
        copy_weights(product, own)
        return own

    product = build_product(name, corrects, sizes)
    return {
        REFERENCE: hand_written(networks()),
        "stacked": library(copy.deepcopy(product), "stacked"),
        "per step": library(copy.deepcopy(product), "per_step"),
        PAIR: naive_pair(networks(), False, PAIR),
        f"{PAIR}, validated": naive_pair(networks(), True, f"{PAIR}, validated"),
    }


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


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios turn by turn, which a drift of the machine leaves alone."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def table(name: str, times: Times) -> str:
    lines = []
    for contestant, seconds in times.items():
        to_reference = ratio(seconds, times[REFERENCE])
        to_naive = ratio(seconds, times[PAIR])
        median = 1e3 * statistics.median(seconds)
        lines.append(f"{name:15}{contestant:24}{median:10.1f}{to_reference:18.2f}{to_naive:16.2f}")
        name = ""
    return "\n".join(lines)


def refuse_strangers(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> list[str]:
    """The memories asked for, once each, if all have something to be compared with."""
    for name in names:
        if name not in MEMORIES:
            raise click.BadParameter(
                f"{name!r} has no hand-written counterpart to be timed against; "
                f"those that have: {', '.join(MEMORIES)}."
            )
    return list(dict.fromkeys(names))


@click.command(
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--memory",
    "memories",
    multiple=True,
    default=[name for name in gtm.memory_names() if name in MEMORIES],
    callback=refuse_strangers,
    help="May be given more than once.",
)
@click.option("--posterior", type=click.Choice(["correction", "direct"]), default="correction")
@click.option("-T", "--num-steps", type=click.IntRange(1), default=20, help="Frames in a sequence.")
@click.option("-b", "--batch-size", type=click.IntRange(1), default=32)
@click.option("--width", type=click.IntRange(1), default=400, help="Of the MLPs.")
@click.option("--hidden-dim", type=click.IntRange(1), default=128, help="Of the LSTM.")
@click.option("--latent-dim", type=click.IntRange(1), default=32)
@click.option("--slots", type=click.IntRange(1), show_default="frames in a sequence")
@click.option("--heads", type=click.IntRange(1), default=3)
@click.option("--turns", type=click.IntRange(1), default=40, help="Steps of each contestant.")
def main(
    memories: list[str],
    posterior: str,
    num_steps: int,
    batch_size: int,
    width: int,
    hidden_dim: int,
    latent_dim: int,
    slots: int | None,
    heads: int,
    turns: int,
) -> None:
    """Time one gradient step of each contestant, in turns, on the CPU."""
    corrects = posterior == "correction"
    sizes = Sizes(latent_dim, width, hidden_dim, num_steps if slots is None else slots, heads)
    try:
        for name in memories:
            build_product(name, corrects, sizes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(
        f"posterior {posterior}: T={num_steps}, B={batch_size}, {sizes.slots} slots, "
        f"{heads} heads, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"{turns} turns"
    )
    click.echo(f"{'':39}{'ms a step':>10}{'to hand-written':>18}{'to naive pair':>16}")
    for name in memories:
        pyro.set_rng_seed(0)
        pyro.clear_param_store()
        times = time_in_turns(
            build_contestants(name, corrects, sizes),
            lambda: (torch.rand(num_steps, batch_size, *EVENT) > 0.8).float(),
            turns,
        )
        click.echo(table(name, times))


if __name__ == "__main__":
    main()
