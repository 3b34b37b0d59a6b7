"""The handler that watches a memory at work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from typing_extensions import Self

from pyro_gtm.memory import MemoryStep

__all__ = ["record_memory"]


class record_memory(Messenger):
    """Record every step of a memory, for figures and for questions.

    ::

        with gtm.record_memory() as tape:
            guide(frames)
        tape.contexts  # (T, *batch, context_dim)
        tape.latents  # (T, *batch, latent_dim), as written
        tape["read_weights"]  # (T, *batch, heads, slots), where the memory attends
        tape.names  # what else this memory shows

    The names and shapes of the details are documented with each memory.  The tape holds the last
    sequence: it starts anew with every first step.

    Args:
        detach: record values without their gradients.
    """

    def __init__(self, detach: bool = True) -> None:
        super().__init__()
        self.detach = detach
        self._start()

    def __enter__(self) -> Self:
        self._start()
        return super().__enter__()

    def _start(self) -> None:
        self._contexts: list[Tensor] = []
        self._latents: list[Tensor] = []
        self._details: list[dict[str, Tensor]] = []

    def _take_part(self, msg: dict[str, Any]) -> None:
        msg.setdefault("observers", []).append(self)

    _pyro_gtm_read = _take_part
    _pyro_gtm_write = _take_part
    _pyro_gtm_recurrence = _take_part

    def observe_step(self, step: int, result: MemoryStep) -> None:
        """Record what a step gave."""
        if step == 0:
            self._start()
        self._contexts.append(self._keep(result.context))
        self._details.append({name: self._keep(value) for name, value in result.details.items()})

    def observe_write(self, latent: Tensor) -> None:
        """Record what was written."""
        self._latents.append(self._keep(latent))

    def _keep(self, tensor: Tensor) -> Tensor:
        return tensor.detach() if self.detach else tensor

    @property
    def num_steps(self) -> int:
        """The number of steps recorded."""
        return len(self._contexts)

    @property
    def contexts(self) -> Tensor:
        """The contexts read: ``(T, *batch, context_dim)``."""
        return _stack(self._contexts, "contexts")

    @property
    def latents(self) -> Tensor:
        """The latents written: ``(T, *batch, latent_dim)``."""
        return _stack(self._latents, "latents")

    @property
    def names(self) -> list[str]:
        """The names of the details that this memory shows."""
        return list(self._details[0]) if self._details else []

    def __iter__(self) -> Iterator[str]:
        """Over :attr:`names`, as over a dictionary."""
        return iter(self.names)

    def __getitem__(self, name: str) -> Tensor:
        """The detail called ``name`` over time: ``(T, *batch, ...)``."""
        if name not in self.names:
            raise KeyError(
                f"record_memory: no detail {name!r} was recorded; there is "
                + (", ".join(self.names) or "none")
            )
        return _stack([details[name] for details in self._details], name)


def _stack(values: list[Tensor], name: str) -> Tensor:
    if not values:
        raise RuntimeError(f"record_memory: no {name} recorded; run a program inside it first")
    return torch.stack(torch.broadcast_tensors(*values))
