"""A gradient step of each contestant in PyTorch.

A setting of the library is a function of a program and its memory to a step, in ``SETTINGS``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

import pyro_gtm as gtm
from contestants.models import Product
from contestants.turns import Step, TorchContestant
from handwritten import Networks, negative_elbo
from pyro_gtm.infer import CapturedSVI, DeviceTrace_ELBO, training_steps
from pyro_gtm.internals.products import Products, through

REFERENCE = "hand-written"
STACKED = "stacked"
CAPTURED = "captured"
PAIR = "naive pair"
SCAN = "XLA scan"

Setting = Callable[[gtm.GenerativeTemporalModel, gtm.MemoryModule], Step]


def hand_written(networks: Networks) -> Step:
    optimizer = torch.optim.Adam(networks.parameters(), lr=1e-3, fused=True)

    def step(frames: Tensor) -> float:
        loss = negative_elbo(networks, frames.flatten(2))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 10.0)
        optimizer.step()
        return loss.item()

    return step


def svi_step(svi: SVI, validation: bool = False) -> Step:
    def step(frames: Tensor) -> float:
        with pyro.validation_enabled(validation):
            return float(svi.step(frames))

    return step


def naive_pair(networks: Networks, validation: bool, name: str) -> Step:
    """A model and a guide as the tutorials teach them, each with its own loop."""

    def unroll(frames: Tensor, draw: Callable[[int, Tensor, Tensor], Tensor]) -> None:
        pyro.module(name, networks)
        with pyro.plate("sequences", frames.shape[1]):
            networks.unroll(frames.flatten(2), draw)

    def model(frames: Tensor) -> None:
        def draw(t: int, frame: Tensor, context: Tensor) -> Tensor:
            z: Tensor = pyro.sample(f"z_{t}", dist.Normal(*networks.predict(context)).to_event(1))
            logits = networks.decode(z, context)
            pyro.sample(f"x_{t}", dist.Bernoulli(logits=logits).to_event(1), obs=frame)
            return z

        unroll(frames, draw)

    def guide(frames: Tensor) -> None:
        def draw(t: int, frame: Tensor, context: Tensor) -> Tensor:
            posterior, _ = networks.infer(networks.encoder(frame), context)
            z: Tensor = pyro.sample(f"z_{t}", dist.Normal(*posterior).to_event(1))
            return z

        unroll(frames, draw)

    optimizer = pyro.optim.ClippedAdam({"lr": 1e-3, "clip_norm": 10.0})
    return svi_step(SVI(model, guide, optimizer, Trace_ELBO()), validation)


def make_svi(
    kind: Callable[..., SVI],
    program: gtm.GenerativeTemporalModel,
    memory: gtm.MemoryModule,
    *,
    unrolling: gtm.Unrolling | None = None,
    **options: Any,
) -> SVI:
    name = f"memory of {program.name}"
    unrolling = unrolling or gtm.Unrolling()
    model = gtm.use_memory(memory, name=name, unrolling=unrolling)(program.model)
    guide = gtm.FilteringGuide(model)
    optimizer = gtm.infer.FusedAdam(lr=1e-3, clip_norm=10.0)
    return kind(model, guide, optimizer, DeviceTrace_ELBO(), **options)


def by_svi(
    program: gtm.GenerativeTemporalModel,
    memory: gtm.MemoryModule,
    *,
    layout: gtm.model.Layout = "stacked",
    precision: gtm.model.Precision = "float32",
    products: Products = "mkl",
    **unrolling: int,
) -> Step:
    """SVI and the filtering guide, with settings of the library by the names they have there."""
    program = program.with_layout(layout)
    program.precision = precision
    # As train.py, which has the decoder checkpointed in the same blocks.
    program.checkpoint_every = unrolling.get("checkpoint_every", 0)
    step = svi_step(make_svi(SVI, program, memory, unrolling=gtm.Unrolling(**unrolling)))
    return through(products)(step)


def captured(
    program: gtm.GenerativeTemporalModel, memory: gtm.MemoryModule, **unrolling: int
) -> Step:
    """The whole step as a CUDA graph; frames are copied to where the graph has them."""
    device = next(program.parameters()).device
    settings = gtm.Unrolling(**unrolling)
    svi = make_svi(CapturedSVI, program, memory, unrolling=settings, device=device, read_every=1)
    held: list[Tensor] = []
    steps = training_steps(svi, lambda: (held[0], None), num_steps=2**62)

    def step(frames: Tensor) -> float:
        if held:
            held[0].copy_(frames)
        else:
            held.append(frames.clone())
        return next(steps)[1]

    return step


SETTINGS: dict[str, Setting] = {
    STACKED: by_svi,
    "per step": partial(by_svi, layout="per_step"),
    "oneDNN": partial(by_svi, products="onednn"),
    "bfloat16": partial(by_svi, precision="bfloat16"),
    "compiled, 4": partial(by_svi, compile_steps=4),
    "compiled, 20": partial(by_svi, compile_steps=20),
    "compiled, 20, bfloat16": partial(by_svi, compile_steps=20, precision="bfloat16"),
    "checkpointed, 32": partial(by_svi, checkpoint_every=32),
    CAPTURED: captured,
    f"{CAPTURED}, compiled, 5": partial(captured, compile_steps=5),
}
"""The library's, by their names in the table."""

ASKED_FOR = [
    label
    for label in SETTINGS
    if any(word in label for word in ("compiled", "checkpointed", "oneDNN"))
]
"""Those that take minutes to begin, are for long sequences or for some processors; they run where
asked for only."""

NAMES = [REFERENCE, SCAN, *SETTINGS, PAIR, f"{PAIR}, validated"]
"""Of all contestants, in the order of the table."""


def in_pytorch(label: str, product: Product, networks: Networks) -> TorchContestant:
    """One of ``NAMES``, but for the one in JAX, with a copy of these weights, on their device."""
    if label in SETTINGS:
        product = copy.deepcopy(product)
        product.program.name = label  # tells it from others in Pyro's parameter store
        return TorchContestant(SETTINGS[label](product.program, product.memory), product.modules())
    networks = copy.deepcopy(networks)
    if label == REFERENCE:
        return TorchContestant(hand_written(networks), networks)
    return TorchContestant(naive_pair(networks, label != PAIR, label), networks)
