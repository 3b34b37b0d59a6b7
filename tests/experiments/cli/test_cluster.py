"""``pyro-gtm compare --cluster``: what is refused, and a comparison by jobs."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMPARE = "compare --preset debug --list-length 2 --recall-length 1 -n 2 --device cpu -o out"


def test_options_of_a_job_are_refused_where_there_is_none(command_line):
    command_line.refuses(f"{COMPARE} --cluster-option time=3", "must be left out without --cluster")
    command_line.refuses(f"{COMPARE} --cluster pbs", "'pbs' is not one of 'slurm', 'local'")


@pytest.mark.slow
def test_each_run_is_a_job_and_the_table_is_the_same(folder, environment):
    pytest.importorskip("submitit", reason="needs the extra cluster")
    line = f"{COMPARE} --memory vrnn --memory ntm --seeds 1"
    tables = []
    for options in ("--cluster local --cluster-option time=5", "--jobs 2"):
        result = subprocess.run(
            [sys.executable, "-m", "pyro_gtm", *line.split(), *options.split()],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        if "local" in options:
            assert "perfect_recall-ntm-0 is submitted, to step 2" in result.stdout
        tables.append((folder / "out/results.md").read_text())
        (folder / "out").rename(folder / options.split()[0])
    assert tables[0] == tables[1]
