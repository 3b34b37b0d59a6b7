"""The effects a program with memory is written in: two, and a loop over both.

A generative temporal model *reads* a context from a memory and *writes* each new latent to it.
What the memory is, the program does not know: a handler around it decides
(:class:`pyro_gtm.use_memory`).  Like ``pyro.sample``, these are verbs without a meaning of
their own; unlike it they have no default meaning either, and a forgotten handler is an error.

In step t, :func:`read` comes first and :func:`write` second.  The context that ``read`` returns
depends on the latents written before it, z_1..z_{t-1}, and on the controls c_1..c_t; this is what
the paper calls the memory context Ψ_{t-1} (Gemici et al. 2017, equations 7-8 and Figure 2).

:func:`unroll` is a whole sequence of such steps.  It means no more than the loop one would write,
and by default is that loop; but a memory asked for a sequence at once may run it in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from pyro.poutine.runtime import effectful
from torch import Tensor

__all__ = ["Cell", "Mapped", "NoMemoryError", "join", "parts_of", "read", "unroll", "write"]

READ = "gtm_read"
"""Message type of :func:`read`; handlers define ``_pyro_gtm_read``."""

WRITE = "gtm_write"
"""Message type of :func:`write`; handlers define ``_pyro_gtm_write``."""

UNROLL = "gtm_unroll"
"""Message type of :func:`unroll`; handlers define ``_pyro_gtm_unroll``."""

Cell = Callable[..., tuple[Tensor, ...]]
"""What a program does in each step of :func:`unroll`."""


class NoMemoryError(RuntimeError):
    """``read`` or ``write`` ran where no memory handler could see it."""


@effectful(type=READ)
def read(control: Tensor | None = None) -> Tensor:
    """Read the context of this step from the memory in use.

    Brings the memory forward by one step: its controller sees the latent last written (zeros
    before the first), ``control`` and, where the memory has them, its previous reads; the latent is
    stored; the memory is attended to.  Reading again before the next :func:`write` returns the
    same context (so a guide may read too) and ignores ``control``.

    Args:
        control: what is known of this step without being modelled, such as an action, c_t;
            shape ``(*batch, control_dim)``.  Leave it out when the memory has ``control_dim=0``.

    Returns:
        The context Ψ, shape ``(*batch, context_dim)``, where ``batch`` are the plates around.

    Raises:
        NoMemoryError: no memory handler is active.
    """
    raise NoMemoryError(
        "gtm.read: no memory handler is active; wrap the program in gtm.use_memory(memory) "
        "(poutine.block hides it from the inside)"
    )


@effectful(type=WRITE)
def write(latent: Tensor) -> None:
    """Hand the latent of this step to the memory in use.

    Args:
        latent: z_t, shape ``(*batch, latent_dim)``.

    Raises:
        NoMemoryError: no memory handler is active.
    """
    raise NoMemoryError(
        "gtm.write: no memory handler is active; wrap the program in gtm.use_memory(memory) "
        "(poutine.block hides it from the inside)"
    )


def unroll(
    cell: Cell,
    sequences: Sequence[Tensor | Mapped | None],
    controls: Tensor | None,
    *,
    num_steps: int,
    batch_shape: torch.Size,
) -> tuple[Tensor, ...]:
    """Read, work, write, T times over.

    ::

        def cell(context, noise):  # (B, context_dim), (B, Z)
            location, scale = prior(context)
            z = location + scale * noise
            return z, z, location, scale  # what is written, then what is wanted of the step

        noise = torch.randn(T, B, Z)
        contexts, z, location, scale = gtm.unroll(
            cell, [noise], None, num_steps=T, batch_shape=(B,)
        )  # (T, B, n) each

    Args:
        cell: called with the context of step t and, one argument each, what ``sequences`` hold for
            it; returns a tuple, even of one: first what is to be written, then whatever of step t
            is wanted, ``(*batch_shape, n)`` each.  It must not draw, nor send messages: a handler
            may run it twice, or compile it.
        sequences: ``(T, ...)`` each, or :class:`Mapped`; None stays None.
        controls: c_1..c_T and perhaps more, ``(T, B, control_dim)``; None for a memory without.
        num_steps: T.
        batch_shape: of what is read and written: ``(B,)``.  Where further plates stand left of one
            of time, such as particles, ``(*batch, 1, B)``, with a gap for time.

    Returns:
        The contexts and what the cell returned, all but what was written, of all steps:
        ``(T, B, n)`` or ``(*batch, T, B, n)`` each.

    Raises:
        NoMemoryError: no memory handler is active.
        ValueError: no steps, sequences of another length, or a batch shape without a gap where
            time is to be.
        TypeError: the cell returns no tuple.
    """
    if num_steps < 1:
        raise ValueError(f"gtm.unroll: num_steps must be at least 1, got {num_steps}")
    given = [s.sequence if isinstance(s, Mapped) else s for s in sequences]
    lengths = [len(s) for s in given if s is not None]
    if any(length != num_steps for length in lengths):
        raise ValueError(
            f"gtm.unroll: sequences must be num_steps={num_steps} long, got lengths {lengths}"
        )
    if controls is not None and len(controls) < num_steps:
        raise ValueError(
            f"gtm.unroll: controls must cover num_steps={num_steps} steps, got {len(controls)}"
        )
    if len(batch_shape) < 1 or (len(batch_shape) > 1 and batch_shape[-2] != 1):
        raise ValueError(
            "gtm.unroll: batch_shape must be (B,), or (*batch, 1, B) with a gap where time is to "
            f"be, got {tuple(batch_shape)}"
        )
    result: tuple[Tensor, ...] = _unroll(
        cell, sequences, controls, num_steps=num_steps, batch_shape=torch.Size(batch_shape)
    )
    return result


class Mapped(NamedTuple):
    """A sequence of which a step is to see a function's value, worked out when it is needed.

    For values that are larger than what they are made from, in a block that is run again.
    """

    function: Callable[[Tensor], Tensor]
    """Of any steps at once: ``(n, ...)`` to ``(n, ...)``, each by itself."""

    sequence: Tensor
    """``(T, ...)``."""

    def values(self) -> Tensor:
        """Of all steps: ``(T, ...)``."""
        return self.function(self.sequence)


@effectful(type=UNROLL)
def _unroll(
    cell: Cell,
    sequences: Sequence[Tensor | Mapped | None],
    controls: Tensor | None,
    *,
    num_steps: int,
    batch_shape: torch.Size,
) -> tuple[Tensor, ...]:
    steps = []
    # The gradient of a single index would be as long as the whole sequence.
    plain = [s.values() if isinstance(s, Mapped) else s for s in (controls, *sequences)]
    here = [[None] * num_steps if s is None else s[:num_steps].unbind(0) for s in plain]
    for control, *seen in zip(*here, strict=True):
        context = read(control)
        written, *outputs = parts_of(cell(context, *seen))
        write(written)
        steps.append((context, *outputs))
    return tuple(join(parts) for parts in zip(*steps, strict=True))


def parts_of(result: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a cell returned, if it is what a cell must return."""
    if not isinstance(result, tuple) or not result:
        raise TypeError(
            "gtm.unroll: the cell must return a tuple, what is to be written and then what is "
            f"wanted of the step, got {type(result).__name__}"
        )
    return result


def join(steps: Sequence[Tensor]) -> Tensor:
    """Put time in front of the sequences: T of ``(*batch, [1,] B, n)`` make ``(*batch, T, B, n)``.

    A plate left of time (particles) brings the empty dimension where time will be.
    """
    return torch.stack(tuple(steps)) if steps[0].dim() == 2 else torch.cat(tuple(steps), dim=-3)
