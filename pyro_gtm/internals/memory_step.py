"""One step of a memory, with all who take part in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pyro_gtm.internals.shapes import broadcast_shapes

__all__ = [
    "NEVER",
    "Intervenes",
    "Observes",
    "StepInputs",
    "Steps",
    "Taken",
    "broadcast_batch",
    "check_written",
    "log_shares_of",
    "take_step",
]

NEVER = -1e9
"""The log-weight of what is never read: finite, so that sums over it have gradients."""


class StepInputs(NamedTuple):
    """The inputs of one step of a memory."""

    state: Any
    """The state after the step before, of batch shape ``batch``."""

    latent: Tensor
    """The latent written last: ``(*batch, latent_dim)``."""

    control: Tensor | None
    """``(*batch, control_dim)``."""

    write: bool = True
    """False to keep the memory from writing."""

    swapped: tuple[tuple[int, int], ...] = ()
    """The pairs of sequences whose contents were exchanged before this step, in this order."""

    @property
    def taken(self) -> Taken:
        """What they do to the contents."""
        return Taken(self.write, self.swapped)


class Taken(NamedTuple):
    """What a step did to the contents before it read."""

    write: bool
    """Whether the latent written last was stored."""

    swapped: tuple[tuple[int, int], ...]
    """The pairs of sequences whose contents were exchanged before, in this order."""


class Steps(Protocol):
    """A memory, as far as its steps go: see :class:`pyro_gtm.MemoryModule`."""

    latent_dim: int
    recall_length: int

    def initial_state(self, batch_shape: Sequence[int] = ()) -> Any: ...

    def expand_state(self, state: Any, batch_shape: Sequence[int]) -> Any: ...

    def step(
        self, state: Any, latent: Tensor, control: Tensor | None = None, *, write: bool = True
    ) -> Any: ...

    def unroll(
        self, state: Any, latent: Tensor, latents: Tensor, controls: Tensor | None = None
    ) -> Any: ...


class Intervenes(Protocol):
    """A change to the inputs or the result of a step: :class:`pyro_gtm.handlers.Intervention`."""

    def before(self, memory: Any, step: int, inputs: StepInputs) -> StepInputs: ...

    def after(self, memory: Any, step: int, result: Any) -> Any: ...


class Observes(Protocol):
    """A witness of steps: see :class:`pyro_gtm.record_memory`."""

    def observe_step(self, step: int, result: Any) -> None: ...

    def observe_write(self, latent: Tensor) -> None: ...


def take_step(
    memory: Steps,
    step: int,
    inputs: StepInputs,
    interventions: Sequence[Intervenes],
    observers: Sequence[Observes],
) -> tuple[StepInputs, Any]:
    """The inputs and the result of a step, after every intervention and before any observer."""
    for intervention in interventions:
        inputs = intervention.before(memory, step, inputs)
    # A memory of the user's own may know nothing of keeping from writing, and need not.
    options = {} if inputs.write else {"write": False}
    result = memory.step(inputs.state, inputs.latent, inputs.control, **options)
    for intervention in interventions:
        result = intervention.after(memory, step, result)
    for observer in observers:
        observer.observe_step(step, result)
    return inputs, result


def check_written(memory: Steps, latent: Tensor, batch_shape: Sequence[int] | None = None) -> None:
    """Refuse a latent of another size than the memory's, or of more sequences than were begun.

    Raises:
        ValueError: so it is.
    """
    if not isinstance(latent, Tensor) or latent.dim() == 0:
        raise TypeError(f"gtm.write: latent must be a tensor (*batch, latent_dim), got {latent!r}")
    held, given = tuple(batch_shape or ()), latent.shape[:-1]
    if (
        batch_shape is not None
        and given != held
        and broadcast_batch(torch.Size(held), given) != held
    ):
        raise ValueError(
            f"gtm.unroll: latent of batch shape {tuple(given)} written after the first step, the "
            f"sequences have batch shape {held}"
        )
    if latent.shape[-1] != memory.latent_dim:
        raise ValueError(
            f"gtm.write: latent of size {latent.shape[-1]} given, the memory in use takes "
            f"latent_dim={memory.latent_dim}"
        )


def log_shares_of(memory: Steps, details: dict[str, Tensor]) -> Tensor:
    """The detail ``log_shares`` of a step, which ``recall_length`` promises.

    Raises:
        ValueError: it is missing, or of another size.
    """
    shares = details.get("log_shares")
    if shares is None or shares.shape[-1] != memory.recall_length:
        given = "none" if shares is None else f"one of size {shares.shape[-1]}"
        raise ValueError(
            f"{type(memory).__name__}: a detail log_shares of size "
            f"recall_length={memory.recall_length} is promised, {given} given"
        )
    return shares


def broadcast_batch(held: torch.Size, *given: Sequence[int]) -> torch.Size:
    """The batch shape of the sequences held and of what is given for them.

    Raises:
        ValueError: they do not go together.
    """
    try:
        return broadcast_shapes(held, *given)
    except ValueError as error:
        shapes = ", ".join(str(tuple(shape)) for shape in given)
        raise ValueError(
            f"gtm.read: plates, latents and controls of batch shapes {shapes}, the memory holds "
            f"sequences of batch shape {tuple(held)}; call gtm.begin() before other sequences"
        ) from error
