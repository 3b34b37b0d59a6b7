"""The handlers that ask: was it the memory?

Each takes part in every step of the memory in use, inside or outside of it and in either site
layout; those nearer to the program are asked first.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from typing_extensions import Self

from pyro_gtm.memory import NEVER, MemoryModule, MemoryStep, StepInputs

__all__ = ["Intervention", "freeze_writes", "lesion_memory", "swap_contents"]


class Intervention(Messenger):
    """Base class of handlers that change the steps of the memory in use.

    A subclass overrides :meth:`before`, :meth:`after` or both.
    """

    def _take_part(self, msg: dict[str, Any]) -> None:
        msg.setdefault("interventions", []).append(self)

    _pyro_gtm_read = _take_part
    _pyro_gtm_recurrence = _take_part

    def before(self, memory: MemoryModule, step: int, inputs: StepInputs) -> StepInputs:
        """The inputs that the step is to have instead.

        Args:
            memory: the memory in use.
            step: the number of the step, from 0.
            inputs: those it would have.
        """
        return inputs

    def after(self, memory: MemoryModule, step: int, result: MemoryStep) -> MemoryStep:
        """The result that the step is to have instead; arguments as in :meth:`before`."""
        return result


class _AtChosenSteps(Intervention):
    """An intervention in some steps, which warns if none of those came: a slip in counting would
    otherwise read as "it was not the memory"."""

    def __init__(self) -> None:
        super().__init__()
        self._steps_seen, self._has_acted = 0, False

    def __enter__(self) -> Self:
        self._steps_seen, self._has_acted = 0, False
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        if self._steps_seen and not self._has_acted and exception[0] is None:
            warnings.warn(
                f"{type(self).__name__}: nothing was changed, for none of the {self._steps_seen} "
                "steps taken (counted from 0) was one of those chosen",
                RuntimeWarning,
                stacklevel=2,
            )

    def _acts(self, chosen: bool) -> bool:
        self._steps_seen += 1
        self._has_acted = self._has_acted or chosen
        return chosen


class lesion_memory(_AtChosenSteps):
    """Zero reads: in the chosen steps, the chosen heads read nothing.

    The contents of the memory are untouched, so that what changes is caused by the missing reads.
    A controller that is fed its memory's reads (NTM, LRU, DNC) goes without them too.  For the
    VRNN, which has no reads, the context h_t itself is zeroed.

    ::

        with gtm.lesion_memory(steps=range(10, 15)):
            guide(frames)  # the recall happens without its memory

    Args:
        steps: the steps in which reads are zeroed, from 0; all of them if None.
        heads: the heads concerned, from 0; all of them if None.

    Raises:
        ValueError: steps or heads are no collection of non-negative integers, or the memory has no
            such head.
    """

    def __init__(
        self, steps: Iterable[int] | None = None, heads: Iterable[int] | None = None
    ) -> None:
        super().__init__()
        self.steps = None if steps is None else _numbers("steps", steps)
        self.heads = None if heads is None else sorted(_numbers("heads", heads))

    def after(self, memory: MemoryModule, step: int, result: MemoryStep) -> MemoryStep:
        count = memory.read_shape[0]
        if self.heads is not None and self.heads and self.heads[-1] >= count:
            raise ValueError(
                f"lesion_memory: heads {self.heads} given, this memory has heads 0..{count - 1}"
            )
        if self.steps == frozenset() or self.heads == []:
            self._has_acted = True  # nothing was chosen, on purpose
            return result
        if not self._acts(self.steps is None or step in self.steps):
            return result
        state, context = memory.zero_reads(result.state, result.context, self.heads)
        details = result.details
        if result.log_shares is not None:
            shares = result.log_shares
            silent = torch.tensor(
                [*range(count)] if self.heads is None else self.heads, device=shares.device
            )
            details = {**details, "log_shares": shares.index_fill(-2, silent, NEVER)}
        return MemoryStep(state, context, details)


class freeze_writes(_AtChosenSteps):
    """Keep the memory from writing, from some step on.

    The step's own write is the first to be missing: the contents from then on are z_t of
    t < from_step - 1.  The controller still sees each latent; but for the VRNN, whose controller is
    its memory, the context stands still.

    Args:
        from_step: the first step without a write.

    Raises:
        ValueError: from_step is no non-negative integer.
        NotImplementedError: the step of the memory in use takes no ``write=False``.
    """

    def __init__(self, from_step: int = 0) -> None:
        super().__init__()
        self.from_step = _number("freeze_writes", "from_step", from_step)

    def before(self, memory: MemoryModule, step: int, inputs: StepInputs) -> StepInputs:
        if "write" not in inspect.signature(memory.step).parameters:
            raise NotImplementedError(
                f"freeze_writes: {type(memory).__name__} cannot be kept from writing, for its step "
                "takes no argument 'write'"
            )
        acts = self._acts(step >= self.from_step)
        return inputs._replace(write=inputs.write and not acts)


class swap_contents(_AtChosenSteps):
    """Exchange the contents of two sequences' memories, before one step.

    Contents, usage, links and the places of heads are exchanged; each sequence keeps its
    controller, and the latent that is about to be written.  For the VRNN, whose controller is its
    memory, that is exchanged.  If recall is caused by the memory, each goes on with the other's
    frames.

    Args:
        first: a sequence, by its index in the last batch dimension.
        second: another.
        at_step: the step before which the exchange happens.

    Raises:
        ValueError: an argument is no non-negative integer, both sequences are the same, or the
            batch has no such sequence.
    """

    def __init__(self, first: int, second: int, at_step: int) -> None:
        super().__init__()
        self.first = _number("swap_contents", "first", first)
        self.second = _number("swap_contents", "second", second)
        self.at_step = _number("swap_contents", "at_step", at_step)
        if first == second:
            raise ValueError(f"swap_contents: first and second are both {first}, and must differ")

    def before(self, memory: MemoryModule, step: int, inputs: StepInputs) -> StepInputs:
        if not self._acts(step == self.at_step):
            return inputs
        sequences = inputs.latent.shape[-2] if inputs.latent.dim() > 1 else 0
        if max(self.first, self.second) >= sequences:
            raise ValueError(
                f"swap_contents: first={self.first} and second={self.second} given, both must lie "
                f"below the number of sequences in a batch, {sequences}"
            )
        state = memory.swap_contents(inputs.state, self.first, self.second)
        return inputs._replace(state=state, swapped=(*inputs.swapped, (self.first, self.second)))


def _number(handler: str, name: str, given: int) -> int:
    try:
        number = operator.index(given)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"{handler}: {name} must be a non-negative integer, got {given!r}")
    return number


def _numbers(name: str, given: Iterable[int]) -> frozenset[int]:
    refusal = ValueError(
        f"lesion_memory: {name} must be a collection of non-negative integers, got {given!r}"
    )
    try:
        numbers = frozenset(operator.index(number) for number in given)
    except TypeError as error:
        raise refusal from error
    if any(number < 0 for number in numbers):
        raise refusal
    return numbers
