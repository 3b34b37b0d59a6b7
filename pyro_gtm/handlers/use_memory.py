"""The handler that gives a program its memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from typing_extensions import Self

from pyro_gtm.internals.param_store import register_module
from pyro_gtm.internals.plates import plate_shape
from pyro_gtm.internals.unrolling import Unrolling, check_written, detached
from pyro_gtm.memory import MemoryModule, MemoryStep
from pyro_gtm.ops import READ, WRITE, Cell, Mapped

__all__ = ["Intervention", "StepInputs", "use_memory"]


class StepInputs(NamedTuple):
    """What a step of a memory starts from."""

    state: Any
    """The state of the step before, of the batch shape of the program."""

    latent: Tensor
    """What was written last: ``(*batch, latent_dim)``."""

    control: Tensor | None
    """``(*batch, control_dim)``."""

    writes: bool = True
    """False to keep the memory from writing."""


class Intervention(Protocol):
    """Changes what a step starts from, or what it did.

    A handler that intervenes appends one to ``msg["interventions"]`` of a read; those nearer to the
    program are asked first.
    """

    def before(self, memory: MemoryModule, step: int, inputs: StepInputs) -> StepInputs:
        """Given the memory, the step's number and inputs, returns inputs."""

    def after(self, memory: MemoryModule, step: int, result: MemoryStep) -> MemoryStep:
        """Given the memory, the step's number and result, returns a result."""


