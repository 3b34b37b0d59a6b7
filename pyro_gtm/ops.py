"""The effects a program with memory is written in.

A generative temporal model *reads* a context from a memory and *writes* each new latent to it.
What the memory is, the program does not know: a handler around it decides, and does all that is
said here (:class:`pyro_gtm.use_memory`).  Like ``pyro.sample``, these are verbs without a meaning
of their own; unlike it they have no default meaning either, and a forgotten handler is an error.

In step t, :func:`read` comes first and :func:`write` second.  The context that ``read`` returns
depends on the latents written before it, z_1..z_{t-1}, and on the controls c_1..c_t; this is what
the paper calls the memory context Ψ_{t-1} (Gemici et al. 2017, equations 7-8 and Figure 2).

:func:`begin` starts a fresh sequence.  :func:`unroll` is the loop of reads and writes over a whole
sequence, in one call; :func:`recurrence` is the memory from here on as a value, which a
distribution over whole sequences can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from pyro_gtm.internals.memory_step import broadcast_batch
from pyro_gtm.internals.stored import Recalled
from pyro_gtm.internals.unrolling import Recurrence, stretch

__all__ = [
    "NoMemoryError",
    "Recalled",
    "Unrolled",
    "begin",
    "read",
    "recall",
    "recurrence",
    "unroll",
    "write",
]


class NoMemoryError(RuntimeError):
    """An effect of a memory ran where no memory handler could see it."""


@effectful(type="gtm_begin")
def begin() -> None:
    """Begin a fresh sequence: the memory in use forgets all it holds.

    Raises:
        NoMemoryError: no memory handler is active.
    """
    _no_memory("begin")


@effectful(type="gtm_read")
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
        ValueError: the latent or the control does not fit the sequences that the memory holds.
    """
    _no_memory("read")


@effectful(type="gtm_write")
def write(latent: Tensor, distribution: Any = None) -> None:
    """Hand the latent of this step to the memory in use.

    Args:
        latent: z_t, or whatever else the memory is to hold, ``(*batch, latent_dim)``.
        distribution: where the latent came from, a diagonal Gaussian ``Normal(...).to_event(1)``,
            to be a component of later priors (:func:`recall`); masked (``.mask(there)``), one of
            those sequences alone that it is there for.  None for none.

    Raises:
        NoMemoryError: no memory handler is active.
        ValueError: the latent is of another size than the memory's.
        TypeError: the distribution is no diagonal Gaussian.
        RuntimeError: a latent was written already and not yet read.
    """
    _no_memory("write")


@effectful(type="gtm_recall")
def recall() -> Recalled:
    """What the reads of this step are made of: to be asked after :func:`read`.

    Raises:
        NoMemoryError: no memory handler is active.
        RuntimeError: nothing was read yet in this step, or the memory cannot tell.
    """
    _no_memory("recall")


@effectful(type="gtm_recurrence")
def recurrence() -> Recurrence:
    """The memory in use, from where it stands, as a pure function of the latents to come.

    To run it moves nothing: it can be run any number of times, also when its handler is gone.
    Handlers that intervene or look on are asked in every run.

    Raises:
        NoMemoryError: no memory handler is active.
        RuntimeError: a context was read and no latent written for it yet; or a handler around
            handles reads or writes as messages, which a whole sequence does not send.
    """
    _no_memory("unroll")


class Unrolled(NamedTuple):
    """All steps of an :func:`unroll`."""

    contexts: Tensor
    """Ψ_1..Ψ_T: ``(T, *batch, context_dim)``."""

    latents: Tensor
    """The latents written: ``(T, *batch, latent_dim)``."""

    outputs: Any
    """The cell's second results, with time in front: ``(T, ...)`` each."""


