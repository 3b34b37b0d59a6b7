"""A training step that is captured once as a CUDA graph and then replayed.

A small model's step is thousands of short kernels, and launching them from Python takes far longer
than running them.  A replay launches all of them at once.  For that the step must be one function
of tensors that stay where they are and must never wait for the device: see :class:`DeviceStep`.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, cast

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.poutine import Trace
from pyro.poutine.trace_messenger import TraceMessenger

from pyro_gtm.handlers import scale_latents
from pyro_gtm.infer.batch import Batch, Draw, arguments
from pyro_gtm.infer.check_observations import check_observations
from pyro_gtm.infer.elbo import DeviceELBO
from pyro_gtm.infer.optim import FusedAdam
from pyro_gtm.internals.checks import check_positive

__all__ = [
    "CapturedSVI",
    "CapturedSteps",
    "DeviceStep",
    "NotCapturedWarning",
    "StepResult",
    "forget_trace",
]

WARM_UP_STEPS = 3
"""Training steps taken one by one before the capture, as PyTorch asks of what is captured."""


class NotCapturedWarning(RuntimeWarning):
    """Steps are taken one by one where they were to be captured."""


class StepResult(NamedTuple):
    """The results of a step, read from the device."""

    loss: float
    """The negative ELBO summed over the batch, in nats."""

    gradient_norm: float
    """Before the clip."""

    valid: bool
    """Whether the batch was inside the support of the likelihood, and finite."""


class CapturedSVI(SVI):
    """:class:`pyro.infer.SVI` whose steps :func:`~pyro_gtm.infer.training_steps` captures, replays.

    Draw, loss, gradients, clip and update become one CUDA graph.  The first three steps are taken
    one by one and are training steps like any other; the capture takes none and consumes no random
    numbers; every step after is a replay.  So the run has the same steps on the same random
    numbers as one that is not captured.  ``step`` is Pyro's own, not captured.

    What Python does in a step is done at the capture for the last time.  ``draw``, model and
    guide must do the same in every step but for what they draw from PyTorch's generator for the
    device and from ``generators``; ``draw`` is called once more than there are steps before the
    replays.  Where a capture cannot be had, :class:`NotCapturedWarning` says why, once, and the
    same steps are taken one by one.

    Args:
        model: as for SVI.
        guide: as for SVI.
        optim: a :class:`pyro_gtm.infer.FusedAdam`.  A state set into it counts from the next call
            of ``training_steps``.
        loss: a bound that reads nothing, such as :class:`pyro_gtm.infer.DeviceTrace_ELBO`.
        device: where parameters and batches are.
        generators: the generators that ``draw`` draws from, on that device.
        read_every: losses are read back after so many steps, or when the loop is asked to pause.

    Raises:
        TypeError: another kind of optimiser or loss.
        ValueError: a generator on another kind of device, or an impossible ``read_every``.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: FusedAdam,
        loss: DeviceELBO,
        *,
        device: torch.device | str,
        generators: Iterable[torch.Generator] = (),
        read_every: int = 100,
    ) -> None:
        if not isinstance(optim, FusedAdam):
            raise TypeError(f"CapturedSVI: optim must be a pyro_gtm.infer.FusedAdam, got {optim!r}")
        if not isinstance(loss, DeviceELBO):
            raise TypeError(
                "CapturedSVI: loss must be a bound that reads nothing back, DeviceTrace_ELBO or "
                f"DeviceTraceMeanField_ELBO, got {loss!r}"
            )
        check_positive("CapturedSVI", read_every=read_every)
        super().__init__(model, guide, optim, loss)
        self.device = torch.device(device)
        self.generators = tuple(generators)
        for generator in self.generators:
            if generator.device.type != self.device.type:
                raise ValueError(
                    f"CapturedSVI: generators must be on {self.device}, got one on "
                    f"{generator.device}"
                )
        self.read_every = read_every
        self.pending = 0
        """Steps taken beyond the one that ``training_steps`` gave last: while there are some, the
        parameters are those of a later step."""


