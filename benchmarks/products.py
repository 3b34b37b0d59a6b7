"""Which library multiplies faster on this machine: the products of some layers, by MKL and oneDNN.

    python benchmarks/products.py
    python benchmarks/products.py --threads 2

For each layer, the rates in float32 of the product that makes its values, of the gradient of its
inputs and of that of its weight, in thousand million operations a second (two for each
multiply-add), by PyTorch's own products (MKL, where it has it) and by oneDNN's, in turns; then how
long the layer takes there and back through oneDNN, of what it takes otherwise; and the greatest
relative difference of the three results.  The first two layers are the encoder's first and the
decoder's last, of 640 frames at once, the others an LSTM's of one step.  ``--products auto`` sends
through oneDNN what is large enough, and only where that is faster: the last line says what it
chooses here.

The clock is that of the thread, which other processes disturb least; of each product the best turn
counts.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import NamedTuple

import click
import torch
from torch import Tensor
from torch.nn import functional as F

from common.command_line import command, size_option
from pyro_gtm.internals.products import (
    SMALLEST,
    onednn_linear,
    set_products,
    why_not_onednn,
)

LAYERS = [(640, 784, 400), (640, 400, 784), (32, 160, 512), (32, 128, 256)]
"""Rows, inputs and outputs."""

BACKENDS: dict[str, Callable[..., Tensor]] = {"mkl": F.linear, "onednn": onednn_linear}
PARTS = ["values", "of inputs", "of weight"]


class Timing(NamedTuple):
    """Of a layer through one library."""

    seconds: list[float]
    """The best of each of ``PARTS``."""
    results: list[Tensor]


def time_layer(rows: int, inputs: int, outputs: int, turns: int) -> dict[str, Timing]:
    """A layer by each library, in turns."""
    given, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    weighing = torch.randn(rows, outputs)
    timings = {name: Timing([float("inf")] * len(PARTS), []) for name in BACKENDS}
    for _ in range(turns):
        for name, layer in BACKENDS.items():
            seconds, results = timings[name]
            results.clear()
            for part, work in enumerate(parts(layer, given, weight, weighing)):
                begun = time.thread_time()
                result = work()
                seconds[part] = min(seconds[part], time.thread_time() - begun)
                results.append(result)
    return timings


def parts(
    layer: Callable[..., Tensor], given: Tensor, weight: Tensor, weighing: Tensor
) -> list[Callable[[], Tensor]]:
    """What makes each of ``PARTS``."""
    of_given, of_weight = (tensor.clone().requires_grad_() for tensor in (given, weight))
    by_given, by_weight = layer(of_given, weight), layer(given, of_weight)
    return [
        lambda: layer(given, weight),
        lambda: torch.autograd.grad(by_given, of_given, weighing)[0],
        lambda: torch.autograd.grad(by_weight, of_weight, weighing)[0],
    ]


def line(rows: int, inputs: int, outputs: int, timings: dict[str, Timing]) -> str:
    """A layer's line of the table."""
    own, onednn = timings["mkl"], timings["onednn"]
    operations = 2e-9 * rows * inputs * outputs
    rates = "".join(f"{operations / s:11.0f}" for s in [*own.seconds, *onednn.seconds])
    pairs = zip(onednn.results, own.results, strict=True)
    difference = max(float((one - other).norm() / other.norm()) for one, other in pairs)
    layer = f"({rows} x {inputs}) ({inputs} x {outputs})"
    through = "yes" if rows * inputs * outputs >= SMALLEST else "no"
    taken = sum(onednn.seconds) / sum(own.seconds)
    return f"{layer:26}{rates}{taken:10.2f}{difference:12.0e}{through:>14}"


@command()
@size_option("--threads", default=1, help="CPU threads.")
@size_option("--turns", default=100, help="Of each product by each library.")
def main(threads: int, turns: int) -> None:
    """Time the products of linear layers by each library."""
    if reason := why_not_onednn():
        click.echo(f"There is nothing to compare: {reason}.")
        return
    torch.set_num_threads(threads)
    capability = torch.backends.cpu.get_cpu_capability()
    click.echo(
        f"{platform.machine()} ({capability}), {threads} thread(s), PyTorch {torch.__version__}, "
        f"{turns} turns; G operations a second"
    )
    click.echo(f"{'':26}{'mkl':>11}{'':22}{'onednn':>11}")
    click.echo(
        f"{'':26}"
        + "".join(f"{part:>11}" for part in 2 * PARTS)
        + f"{'to mkl':>10}{'difference':>12}{'large enough':>14}"
    )
    for layer in LAYERS:
        click.echo(line(*layer, time_layer(*layer, turns)))
    choice = set_products("auto")
    click.echo(f"--products auto: {choice.backend}, {choice.reason}")


if __name__ == "__main__":
    main()