def unroll(
    cell: Callable[..., tuple[Tensor, Any]] | Tensor,
    inputs: Any = None,
    *,
    controls: Tensor | None = None,
    length: int | None = None,
) -> Unrolled:
    """Read, work, write, T times over, as the loop one would write.

    ::

        def cell(context, noise):  # (B, context_dim), (B, Z)
            location, scale = prior(context)
            return location + scale * noise, (location, scale)  # written; wanted of the step

        contexts, latents, (location, scale) = gtm.unroll(cell, torch.randn(T, B, Z))

    The memory stands after the last step when it is done.  Where nothing that is written depends on
    what is read, give the latents themselves, ``gtm.unroll(latents)``: a memory that can then takes
    all steps at once (the associative one).

    Args:
        cell: called with the context of step t, ``(*batch, context_dim)``, and the inputs of step
            t; returns what is to be written, ``(*batch, latent_dim)``, and whatever of the step is
            wanted.  It must not draw, nor send messages: it may be run twice, or compiled.  Or all
            that is to be written, ``(T, *batch, latent_dim)``.
        inputs: a tensor ``(T, ...)``, or tuples, lists and dictionaries of such; None, also among
            them, stays None.
        controls: c_1..c_T, ``(T, *batch, control_dim)``; None for a memory without.
        length: T, where neither inputs nor controls tell it.

    Returns:
        Contexts, written latents and outputs of all steps (None for latents that were given), time
        in front.

    Raises:
        NoMemoryError: no memory handler is active.
        ValueError: lengths that differ, or none; inputs beside latents.
        TypeError: the cell does not return a pair.
        RuntimeError: the cell draws, reads or writes.
    """
    memory = recurrence()
    if isinstance(cell, Tensor):
        return _unroll_along(memory, cell, inputs, controls, length)
    leaves, spec = tree_flatten(inputs)
    given = [leaf for leaf in (*leaves, controls) if leaf is not None]
    lengths = {len(leaf) for leaf in given} | ({length} if length is not None else set())
    if len(lengths) != 1 or min(lengths) < 1:
        raise ValueError(
            "gtm.unroll: inputs, controls and length must agree on one positive number of steps, "
            f"got {sorted(lengths) or 'none'}"
        )
    (steps,) = lengths
    flat = _FlatCell(cell, None if inputs is None else spec)
    first = [None if leaf is None else leaf[0] for leaf in leaves]
    with _RefusingMessages():
        first_control = None if controls is None else controls[0]
        batch_shape = memory.written_batch(flat, first, first_control)
        run = memory.run(flat, leaves, controls=controls, length=steps, batch_shape=batch_shape)
    memory.resume_from(run)
    latents, *outputs = run.outputs
    return Unrolled(run.contexts, latents, flat.unflatten(outputs))


def _unroll_along(
    memory: Recurrence, latents: Tensor, inputs: Any, controls: Tensor | None, length: int | None
) -> Unrolled:
    if inputs is not None:
        raise ValueError("gtm.unroll: inputs are a cell's, and were given beside latents")
    if latents.dim() < 2 or len(latents) == 0 or length not in (None, len(latents)):
        raise ValueError(
            f"gtm.unroll: latents must be (T, *batch, latent_dim) with T > 0, got shape "
            f"{tuple(latents.shape)}" + ("" if length is None else f" for length={length}")
        )
    if controls is not None and len(controls) != len(latents):
        raise ValueError(
            f"gtm.unroll: latents and controls must agree on the number of steps, got "
            f"{len(latents)} and {len(controls)}"
        )
    run = memory.along(latents, controls=controls)
    memory.resume_from(run)
    return Unrolled(run.contexts, stretch(latents, run.batch_shape), None)


class _RefusingMessages(Messenger):
    """A refusal of effects in a cell, which is run once more than there are steps."""

    def _process_message(self, msg: Any) -> None:
        if msg["type"] != "param":
            raise RuntimeError(
                f"gtm.unroll: the cell sends a message of type {msg['type']!r}, and must be a "
                "function of tensors: draw noise before; sample, read and write in your own loop"
            )


class _FlatCell:
    """A cell of :func:`unroll` with its inputs and outputs as flat tuples of tensors."""

    def __init__(self, cell: Callable[..., tuple[Tensor, Any]], spec: Any) -> None:
        self.cell = cell
        self.spec = spec
        self.output_spec: Any = None
        self.there: list[bool] = []

    def __call__(self, context: Tensor, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        here = () if self.spec is None else (tree_unflatten(list(inputs), self.spec),)
        result = self.cell(context, *here)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                "gtm.unroll: the cell must return a pair, what is to be written and what is wanted "
                f"of the step, got {type(result).__name__}"
            )
        latent, wanted = result
        outputs, self.output_spec = tree_flatten(wanted)
        self.there = [output is not None for output in outputs]
        batch_shape = broadcast_batch(context.shape[:-1], latent.shape[:-1])
        return latent, latent.expand(*batch_shape, -1), *(o for o in outputs if o is not None)

    def unflatten(self, outputs: Sequence[Tensor]) -> Any:
        rest = iter(outputs)
        leaves = [next(rest) if there else None for there in self.there]
        return tree_unflatten(leaves, self.output_spec)


def _no_memory(effect: str) -> NoReturn:
    raise NoMemoryError(
        f"gtm.{effect}: no memory handler is active; wrap the program in gtm.use_memory(memory) "
        "(poutine.block hides it from the inside)"
    )
