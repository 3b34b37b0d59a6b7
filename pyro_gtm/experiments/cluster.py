"""Runs of a set as jobs of a cluster, by submitit: Slurm's, or its stand-in on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

from pyro_gtm.experiments.places import Outcome, sigint_ignored

__all__ = ["CLUSTERS", "JOB_OPTIONS", "Cluster"]

CLUSTERS = ("slurm", "local")
"""``local`` starts jobs at once, as processes of this machine."""


class JobOption(NamedTuple):
    """What can be asked for a job."""

    parameter: str
    """Its name to submitit."""

    is_count: bool
    allowed: str


COUNT = "a positive integer"

JOB_OPTIONS = {
    "partition": JobOption("slurm_partition", False, "the name of one"),
    "account": JobOption("slurm_account", False, "the name of one"),
    "time": JobOption("timeout_min", True, f"{COUNT} of minutes"),
    "gpus": JobOption("gpus_per_node", True, COUNT),
    "cpus": JobOption("cpus_per_task", True, COUNT),
    "memory": JobOption("mem_gb", True, f"{COUNT} of GiB"),
}
"""By their names on the command line."""

DEFAULTS: dict[str, Any] = {"time": 24 * 60, "cpus": 1}


class Cluster:
    """A cluster to train runs on, a job each.

    A job whose time is up is submitted anew and goes on from the last checkpoint, up to three
    times.  All machines must see the folder of the runs, the package and the data.

    Args:
        kind: one of :data:`CLUSTERS`.
        folder: for what submitit keeps of the jobs, their logs included.
        options: of each job, see :data:`JOB_OPTIONS`; a day and one CPU where nothing is said.

    Raises:
        ValueError: an unknown kind or option, submitit is not installed, or there is no Slurm.
    """

    begins = "is submitted"

    def __init__(self, kind: str, folder: Path, options: Mapping[str, Any] | None = None) -> None:
        if kind not in CLUSTERS:
            raise ValueError(f"cluster: got {kind!r}, must be one of {', '.join(CLUSTERS)}")
        parameters = _parameters({**DEFAULTS, **(options or {})})
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise ValueError(
                f"cluster: got {kind!r}, must be left out without the package submitit: "
                "`pip install 'pyro_gtm[cluster]'` brings it"
            ) from error
        try:
            self._executor = submitit.AutoExecutor(folder, cluster=kind)
        except RuntimeError as error:
            raise ValueError(
                f"cluster: got {kind!r}, must be 'local' where there is no Slurm: the command "
                "srun is not found"
            ) from error
        self._executor.update_parameters(**parameters)
        self._kind = kind
        self._jobs: dict[str, Any] = {}
        self._refused: list[tuple[str, Outcome]] = []

    def start(self, name: str, work: Callable[..., Outcome], *arguments: Any) -> None:
        """Submit a job; one that is refused has ended at once."""
        from submitit.core.utils import FailedJobError

        self._executor.update_parameters(name=name)
        try:
            with sigint_ignored():  # by jobs of this machine, see there
                self._jobs[name] = self._executor.submit(Job(work, *arguments))
        except FailedJobError as error:
            last = str(error).strip().splitlines()[-1]
            self._refused.append((name, ("failed", {"reason": f"its job was refused: {last}"})))

    def ended(self, seconds: float) -> list[tuple[str, Outcome]]:
        """The jobs that are over."""
        refused, self._refused = self._refused, []
        over = [name for name, job in self._jobs.items() if job.done()]
        if not (over or refused):
            time.sleep(seconds)
        return refused + [(name, _outcome(self._jobs.pop(name))) for name in over]

    def stop(self) -> None:
        """Cancel all jobs, which save where they are in training."""
        for job in self._jobs.values():
            if self._kind == "local":  # submitit would kill them a second later
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(int(job.job_id), signal.SIGTERM)
            else:
                job.cancel(check=False)

    def close(self) -> None:
        """Cancel what there still is: nothing, but for an exception."""
        self.stop()


class Job:
    """Work that can be submitted anew: it goes on where it was saved."""

    def __init__(self, work: Callable[..., Outcome], *arguments: Any) -> None:
        self.work, self.arguments = work, arguments

    def __call__(self) -> Outcome:
        """Do it."""
        return self.work(*self.arguments)

    def checkpoint(self) -> Any:
        """What submitit submits when the time is up, or the job has to make way for another."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _parameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a job as submitit names them.

    Raises:
        ValueError: an unknown one, or an impossible value.
    """
    for name, value in options.items():
        if name not in JOB_OPTIONS:
            raise ValueError(
                f"cluster option: got {name!r}, must be one of {', '.join(JOB_OPTIONS)}"
            )
        option = JOB_OPTIONS[name]
        counts = type(value) is int and value > 0
        if not (counts if option.is_count else isinstance(value, str)):
            raise ValueError(f"cluster option {name}: got {value!r}, must be {option.allowed}")
    return {JOB_OPTIONS[name].parameter: value for name, value in options.items()}


def _outcome(job: Any) -> Outcome:
    """The event that ended a job: as it told, or that it ended without a word."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return cast(Outcome, job.result())
    except (FailedJobError, UncompletedJobError):
        return "failed", {
            "reason": f"its job {job.job_id} ended without a result; {job.paths.stderr} has its "
            "last words"
        }
