"""Where a figure comes from: code, date, kind of machine, versions."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import pyro_gtm

__all__ = ["PACKAGES", "is_cpu", "provenance"]

PACKAGES = ("pyro-ppl", "torch", "numpy")
"""Those whose versions a figure may depend on."""


CORES = "cores"

CODE = ("pyro_gtm", "tasks")
"""Folders of a clone whose files a figure depends on; results and pages it does not."""


def provenance(device: torch.device) -> dict[str, Any]:
    """What to know of a figure that is made now.

    Args:
        device: what it is computed on.

    Returns:
        ``version`` of this package; ``commit``, where it stands in a clone, with a ``+`` where
        its code differs from that of the commit, and None elsewhere; ``date``; ``machine``, its
        kind and never its name; ``threads``; ``python`` and the versions of :data:`PACKAGES`.
    """
    return {
        "version": pyro_gtm.__version__,
        "commit": _commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": _machine(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


@functools.cache  # what this process has imported, whatever is changed in the clone since
def _commit() -> str | None:
    clone = Path(pyro_gtm.__file__).parents[1]
    if not (clone / ".git").exists():  # a clone of something else, in which this is installed
        return None
    try:
        commit = _git(clone, "rev-parse", "--short=7", "HEAD")
        changed = _git(clone, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "+" * bool(changed)


def _git(clone: Path, *arguments: str) -> str:
    command = ["git", "-C", str(clone), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} ({instructions}), {os.cpu_count()} {CORES}"


def is_cpu(machine: str) -> bool:
    """Whether the ``machine`` of a figure's provenance is a CPU, and not a GPU by its name."""
    return machine.endswith(CORES)
