"""A gradient step of each contestant in PyTorch.

A setting of the library is a function of a program and its memory to a step, in ``SETTINGS``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from handwritten import Networks, negative_bound
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

import pyro_gtm as gtm
from contestants.measure import Step, TorchContestant
from contestants.models import Product

REFERENCE = "hand-written"
PAIR = "naive pair"
SCAN = "XLA scan"

Setting = Callable[[gtm.GenerativeTemporalModel, gtm.MemoryModule], Step]


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


def by_svi(
    program: gtm.GenerativeTemporalModel,
    memory: gtm.MemoryModule,
    *,
    layout: gtm.model.Layout = "stacked",
    precision: gtm.model.Precision = "float32",
    compile_steps: int = 0,
) -> Step:
    """SVI and the filtering guide, with settings of the library by the names they have there."""
    program = program.with_layout(layout)
    program.precision = precision
    model = _with_memory(program, memory, gtm.Unrolling(compile_steps=compile_steps))
    guide = gtm.FilteringGuide(model, program)
    optimizer = gtm.optim.Adam(lr=1e-3, clip_norm=10.0)
    svi = SVI(model, guide, optimizer, gtm.DeviceTrace_ELBO())

    def step(frames: Tensor) -> float:
        with pyro.validation_enabled(False):
            return float(svi.step(frames))

    return step


def captured(program: gtm.GenerativeTemporalModel, memory: gtm.MemoryModule) -> Step:
    """The whole step as a CUDA graph; frames are copied to where the graph has them."""
    model = _with_memory(program, memory, gtm.Unrolling())
    guide = gtm.FilteringGuide(model, program)
    optimizer = gtm.optim.Adam(lr=1e-3, clip_norm=10.0)
    device = next(program.parameters()).device
    svi = gtm.CapturedSVI(
        model, guide, optimizer, gtm.DeviceTrace_ELBO(), device=device, read_every=1
    )
    held: list[Tensor] = []
    steps = gtm.training_steps(svi, lambda: (held[0], None), num_steps=2**62)

    def step(frames: Tensor) -> float:
        if held:
            held[0].copy_(frames)
        else:
            held.append(frames.clone())
        return next(steps)[1]

    return step


def _with_memory(
    program: gtm.GenerativeTemporalModel, memory: gtm.MemoryModule, unrolling: gtm.Unrolling
) -> Callable[..., Tensor]:
    handler = gtm.use_memory(memory, name=f"memory of {program.name}", unrolling=unrolling)
    return handler(program.model)


SETTINGS: dict[str, Setting] = {
    "stacked": by_svi,
    "per step": partial(by_svi, layout="per_step"),
    "bfloat16": partial(by_svi, precision="bfloat16"),
    "compiled, 5": partial(by_svi, compile_steps=5),
    "compiled, 20": partial(by_svi, compile_steps=20),
    "compiled, 20, bfloat16": partial(by_svi, compile_steps=20, precision="bfloat16"),
    "captured": captured,
}
"""The library's, by their names in the table."""

ASKED_FOR = [label for label in SETTINGS if label.startswith("compiled")]
"""Those that take minutes to begin, and run where they are asked for only."""

NAMES = [REFERENCE, SCAN, *SETTINGS, PAIR, f"{PAIR}, validated"]
"""Of all contestants, in the order of the table."""


def library(product: Product, label: str, setting: Setting) -> TorchContestant:
    """A contestant of this library; it trains the weights of ``product``.

    Args:
        product: what is trained.
        label: tells it from others in Pyro's parameter store.
        setting: makes the step of a program and a memory.
    """
    product.program.name = label
    return TorchContestant(setting(product.program, product.memory), product.modules())


def in_pytorch(label: str, product: Product, networks: Networks) -> TorchContestant:
    """One of ``NAMES``, but for the one in JAX, with a copy of these weights, on their device."""
    if label in SETTINGS:
        return library(copy.deepcopy(product), label, SETTINGS[label])
    networks = copy.deepcopy(networks)
    if label == REFERENCE:
        return TorchContestant(hand_written(networks), networks)
    return TorchContestant(naive_pair(networks, label != PAIR, label), networks)