class use_memory(Messenger):
    """Interpret ``read`` and ``write`` with a memory.

    Either a decorator or a context manager::

        model = gtm.use_memory(memory)(program.model)

        with gtm.use_memory(memory):
            frames = program.model(num_steps=20, batch_size=8)

    Every entry starts a fresh sequence and every exit frees it, so that one decorated model can be
    run again and again: to train, decorate.  The innermost of nested memories answers.  On entry
    the memory's weights are registered with ``pyro.module``, unless gradients are off.

    Handlers that intervene (:class:`pyro_gtm.lesion_memory`) or look on
    (:class:`pyro_gtm.record_memory`) may stand inside or outside this one, in any order: the step
    itself runs as the message's own function, after every handler has had its say and before any
    handler sees the result.

    Args:
        memory: the memory's weights and step.
        name: its name in the Pyro parameter store.
        unrolling: how it runs through a whole sequence (:func:`pyro_gtm.ops.unroll`, in which the
            stacked layout is written).  Where another handler takes part in reads or writes, all
            steps are taken one by one, as messages.

    Raises:
        ValueError: a program writes a latent of another size than the memory's ``latent_dim``.
        RuntimeError: a program writes twice without reading in between.
        StaleParameterError: the parameter store holds another memory under ``name``.
    """

    def __init__(
        self,
        memory: MemoryModule,
        name: str = "memory",
        unrolling: Unrolling = Unrolling(),  # noqa: B008  (it cannot be changed)
    ) -> None:
        if not isinstance(memory, MemoryModule):
            raise TypeError(f"use_memory: memory must be a MemoryModule, got {memory!r}")
        if not isinstance(unrolling, Unrolling):
            raise TypeError(f"use_memory: unrolling must be a gtm.Unrolling, got {unrolling!r}")
        super().__init__()
        self.memory = memory
        self.name = name
        self.unrolling = unrolling
        self._warned = False
        self._forget()

    def __enter__(self) -> Self:
        # First, since a handler whose __enter__ fails would stay on Pyro's stack.
        register_module(self.name, self.memory)
        super().__enter__()
        self._forget()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._forget()
        super().__exit__(*exception)

    def _forget(self) -> None:
        self._steps = 0
        self._batch_shape = torch.Size()
        self._state: Any = None
        self._latent: Tensor | None = None
        self._context: Tensor | None = None

    def _pyro_gtm_read(self, msg: dict[str, Any]) -> None:
        if msg.get("memory") is None:
            msg["memory"] = self.memory
            msg["fn"] = partial(self._read, msg)

    def _pyro_post_gtm_read(self, msg: dict[str, Any]) -> None:
        if msg.get("memory") is self.memory:
            # It refers to the message that holds it: a circle that would keep the whole graph of
            # gradients alive until Python looks for circles.
            msg["fn"] = None

    def _pyro_gtm_write(self, msg: dict[str, Any]) -> None:
        if msg.get("memory") is None:
            msg["memory"] = self.memory
            msg["fn"] = self._write

    def _pyro_gtm_unroll(self, msg: dict[str, Any]) -> None:
        if msg.get("memory") is None:
            msg["memory"] = self.memory
            msg["fn"] = partial(self._unroll, msg["fn"])

    def _read(self, msg: dict[str, Any], control: Tensor | None = None) -> Tensor:
        if self._context is None:
            result = self._advance(control, msg.get("interventions", ()))
            msg["step"], msg["result"] = self._steps, result
            self._steps += 1
            self._state, self._context, self._latent = result.state, result.context, None
        return self._context

    def _advance(self, control: Tensor | None, interventions: Sequence[Intervention]) -> MemoryStep:
        if self._state is None:
            self._start(plate_shape())
        latent = self._last_latent()
        if self.unrolling.cuts_before(self._steps):
            self._state, latent = detached(self._state), latent.detach()
        self._warn_of_settings_without_effect()
        wanted = torch.broadcast_shapes(
            self._batch_shape, latent.shape[:-1], () if control is None else control.shape[:-1]
        )
        if wanted != self._batch_shape:
            self._batch_shape = wanted
            self._state = self.memory.expand_state(self._state, wanted)
        if control is not None:
            control = control.expand(*wanted, -1)
        inputs = StepInputs(self._state, latent.expand(*wanted, -1), control)
        for intervention in interventions:
            inputs = intervention.before(self.memory, self._steps, inputs)
        step = self.memory.step if inputs.writes else self.memory.step_without_writing
        result = step(inputs.state, inputs.latent, inputs.control)
        for intervention in interventions:
            result = intervention.after(self.memory, self._steps, result)
        return result

    def _write(self, latent: Tensor) -> None:
        check_written(self.memory, latent)
        if self._latent is not None:
            raise RuntimeError(
                "gtm.write: a latent was written already and not yet read; a step is one read, "
                "then one write"
            )
        self._latent, self._context = latent, None

    def _unroll(
        self,
        step_by_step: Callable[..., tuple[Tensor, ...]],
        cell: Cell,
        sequences: Sequence[Tensor | Mapped | None],
        controls: Tensor | None,
        *,
        num_steps: int,
        batch_shape: torch.Size,
    ) -> tuple[Tensor, ...]:
        if self._state is None:
            self._start(batch_shape)
        latent = self._last_latent()
        if self._batch_shape != batch_shape == _broadcast(self._batch_shape, batch_shape):
            self._state = self.memory.expand_state(self._state, batch_shape)
            self._batch_shape = batch_shape
        in_hand = self._context is not None or self._batch_shape != batch_shape
        if in_hand or _others_take_part():
            return step_by_step(
                cell, sequences, controls, num_steps=num_steps, batch_shape=batch_shape
            )
        if controls is not None:
            gap = [1] * (len(batch_shape) + 2 - controls.dim())
            controls = controls[:num_steps].reshape(num_steps, *gap, *controls.shape[1:])
            controls = controls.expand(num_steps, *batch_shape, -1)  # (T, *batch, control_dim)
        self._state, self._latent, outputs = self.unrolling.run(
            self.memory,
            cell,
            self._state,
            latent.expand(*batch_shape, -1),
            controls,
            sequences,
            num_steps=num_steps,
            first_step=self._steps,
        )
        self._steps += num_steps
        return outputs

    def _start(self, batch_shape: torch.Size) -> None:
        self._batch_shape = batch_shape
        self._state = self.memory.initial_state(batch_shape)

    def _last_latent(self) -> Tensor:
        """What was written last; zeros before the first write."""
        if self._latent is not None:
            return self._latent
        weight = next(self.memory.parameters(), torch.empty(0))
        return weight.new_zeros(*self._batch_shape, self.memory.latent_dim)

    def _warn_of_settings_without_effect(self) -> None:
        settings = self.unrolling
        without = settings.checkpoint_every or settings.compile_steps
        if without and torch.is_grad_enabled() and not self._warned:
            self._warned = True
            warnings.warn(
                "use_memory: steps are taken one by one, without checkpoint_every and "
                "compile_steps: the program reads and writes them itself, or another handler wants "
                "to see each",
                RuntimeWarning,
                stacklevel=2,
            )


def _broadcast(one: torch.Size, other: torch.Size) -> torch.Size | None:
    try:
        return torch.broadcast_shapes(one, other)
    except RuntimeError:  # they do not go together
        return None


def _others_take_part() -> bool:
    """Whether a handler on the stack, other than a memory, has a part in reads or writes."""
    hooks = [f"_pyro_{when}{kind}" for when in ("", "post_") for kind in (READ, WRITE)]
    return any(
        getattr(type(handler), hook, None) is not getattr(use_memory, hook, None)
        for handler in _PYRO_STACK
        for hook in hooks
        if hasattr(handler, hook)
    )
