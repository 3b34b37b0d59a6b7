"""A run takes no more memory the longer it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STATM = Path("/proc/self/statm")

TRAIN = """
import os, sys
from pathlib import Path

import torch

from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.run import Run

torch.set_num_threads(1)
folder, memory, first, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = make_config(
    "debug", memory=memory, num_steps=last, eval_every=100, save_every=100, log_every=10
)
resident = {}


def look(row):
    if "loss" in row and row["step"] in (first, last):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident[row["step"]] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20


Run.start(folder, config).train(look)
print(resident[first], resident[last])
"""


def growth(folder: Path, memory: str, first: int, last: int) -> float:
    """MiB of resident memory that a run of its own process gains between two steps."""
    command = [sys.executable, "-c", TRAIN, str(folder / "run"), memory, str(first), str(last)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    before, after = map(float, done.stdout.split())
    print(f"{memory}: {before:.1f} MiB after {first} steps, {after:.1f} after {last}")
    return after - before


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("memory", ["dnc", "associative"])
def test_memory_is_flat_over_3000_steps(memory, tmp_path):
    assert growth(tmp_path, memory, 500, 3000) < 8


@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
def test_memory_is_flat_over_300_steps(tmp_path):
    assert growth(tmp_path, "vrnn", 150, 300) < 8
