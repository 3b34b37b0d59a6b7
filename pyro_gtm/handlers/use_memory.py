"""The handler that gives a program its memory."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from typing_extensions import Self

from pyro_gtm.internals.memory_step import StepInputs, broadcast_batch, check_written, take_step
from pyro_gtm.internals.param_store import (
    bind_weights,
    drawing_weights,
    drawn_weights,
    register_module,
)
from pyro_gtm.internals.plates import plate_shape
from pyro_gtm.internals.stored import Recalled, StoredComponents, posterior_of
from pyro_gtm.internals.unrolling import Recurrence, Run, Unrolling
from pyro_gtm.memory import MemoryModule

__all__ = ["use_memory"]


class use_memory(Messenger):
    """Interpret ``begin``, ``read``, ``recall``, ``write`` and ``unroll`` with a memory.

    Either a decorator or a context manager::

        model = gtm.use_memory(memory)(program.model)

        with gtm.use_memory(memory):
            frames = program.model(num_steps=20, batch_size=8)

    Every entry starts a fresh sequence and every exit frees it, so that one decorated model can be
    run again and again: to train, decorate.  Within one entry, ``gtm.begin()`` starts a fresh
    sequence, as every run of a :class:`pyro_gtm.GenerativeTemporalModel` does by itself.  The
    innermost of nested memories answers.  On entry the memory's weights are registered with
    ``pyro.module``, unless gradients are off.

    Handlers that intervene (:class:`pyro_gtm.lesion_memory`) or look on
    (:class:`pyro_gtm.record_memory`) may stand inside or outside this one, in any order: the step
    itself runs as the message's own function, after every handler has had its say and before any
    handler sees the result.

    Args:
        memory: the memory's weights and step.
        name: its name in the Pyro parameter store.
        unrolling: how it runs through a whole sequence (:func:`pyro_gtm.unroll`, the stacked
            layout).

    Raises:
        ValueError: a program writes a latent of another size than the memory's ``latent_dim``, or
            of sequences other than those begun.
        RuntimeError: a program writes twice without reading in between.
        StaleParameterError: the parameter store holds other weights under ``name``.
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
        self._weights: list[AbstractContextManager[None]] = []  # of entries within each other
        self._begin()

    def __enter__(self) -> Self:
        # First, since a handler whose __enter__ fails would stay on Pyro's stack.
        register_module(self.name, self.memory)
        weights = drawing_weights(self.memory)
        weights.__enter__()
        self._weights.append(weights)
        super().__enter__()
        self._begin()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._begin()
        super().__exit__(*exception)
        self._weights.pop().__exit__(*exception)

    def _begin(self) -> None:
        self._step = 0
        self._batch_shape: torch.Size | None = None
        self._state: Any = None
        self._latent: Tensor | None = None
        self._context: Tensor | None = None
        self._shares: Tensor | None = None
        self._components = StoredComponents(self.memory.recall_length)

    # The effects, each answered unless a memory further inside has done so.

    def _pyro_gtm_begin(self, msg: dict[str, Any]) -> None:
        self._answer(msg, self._begin)

    def _pyro_gtm_read(self, msg: dict[str, Any]) -> None:
        self._answer(msg, partial(self._read, msg))

    def _pyro_gtm_write(self, msg: dict[str, Any]) -> None:
        self._answer(msg, partial(self._write, msg))

    def _pyro_gtm_recall(self, msg: dict[str, Any]) -> None:
        self._answer(msg, self._recall)

    def _pyro_gtm_recurrence(self, msg: dict[str, Any]) -> None:
        self._answer(msg, partial(self._recurrence, msg))

    def _answer(self, msg: dict[str, Any], function: Any) -> None:
        if msg.get("memory") is None:
            msg["memory"] = self.memory
            msg["fn"] = function

    def _forget_function(self, msg: dict[str, Any]) -> None:
        if msg.get("memory") is self.memory:
            # It refers to the message that holds it: a reference cycle that would keep the autograd
            # graph alive until Python collects cycles.
            msg["fn"] = None

    _pyro_post_gtm_read = _forget_function
    _pyro_post_gtm_write = _forget_function
    _pyro_post_gtm_recurrence = _forget_function

    def _read(self, msg: dict[str, Any], control: Tensor | None = None) -> Tensor:
        if self._context is None:
            self._warn_of_settings_without_effect()
            inputs, result = self._advance(msg, control)
            self._step += 1
            self._state, self._context, self._latent = result.state, result.context, None
            self._shares = result.details.get("log_shares")
            self._components.add_step(inputs.taken)
        return self._context

    def _recall(self) -> Recalled:
        if self._context is None:
            raise RuntimeError("gtm.recall: nothing was read yet in this step; call gtm.read first")
        if self._shares is None:
            raise RuntimeError(
                f"gtm.recall: {type(self.memory).__name__} does not tell what its reads are made "
                "of; a memory that does is needed (recall_length > 0; NTM, LRU and DNC memory: "
                "recall=True)"
            )
        return self._components.recalled(self._shares)

    def _advance(self, msg: dict[str, Any], control: Tensor | None) -> tuple[StepInputs, Any]:
        held = self._start()
        latent = self._last_latent(held)
        given = [latent] if control is None else [latent, control]
        batch_shape = broadcast_batch(held, plate_shape(), *(g.shape[:-1] for g in given))
        if batch_shape != held:
            self._batch_shape = batch_shape
            self._state = self.memory.expand_state(self._state, batch_shape)
        inputs = StepInputs(
            self._state,
            latent.expand(*batch_shape, -1),
            None if control is None else control.expand(*batch_shape, -1),
        )
        return take_step(
            self.memory,
            self._step,
            inputs,
            msg.get("interventions", ()),
            msg.get("observers", ()),
        )

    def _write(self, msg: dict[str, Any], latent: Tensor, distribution: Any = None) -> None:
        check_written(self.memory, latent)
        if self._latent is not None:
            raise RuntimeError(
                "gtm.write: a latent was written already and not yet read; a step is one read, "
                "then one write"
            )
        component = None if distribution is None else posterior_of(distribution)
        self._latent, self._context = latent, None
        self._components.write(component)
        for observer in msg.get("observers", ()):
            observer.observe_write(latent)

    def _recurrence(self, msg: dict[str, Any]) -> Recurrence:
        if self._context is not None:
            raise RuntimeError(
                "gtm.unroll: a context was read and no latent written for it yet; a whole sequence "
                "starts after a write, or after gtm.begin()"
            )
        _refuse_handlers_of_messages()
        held = self._start()
        interventions = tuple(msg.get("interventions", ()))
        observers = tuple(msg.get("observers", ()))
        if interventions or observers:
            self._warn_of_settings_without_effect()
        return Recurrence(
            memory=self._with_its_weights(),
            state=self._state,
            latent=self._last_latent(held),
            batch_shape=held,
            step=self._step,
            settings=self.unrolling,
            interventions=interventions,
            observers=observers,
            resume_from=self._resume_from,
        )

    def _with_its_weights(self) -> Any:
        """The memory, with the random weights of this run if it has some."""
        if not drawn_weights(self.memory):
            return self.memory
        if self.unrolling.compile_steps:
            raise ValueError("use_memory: compile_steps must be 0 for a memory with random weights")
        return _BoundMemory(self.memory)

    def _resume_from(self, run: Run) -> None:
        self._step += run.length
        self._batch_shape, self._state, self._latent = run.batch_shape, run.state, run.latent
        self._components.add_steps(run.length, run.watched)

    def _start(self) -> torch.Size:
        """The batch shape of the sequences held, which begin here if they have not yet."""
        if self._batch_shape is None:
            self._batch_shape = plate_shape()
            self._state = self.memory.initial_state(self._batch_shape)
        return self._batch_shape

    def _last_latent(self, batch_shape: torch.Size) -> Tensor:
        """The latent written last; zeros before the first write."""
        if self._latent is not None:
            return self._latent
        like = next((part for part in self._state), torch.empty(0))
        return like.new_zeros(*batch_shape, self.memory.latent_dim)

    def _warn_of_settings_without_effect(self) -> None:
        settings = self.unrolling
        without = settings.checkpoint_every or settings.compile_steps
        if without and torch.is_grad_enabled() and not self._warned:
            self._warned = True
            warnings.warn(
                "use_memory: steps are taken one by one, without checkpoint_every and "
                "compile_steps: the program reads and writes them itself, or another handler takes "
                "part in each",
                RuntimeWarning,
                stacklevel=2,
            )


class _BoundMemory:
    """A memory whose step uses the random weights that are drawn now."""

    def __init__(self, memory: MemoryModule) -> None:
        self._memory = memory
        self.step = bind_weights(memory, memory.step)
        self.unroll = bind_weights(memory, memory.unroll)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)


def _refuse_handlers_of_messages() -> None:
    """Refuse handlers that would be passed over, for a whole sequence sends no message a step."""
    hooks = [f"_pyro_{when}gtm_{kind}" for when in ("", "post_") for kind in ("read", "write")]
    for handler in _PYRO_STACK:
        if hasattr(handler, "_pyro_gtm_recurrence"):
            continue
        for hook in hooks:
            if hasattr(handler, hook):
                raise RuntimeError(
                    f"{type(handler).__name__} handles the message {hook.rpartition('_')[2]!r} of "
                    "every step, which a whole sequence (the stacked layout, gtm.unroll) does not "
                    "send: derive it from gtm.handlers.Intervention, or use "
                    "program.with_layout('per_step')"
                )
