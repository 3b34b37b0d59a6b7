"""The processes that train one model together, and what they say to each other.

They are PyTorch's own: ``torchrun`` starts them, ``torch.distributed`` carries what is said, by
gloo between CPUs and NCCL between GPUs.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, overload

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "TIMEOUT", "LostRankError", "Ranks", "joined", "started_by_launcher"]

T = TypeVar("T")

TIMEOUT = 600.0
"""Seconds after which a rank that does not answer counts as lost; one that has died does at once.

Longer than the first rank may take to evaluate or save, for which the others wait."""

LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What ``torchrun``, and whoever starts processes in its place, tells each in its environment."""


class LostRankError(RuntimeError):
    """Another process of the run has ended, or does not answer."""


@dataclass(frozen=True)
class Ranks:
    """A process among those that train one model; what it says, all of them say at the same point.

    Args:
        rank: its number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """As ``torch.distributed`` has it in this process; alone where it was not initialized."""
        if not (dist.is_available() and dist.is_initialized()):
            return ALONE
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this rank where ``name`` was asked for: each has a GPU of its own.

        Raises:
            ValueError: there are fewer GPUs than ranks on this machine, or one is named for all.
        """
        if self.size == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return name
        if name not in ("auto", "cuda"):
            raise ValueError(
                f"device: got {name!r}, must be auto, cpu or cuda for several processes, each of "
                "which has a device of its own"
            )
        local, there = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
        if local >= there:
            raise ValueError(
                f"device: got {name!r} for process {local + 1} of this machine, must be cpu where "
                f"there are fewer GPUs than processes: PyTorch finds {there}"
            )
        return f"cuda:{local}"

    @overload
    def share(self, batch: Tensor) -> Tensor: ...

    @overload
    def share(self, batch: None) -> None: ...

    def share(self, batch: Tensor | None) -> Tensor | None:
        """This rank's sequences: of a batch ``(T, size * B, ...)`` for all its ``(T, B, ...)``."""
        if batch is None or self.size == 1:
            return batch
        return batch.chunk(self.size, dim=1)[self.rank]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of the same shapes over all ranks, in place, one message for each type."""
        if self.size == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            with _losing_ranks():
                dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in alike])
            for tensor, part in zip(alike, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def broadcast_(self, tensors: Sequence[Tensor]) -> bool:
        """Give all ranks the first one's values, in place; whether that changed any of this one."""
        changed = False
        for tensor in tensors if self.size > 1 else ():
            value = tensor.detach().clone()
            with _losing_ranks():
                dist.broadcast(value, src=0)
            if not value.equal(tensor):
                changed = True
                with torch.no_grad():
                    tensor.copy_(value)
        return changed

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, which can be pickled, in their order."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        with _losing_ranks():
            dist.all_gather_object(gathered, value)
        return gathered

    def greatest(self, number: int) -> int:
        """The greatest of all ranks' numbers."""
        if self.size == 1:
            return number
        greatest = torch.tensor(number)
        with _losing_ranks():
            dist.all_reduce(greatest, dist.ReduceOp.MAX)
        return int(greatest)

    def from_first(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives in the first rank, which alone calls it; all raise its error."""
        values: list[Any] = [None]
        with self.failing_together():
            if self.first:
                values = [compute()]
        if self.size > 1:
            with _losing_ranks():
                dist.broadcast_object_list(values, src=0)
        return values[0]

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Within it an error of one rank is one of all: each raises that of the lowest.

        Nothing may be said to the others within it.
        """
        if self.size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as raised:  # whatever it is, the others must not wait for this rank
            error = raised
        for rank, theirs in enumerate(self.gather(None if error is None else _sendable(error))):
            if theirs is not None:
                raise (error or theirs) if rank == self.rank else theirs


ALONE = Ranks()
"""A process that trains by itself."""


def started_by_launcher() -> bool:
    """Whether this process was started as one of several, by ``torchrun`` perhaps."""
    return all(name in os.environ for name in LAUNCHER) and os.environ["WORLD_SIZE"] != "1"


@contextmanager
def joined(timeout: float = TIMEOUT, init_method: str = "env://", **place: int) -> Iterator[Ranks]:
    """Within it, this process is one of those that were started with it.

    Args:
        timeout: seconds after which a rank that does not answer counts as lost.
        init_method: where they meet, as :func:`torch.distributed.init_process_group` takes it.
        **place: ``rank`` and ``world_size``, where the environment does not tell.

    Raises:
        LostRankError: they do not all come.
    """
    cuda = torch.cuda.is_available() and dist.is_nccl_available()
    if cuda and "LOCAL_RANK" in os.environ:  # before anything is made on the first GPU
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    with _losing_ranks():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=init_method,
            timeout=timedelta(seconds=timeout),
            **place,  # type: ignore[arg-type]
        )
    try:
        yield Ranks.here()
    finally:
        dist.destroy_process_group()


@contextmanager
def _losing_ranks() -> Iterator[None]:
    """Within it, PyTorch's errors of a connection are told as what they mean."""
    try:
        yield
    except RuntimeError as error:  # gloo has no other; of NCCL and the store it is a base class
        raise LostRankError("another process of the run has ended or does not answer") from error


def _sendable(error: Exception) -> Exception:
    """The error itself where it can be pickled, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does there
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