class DeviceStep:
    """One training step, draw and update included, as a function that reads nothing back.

    It gives its results to a buffer on the device, from which :meth:`read` takes those of many
    steps at once.  A step whose loss or gradient is not finite changes nothing, nor do those after
    it.  The guide keeps no trace of a step.

    Args:
        svi: whose model, guide, loss and optimiser, and how many steps the buffer holds.
        draw: gives the next batch.
        scales: whether the KL term has a weight, to be set by :meth:`scale`.
        paces: whether the learning rate is to be set by :meth:`pace`.
    """

    def __init__(
        self, svi: CapturedSVI, draw: Draw, *, scales: bool = False, paces: bool = False
    ) -> None:
        self.draw = draw
        self._svi = svi
        self._weight = torch.ones((), device=svi.device)
        self._scaling = scale_latents(self._weight) if scales else nullcontext()
        # What fused Adam reads: float32 on a GPU, and on the CPU the very number it is given.
        dtype = torch.float64 if svi.device.type == "cpu" else torch.float32
        self._rate = torch.zeros((), device=svi.device, dtype=dtype) if paces else None
        self._failed = torch.zeros((), device=svi.device, dtype=torch.float32)
        self._next = torch.zeros(1, device=svi.device, dtype=torch.int64)
        self._results = torch.zeros(svi.read_every, 3, device=svi.device, dtype=torch.float64)

    def __call__(self) -> None:
        """Take a step; the first creates the optimiser's state."""
        svi = self._svi
        positional, named = arguments(*self.draw())
        with self._scaling, check_observations() as check, poutine.trace(param_only=True) as seen:
            loss = svi.loss_and_grads(svi.model, svi.guide, *positional, **named)
        valid = torch.ones_like(loss, dtype=torch.bool) if check.valid is None else check.valid
        loss = loss.masked_fill(~valid, torch.nan)  # so that the step changes nothing
        forget_trace(self._svi.guide)
        parameters = {
            cast(Any, site["value"]).unconstrained() for site in seen.trace.nodes.values()
        }
        norm = svi.optim.step_on_device(parameters, loss, self._failed, self._rate)
        result = torch.stack([loss.double(), norm.double(), valid.double()]).unsqueeze(0)  # (1, 3)
        self._results.index_copy_(0, self._next, result)
        self._next.add_(1)

    def scale(self, weight: float) -> None:
        """Set the weight of the KL term in the steps to come."""
        self._weight.fill_(weight)

    def pace(self, learning_rate: float) -> None:
        """Set the learning rate of the steps to come."""
        if self._rate is not None:
            self._rate.fill_(learning_rate)

    def read(self, number: int) -> list[StepResult]:
        """Wait for the device, and empty the buffer.

        Args:
            number: how many steps were taken since the last read.
        """
        results = self._results[:number].tolist()
        self._next.zero_()
        return [StepResult(loss, norm, valid == 1) for loss, norm, valid in results]


