"""The two effects a program with memory is written in.

A generative temporal model *reads* a context from a memory and *writes* each new latent to it.
What the memory is, the program does not know: a handler around it decides
(:class:`pyro_gtm.use_memory`).  Like ``pyro.sample``, these are verbs without a meaning of
their own; unlike it they have no default meaning either, and a forgotten handler is an error.

In step t, :func:`read` comes first and :func:`write` second.  The context that ``read`` returns
depends on the latents written before it, z_1..z_{t-1}, and on the controls c_1..c_t; this is what
the paper calls the memory context Ψ_{t-1} (Gemici et al. 2017, equations 7-8 and Figure 2).
"""

from __future__ import annotations

from pyro.poutine.runtime import effectful
from torch import Tensor

__all__ = ["NoMemoryError", "read", "write"]

READ = "gtm_read"
"""Message type of :func:`read`; handlers define ``_pyro_gtm_read``."""

WRITE = "gtm_write"
"""Message type of :func:`write`; handlers define ``_pyro_gtm_write``."""


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
