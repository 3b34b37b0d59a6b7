"""The handler that asks: was it the memory?"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from pyro.poutine.messenger import Messenger

from pyro_gtm.memory import MemoryModule, MemoryStep

__all__ = ["lesion_memory"]


class lesion_memory(Messenger):
    """Cut reads: in the chosen steps, the chosen heads read zeros.

    What the memory stores and how its controller moves are untouched, so that what changes is
    caused by the missing reads.  For the VRNN, which has no reads, the context h_t itself is cut.

    ::

        with gtm.lesion_memory(steps=range(10, 15)):
            guide(frames)  # the recall happens without its memory

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

    def _pyro_gtm_read(self, msg: dict[str, Any]) -> None:
        msg.setdefault("interventions", []).append(self._cut)

    def _cut(self, memory: MemoryModule, step: int, result: MemoryStep) -> MemoryStep:
        count = memory.read_shape[0]
        if self.heads is not None and not all(0 <= head < count for head in self.heads):
            raise ValueError(
                f"lesion_memory: heads must lie in 0..{count - 1} for this memory, got {self.heads}"
            )
        if self.steps is not None and step not in self.steps:
            return result
        state, context = memory.cut_reads(result.state, result.context, self.heads)
        return result._replace(state=state, context=context)


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
