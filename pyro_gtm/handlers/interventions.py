"""The handlers that ask: was it the memory?"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from pyro.poutine.messenger import Messenger

from pyro_gtm.handlers.use_memory import StepInputs
from pyro_gtm.memory import MemoryModule, MemoryStep

__all__ = ["lesion_memory"]


class _Lesion(Messenger):
    """A handler that takes part in every step of the memory in use."""

    def _pyro_gtm_read(self, msg: dict[str, Any]) -> None:
        msg.setdefault("interventions", []).append(self)

    def before(self, memory: MemoryModule, step: int, inputs: StepInputs) -> StepInputs:
        return inputs

    def after(self, memory: MemoryModule, step: int, result: MemoryStep) -> MemoryStep:
        return result


class lesion_memory(_Lesion):
    """Cut reads: in the chosen steps, the chosen heads read zeros.

    What the memory stores is untouched, so that what changes is caused by the missing reads.  A
    controller that is fed its memory's reads (NTM, LRU, DNC) goes without them too.  For the VRNN,
    which has no reads, the context h_t itself is cut.

    ::

        with gtm.lesion_memory(steps=range(10, 15)):
            guide(frames)  # the recall happens without its memory

    Two other lesions, used in the same way, leave reading as it is:

    - ``gtm.lesion_memory.freeze_writes(from_step=10)``: nothing is stored any more;
    - ``gtm.lesion_memory.swap(0, 1, at_step=10)``: two sequences of a batch get each other's
      memory.  If recall is caused by the memory, each goes on with the other's frames.

    Args:
        steps: the steps in which reads are cut, from 0; all of them if None.
        heads: the heads cut, from 0; all of them if None.

    Raises:
        ValueError: steps or heads are no collection of whole numbers from 0, or the memory has no
            such head.
    """

    def __init__(
        self, steps: Iterable[int] | None = None, heads: Iterable[int] | None = None
    ) -> None:
        super().__init__()
        self.steps = None if steps is None else _numbers("steps", steps)
        self.heads = None if heads is None else sorted(_numbers("heads", heads))

    @staticmethod
    def freeze_writes(from_step: int = 0) -> _Lesion:
        """A lesion that keeps the memory from storing anything.

        The step's own write is the first to be missing: what the memory holds from then on is
        z_t of t < from_step - 1.  The controller still sees each latent; but for the VRNN, whose
        controller is its memory, the context stands still.

        Args:
            from_step: the first step without a write.

        Raises:
            ValueError: from_step is no whole number from 0.
            NotImplementedError: the memory in use does not define ``step_without_writing``.
        """
        return _FreezeWrites(_number("freeze_writes", "from_step", from_step))

    @staticmethod
    def swap(first: int, second: int, at_step: int) -> _Lesion:
        """A lesion that exchanges what two sequences remember, before one step.

        Contents, usage, links and the places of heads are exchanged; each keeps its controller, and
        the latent that is about to be written.  For the VRNN, whose controller is its memory, that
        is exchanged.

        Args:
            first: a sequence, by its index in the last batch dimension.
            second: another.
            at_step: the step before which the exchange happens.

        Raises:
            ValueError: an argument is no whole number from 0, both sequences are the same, or the
                batch has no such sequence.
        """
        return _Swap(
            _number("swap", "first", first),
            _number("swap", "second", second),
            _number("swap", "at_step", at_step),
        )

    def after(self, memory: MemoryModule, step: int, result: MemoryStep) -> MemoryStep:
        count = memory.read_shape[0]
        if self.heads is not None and not all(0 <= head < count for head in self.heads):
            raise ValueError(
                f"lesion_memory: heads must lie in 0..{count - 1} for this memory, got {self.heads}"
            )
        if self.steps is not None and step not in self.steps:
            return result
        state, context = memory.cut_reads(result.state, result.context, self.heads)
        return result._replace(state=state, context=context)


class _FreezeWrites(_Lesion):
    def __init__(self, from_step: int) -> None:
        super().__init__()
        self.from_step = from_step

    def before(self, memory: MemoryModule, step: int, inputs: StepInputs) -> StepInputs:
        return inputs._replace(writes=inputs.writes and step < self.from_step)


class _Swap(_Lesion):
    def __init__(self, first: int, second: int, at_step: int) -> None:
        super().__init__()
        if first == second:
            raise ValueError(f"lesion_memory.swap: first and second are both {first}")
        self.first, self.second, self.at_step = first, second, at_step

    def before(self, memory: MemoryModule, step: int, inputs: StepInputs) -> StepInputs:
        if step != self.at_step:
            return inputs
        sequences = inputs.latent.shape[-2] if inputs.latent.dim() > 1 else 0
        if max(self.first, self.second) >= sequences:
            raise ValueError(
                f"lesion_memory.swap: first={self.first} and second={self.second} must lie below "
                f"the number of sequences in a batch, {sequences}"
            )
        state = memory.swap_remembered(inputs.state, self.first, self.second)
        return inputs._replace(state=state)


def _number(function: str, name: str, given: int) -> int:
    try:
        number = operator.index(given)
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(
            f"lesion_memory.{function}: {name} must be a whole number from 0, got {given!r}"
        )
    return number


def _numbers(name: str, given: Iterable[int]) -> frozenset[int]:
    refusal = ValueError(
        f"lesion_memory: {name} must be a collection of whole numbers from 0, got {given!r}"
    )
    try:
        numbers = frozenset(operator.index(number) for number in given)
    except TypeError as error:
        raise refusal from error
    if name == "steps" and any(number < 0 for number in numbers):
        raise refusal  # a head is compared with the memory's heads, once that is known
    return numbers
