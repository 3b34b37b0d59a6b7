"""Where the time of a step of this library goes, by part and by operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

import pyro_gtm as gtm
from contestants.measure import Contestant
from contestants.models import Product

PREFIX = "part: "
REST = "rest: Pyro, sampling, bound"
BACKWARD = "autograd::engine::evaluate_function"
ENGINE = "backward of the rest, and autograd"
STEPS = 5


class Part(NamedTuple):
    """Mean milliseconds of one step."""

    name: str
    operators: float
    """In PyTorch's operators and in autograd, on the CPU."""
    between: float
    """Between them: Python, and what it costs to call them."""
    device: float
    """In CUDA's kernels."""
    calls: float
    """Of operators, those that operators call included."""


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def inside(*arguments: Any, **options: Any) -> Any:
        with record_function(PREFIX + name):
            return function(*arguments, **options)

    return inside


@contextmanager
def parts_named(product: Product) -> Iterator[None]:
    """While inside, the parts of the product tell the profiler when they run."""
    program, memory = product
    pieces: list[tuple[Any, str, str]] = [
        (program.encoder, "forward", "encoder"),
        (memory, "step", "memory: addressing"),
        (memory.controller, "forward", "memory: controller"),
        (program.prior_head, "forward", "prior head"),
        (program.posterior_head, "forward", "posterior head"),
        (program.decoder, "forward", "decoder"),
        (torch.distributions.Bernoulli, "log_prob", "likelihood"),
        (torch.distributions.Normal, "log_prob", "densities of the latents"),
        (gtm.optim.Adam, "__call__", "optimiser, with the clip"),
    ]
    if hasattr(memory, "interface"):
        pieces.append((memory.interface, "forward", "memory: interface"))
    with ExitStack() as stack:
        for owner, attribute, name in pieces:
            stack.enter_context(
                patch.object(owner, attribute, named(name, getattr(owner, attribute)))
            )
        yield


def ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """The event itself, and what it happened in, from the inside out."""
    walked: FunctionEvent | None = event
    while walked is not None:
        yield walked
        walked = walked.cpu_parent


def forward_part(event: FunctionEvent) -> str:
    for around in ancestors(event):
        if around.name.startswith(PREFIX):
            return around.name.removeprefix(PREFIX)
    return REST


def backward_of(event: FunctionEvent) -> FunctionEvent | None:
    """The node of autograd that the event is part of the work of."""
    for around in ancestors(event):
        if around.name.startswith(BACKWARD):
            return around
    return None


def sort_into_parts(events: Sequence[FunctionEvent]) -> list[tuple[FunctionEvent, str]]:
    """Each event with its part; a part's backward is found by the number of its node.

    An operator gets the number of the next node to be made, so a node's maker is the last operator
    with its number.
    """
    makers: dict[int, str] = {}
    nodes = [backward_of(event) for event in events]
    forward = [event for event, node in zip(events, nodes, strict=True) if node is None]
    for event in sorted(forward, key=lambda event: event.time_range.start):
        if event.sequence_nr >= 0:
            makers[event.sequence_nr] = forward_part(event)

    def part(event: FunctionEvent, node: FunctionEvent | None) -> str:
        if node is None:
            return forward_part(event)
        maker = makers.get(node.sequence_nr, REST)
        return ENGINE if maker == REST else f"backward of {maker}"

    return [(event, part(event, node)) for event, node in zip(events, nodes, strict=True)]


def is_range(event: FunctionEvent) -> bool:
    """Whether its own time is Python's."""
    return event.name.startswith((PREFIX, "Optimizer.", "ProfilerStep"))


def by_part(sorted_events: Iterable[tuple[FunctionEvent, str]], steps: int) -> list[Part]:
    """Parts by their time, the longest first."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for event, part in sorted_events:
        total = sums[part]
        total[1 if is_range(event) else 0] += event.self_cpu_time_total / 1e3
        total[2] += event.self_device_time_total / 1e3
        total[3] += not is_range(event)
    parts = [Part(name, *(value / steps for value in total)) for name, total in sums.items()]
    return sorted(parts, key=lambda part: -part.operators - part.between)


def by_operator(sorted_events: Iterable[tuple[FunctionEvent, str]], steps: int) -> list[Part]:
    """Operators by their own time, the longest first, wherever they are called."""
    return by_part(
        ((event, event.name) for event, _ in sorted_events if not is_range(event)), steps
    )


def record(product: Product, contestant: Contestant, batch: Any) -> list[FunctionEvent]:
    """Of ``STEPS`` steps, as they go with the profiler on."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with parts_named(product):
        contestant.step(batch)
        with profile(activities=activities) as profiler:
            for _ in range(STEPS):
                with record_function(PREFIX + REST):
                    contestant.step(batch)
    return [event for event in profiler.events() if event.device_type.name == "CPU"]
