"""The guard lets noise pass and a slower library not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import guard


@pytest.fixture
def run(monkeypatch):
    """Run the command on ratios that are told for every try, and say how many tries there were."""

    def run(ratios, *arguments):
        left = {name: list(ratios) for name in guard.MEMORIES}
        monkeypatch.setattr(guard, "measured_ratio", lambda name, turns: left[name].pop(0))
        monkeypatch.setattr(guard.torch, "set_num_threads", lambda number: None)
        result = CliRunner().invoke(guard.main, list(arguments))
        return result, {len(ratios) - len(rest) for rest in left.values()}

    return run


@pytest.fixture(autouse=True)
def recorded(monkeypatch, tmp_path):
    path = tmp_path / "guard.json"
    path.write_text(json.dumps(dict.fromkeys(guard.MEMORIES, 1.0)))
    monkeypatch.setattr(guard, "RECORDED", path)
    return path


def test_a_good_try_is_enough(run):
    result, tries = run([1.19, 9.0])
    assert result.exit_code == 0 and tries == {1}


def test_noise_in_two_tries_passes(run):
    result, tries = run([1.5, 1.3, 1.1])
    assert result.exit_code == 0 and tries == {3}


def test_slower_in_all_tries_fails_and_names_the_memories(run):
    result, tries = run([1.21, 1.3, 1.25])
    assert result.exit_code == 1 and tries == {3}
    assert all(name in result.output for name in guard.MEMORIES)
    assert "slower by more than 20%" in result.output


def test_a_memory_without_a_record_is_named(run, recorded):
    recorded.write_text("{}")
    result, _ = run([1.0])
    assert (
        result.exit_code == 1
        and "has no associative, dnc, introspective, lru, ntm, vrnn: record with --write" in result.output
    )


def test_recording(run, recorded):
    result, _ = run([0.98765], "--write")
    assert result.exit_code == 0
    assert json.loads(recorded.read_text()) == dict.fromkeys(guard.MEMORIES, 0.988)


def test_every_memory_is_recorded_in_the_repository():
    found = json.loads(Path(guard.__file__).with_name("guard.json").read_text())
    assert set(found) == set(guard.MEMORIES)
    assert all(0.5 < value < 1.5 for value in found.values())


def test_both_steps_are_timed(monkeypatch):
    """On a clock by which each reading is a second after the one before."""
    readings = iter(range(10**6))
    monkeypatch.setattr(guard.time, "process_time", lambda: float(next(readings)))
    assert guard.measured_ratio("vrnn", turns=1) == 1.0
