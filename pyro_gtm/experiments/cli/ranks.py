"""``torchrun ... -m pyro_gtm train``: a command in several processes, of which the first speaks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pyro_gtm.experiments.cli.options import Refused
from pyro_gtm.experiments.run import Interrupted
from pyro_gtm.infer.check_observations import InvalidFramesError
from pyro_gtm.infer.ranks import ALONE, LostRankError, Ranks, joined, started_by_launcher
from pyro_gtm.infer.training import NonFiniteLossError
from pyro_gtm.internals.compiling import CannotCompileError

__all__ = ["launcher", "ranks_of_command", "refuse_several_processes"]


FORESEEN = (
    click.ClickException,
    Interrupted,
    NonFiniteLossError,
    InvalidFramesError,
    LostRankError,
    CannotCompileError,
)
"""What ends a run for all its processes, and is told in a sentence."""


def refuse_several_processes(command: str) -> None:
    """Refuse a command that each of several processes would do the whole of; the first speaks.

    The others end with exit code 0 then, see :func:`ranks_of_command`.
    """
    if not started_by_launcher():
        return
    if os.environ["RANK"] != "0":
        raise SystemExit(0)
    raise Refused(
        f"{command}: got {os.environ['WORLD_SIZE']} processes, of torchrun or the like, each of "
        f"which would do the whole of it: start pyro-gtm {command} once, without a launcher, which "
        "is for train alone"
    )


@contextmanager
def ranks_of_command() -> Iterator[Ranks]:
    """The processes in which this command runs; within it, the first has to say how it ended.

    The others end with exit code 0 then: at any other, ``torchrun`` would end the first before it
    has spoken.  Anything unforeseen is told by the process it befalls.
    """
    if not started_by_launcher():
        yield ALONE
        return
    with joined() as ranks:
        try:
            yield ranks
        except FORESEEN:
            if ranks.first:
                raise


def launcher(ranks: Ranks) -> str:
    """What stands before ``-m pyro_gtm`` to start as many processes on this machine."""
    return f"torchrun --nproc-per-node={os.environ.get('LOCAL_WORLD_SIZE', ranks.size)}"