class CapturedSteps:
    """The steps of one training loop: one by one at first, then by replay if that can be.

    Args:
        svi: what to train, and how.
        draw: gives the next batch.
        scales: whether the KL term has a weight other than one in any step.
        paces: whether the learning rate is given to each step.
    """

    def __init__(
        self, svi: CapturedSVI, draw: Draw, *, scales: bool = False, paces: bool = False
    ) -> None:
        self._svi = svi
        self._draw = draw
        self._scales = scales
        self._step = DeviceStep(svi, draw, scales=scales, paces=paces)
        self._unread = 0
        self._warm_ups = 0
        self._run: Callable[[], None] = self._warm_up
        if _has_graphs(svi.device):
            self._stream = torch.cuda.Stream(svi.device)
            self._generators = (_default_generator(svi.device), *svi.generators)
            self._watch = ReplayGuard(draw, self._generators)
        else:
            self._fall_back_to_eager(f"the device is {svi.device}, and only CUDA has such graphs")

    def take(self, weight: float = 1.0, learning_rate: float | None = None) -> None:
        """Take a step, without waiting for it.

        Args:
            weight: of the KL term.
            learning_rate: None for the optimiser's own.
        """
        if self._scales:
            self._step.scale(weight)
        if learning_rate is not None:
            self._step.pace(learning_rate)
        self._run()
        self._unread += 1

    def read(self) -> list[StepResult]:
        """Wait for the steps taken since the last read; at most ``svi.read_every``."""
        number, self._unread = self._unread, 0
        return self._step.read(number)

    def _warm_up(self) -> None:
        if self._warm_ups == 0:
            self._release_graphs()
        host_state = torch.get_rng_state()
        self._step.draw = self._watch
        try:
            self._on_side_stream(self._step)
        finally:
            self._step.draw = self._draw
        self._warm_ups += 1
        if not torch.get_rng_state().equal(host_state):
            self._fall_back_to_eager("it draws random numbers on the CPU")
        elif self._watch.objection is not None:
            self._fall_back_to_eager(self._watch.objection)
        elif self._warm_ups == WARM_UP_STEPS:
            self._run = self._first_replay

    def _on_side_stream(self, run: Callable[[], None]) -> None:
        """Where the capture will be; what runs before and after waits as if it were one stream."""
        current = torch.cuda.current_stream(self._svi.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            run()
        current.wait_stream(self._stream)

    def _first_replay(self) -> None:
        self._release_graphs()
        graph = torch.cuda.CUDAGraph()
        failure = self._capture(graph)
        if failure is None:
            self._release_graphs()
            self._run = graph.replay
        else:
            self._fall_back_to_eager(f"the capture failed: {failure}")
        self._run()

    def _capture(self, graph: torch.cuda.CUDAGraph) -> str | None:
        """Capture a step, which takes none; why it failed, with all as it was before."""
        for generator in self._svi.generators:
            graph.register_generator_state(generator)
        # A capture that fails would leave them waiting for its end.
        states = [generator.clone_state() for generator in self._generators]
        try:
            # Gradients are made and dropped inside, in the graph's own pool of memory.
            # The outer context takes the stream back even where the end of the capture fails.
            # Other threads may use the device meanwhile, as those of another library do.
            capture = torch.cuda.graph(
                graph, stream=self._stream, capture_error_mode="thread_local"
            )
            with torch.cuda.stream(self._stream), capture:
                self._step()
        except RuntimeError as error:
            for generator, state in zip(self._generators, states, strict=True):
                generator.graphsafe_set_state(state)
            for _, parameter in pyro.get_param_store().named_parameters():
                parameter.grad = None
            return _first_cause(error)
        return None

    def _release_graphs(self) -> None:
        """Free all graphs of gradients, and with them the streams that they were made on.

        Pyro's messages, which are cycles, may hold some.
        """
        forget_trace(self._svi.guide)
        gc.collect()

    def _fall_back_to_eager(self, reason: str) -> None:
        self._release_graphs()
        self._run = self._step
        warnings.warn(
            "CapturedSVI: training steps are taken one by one, and not captured as a CUDA graph: "
            f"{reason}",
            NotCapturedWarning,
            stacklevel=3,
        )


class ReplayGuard:
    """Calls ``draw``, and finds out whether a replay could take the place of a call.

    Args:
        draw: gives the next batch.
        generators: all that a replay draws random numbers from.
    """

    def __init__(self, draw: Draw, generators: Sequence[torch.Generator]) -> None:
        self.objection: str | None = None
        """Why not, once that is known."""
        self._draw = draw
        self._generators = generators
        self._last: Batch | None = None

    def __call__(self) -> Batch:
        # As the last batch is now: a caller may fill the tensors of a batch anew, which a replay
        # follows; what counts is what ``draw`` itself changes, be it in the same tensors.
        last = None if self._last is None else _copies(self._last)
        before = [generator.get_state() for generator in self._generators]
        batch = Batch(*self._draw())
        after = [generator.get_state() for generator in self._generators]
        drew = any(not one.equal(other) for one, other in zip(before, after, strict=True))
        if last is not None and self.objection is None:
            self.objection = _difference(last, batch, drew)
        self._last = batch
        return batch


def forget_trace(guide: Callable[..., Any]) -> None:
    """Let go of the last step's graph of gradients, which an effect-based guide's trace holds.

    It holds inputs of layers too.  And a parameter's node in it remembers the CUDA stream that it
    was made on, and is used again for as long as anything holds it; a capture must find none from
    another stream.
    """
    messenger = poutine.unwrap(guide)
    if isinstance(messenger, TraceMessenger):
        messenger.trace = Trace(graph_type=messenger.graph_type)


def _copies(batch: Batch) -> Batch:
    return Batch(*(None if part is None else part.clone() for part in batch))  # type: ignore[arg-type]


def _difference(last: Batch, batch: Batch, drew: bool) -> str | None:
    for name, old, new in zip(Batch._fields, last, batch, strict=True):
        if old is None or new is None:
            if old is not new:
                return f"draw gives {name} in some steps only"
        elif old.shape != new.shape or old.dtype != new.dtype:
            return (
                f"draw changes the shape of its batches, {name} of {tuple(new.shape)} {new.dtype} "
                f"after {tuple(old.shape)} {old.dtype}"
            )
        elif not drew and not old.equal(new):
            return f"draw gives other {name} without a random number from the generators given"
    return None


def _has_graphs(device: torch.device) -> bool:
    return device.type == "cuda"


def _default_generator(device: torch.device) -> torch.Generator:
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


def _first_cause(error: BaseException) -> str:
    """The error in the step, not that of the capture which it spoilt."""
    cause = error
    while isinstance(cause.__context__, RuntimeError):
        cause = cause.__context__
    return str(cause).strip().partition("\n")[0]
