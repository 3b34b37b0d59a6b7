"""``kill -9`` at random moments: what goes on afterwards ends as if nothing had been."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal

import pytest

from pyro_gtm.experiments.run_folder import held_folder
from pyro_gtm.internals import files

FEW_AND_MANY = [1, pytest.param(50, marks=pytest.mark.slow)]
OPERATIONS = ("fsync", "replace")
SEEN = "`--resume` goes on; a note on the lock"


def killing_itself(at, after):
    """Prepare a process to be killed at the n-th time that it puts a file on the disk.

    Args:
        at: counts calls of ``fsync`` and ``replace``.
        after: kill it after the call rather than before.
    """

    def prepare():
        calls = []

        def hook(function):
            def called(*arguments):
                calls.append(1)
                if len(calls) == at and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                function(*arguments)
                if len(calls) == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            return called

        class Killing:
            def __getattr__(self, name):
                value = getattr(os, name)
                return hook(value) if name in OPERATIONS else value

        files.os = Killing()

    return prepare


@pytest.mark.parametrize("tries", FEW_AND_MANY)
def test_a_run_killed_at_a_random_moment(tries, tmp_path, command, reference, outcome, tally):
    """By the clock, from its first instruction to its last figure; the resumed run as well."""
    chance, killed, resumed, seconds = random.Random(tries), 0, 0, reference.seconds
    for number in itertools.count():
        if killed >= tries and resumed >= tries:
            break
        folder = tmp_path / f"run{number}"
        line = f"{reference.line} {folder}"
        killed += command(line, wait=False).kill(chance.uniform(0, seconds)).killed
        if (folder / "config.json").exists():  # else it is begun again
            line = f"train --resume {folder}"
            resumed += command(line, wait=False).kill(chance.uniform(0, seconds)).killed
        ended = command(line)
        assert ended.code == 0, ended.output
        assert outcome(folder) == reference.outcome
        assert not (folder / "lock").exists()
        shutil.rmtree(folder)
        seconds = min(seconds, ended.seconds + 0.1)
    tally("kill -9 of `train`, at a random moment", killed, SEEN)
    tally("kill -9 of `train --resume`, at a random moment", resumed, SEEN)


@pytest.mark.parametrize("tries", FEW_AND_MANY)
def test_a_run_killed_while_it_writes(tries, tmp_path, command, reference, outcome, tally):
    """Before or after any ``fsync`` or ``rename`` of a checkpoint, a record or a figure."""
    chance, killed = random.Random(tries), 0
    for number in itertools.count():
        if killed >= tries:
            break
        folder = tmp_path / f"run{number}"
        line = f"{reference.line} {folder}"
        for _ in range(2):
            prepare = killing_itself(chance.randint(1, 30), chance.random() < 0.5)
            killed += command(line, prepare).killed
            if (folder / "config.json").exists():
                line = f"train --resume {folder}"
        ended = command(line)
        assert ended.code == 0, ended.output
        assert outcome(folder) == reference.outcome
        assert not (folder / "lock").exists()
        shutil.rmtree(folder)
    tally("kill -9 while a file is written or renamed", killed, SEEN)


@pytest.mark.slow
@pytest.mark.parametrize("tries", [50])
def test_a_comparison_killed_at_a_random_moment(
    tries, tmp_path, options, command, forked_runs, outcome, tally
):
    """The command alone, whose runs save and end by themselves, or all its processes."""
    line = f"compare --memory vrnn --seeds 2 --jobs 2 {options} --output"
    whole = command(f"{line} whole", forked_runs)
    assert whole.code == 0, whole.output
    names = ("perfect_recall-vrnn-0", "perfect_recall-vrnn-1")
    expected = {name: outcome(tmp_path / "whole" / name) for name in names}
    table = (tmp_path / "whole" / "results.csv").read_bytes()
    picture = (tmp_path / "whole" / "perfect_recall.png").read_bytes()
    chance, alone, together = random.Random(tries), 0, 0
    for number in itertools.count():
        if alone >= tries and together >= tries:
            break
        folder = tmp_path / f"comparison{number}"
        for _ in range(2):
            process = command(f"{line} {folder}", forked_runs, wait=False)
            group = number % 2 == 0
            killed = process.kill(chance.uniform(0, whole.seconds), group).killed
            alone, together = alone + (killed and not group), together + (killed and group)
        ended = command(f"{line} {folder}", forked_runs)
        assert ended.code == 0, ended.output
        for name in names:
            with held_folder(folder / name, wait=60):  # a run that was left may still end
                left = outcome(folder / name)
            for what, value in left.items():
                assert value == expected[name][what], (name, what)
        assert (folder / "results.csv").read_bytes() == table
        assert (folder / "perfect_recall.png").read_bytes() == picture
    again = "the same command goes on; a note on each lock"
    tally("kill -9 of `compare` with its runs, at a random moment", together, again)
    tally("kill -9 of `compare` alone: its runs save and end", alone, again)
