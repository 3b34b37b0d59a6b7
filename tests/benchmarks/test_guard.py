"""The guard lets noise pass and a slower library not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import guard

LOOP, SCAN = "hand-written", "XLA scan"
DEFAULT = {name: [LOOP] for name in guard.MEMORIES} | {
    name: [LOOP, SCAN] for name in ("introspective", "dnc")
}


class Measured:
    """Ratios that are told for every try, and what was measured: in each try, by memory."""

    def __init__(self, ratios):
        self.ratios = ratios
        self.tries = {}

    def __call__(self, memory, rivals, turns):
        tries = self.tries.setdefault(memory, [])
        tries.append(list(rivals))
        return {rival: self.ratios[rival][len(tries) - 1] for rival in rivals}


@pytest.fixture
def run(monkeypatch):
    """Run the command, with the ratios to the loop and to the scan of each try."""

    def run(to_loop, *arguments, to_scan=(1.0,)):
        measured = Measured({LOOP: to_loop, SCAN: to_scan})
        monkeypatch.setattr(guard, "measured_ratios", measured)
        result = CliRunner().invoke(guard.main, list(arguments))
        return result, measured.tries

    return run


@pytest.fixture(autouse=True)
def jax_is_there(monkeypatch):
    """Whether it is or not; and threads stay as they are."""
    monkeypatch.setattr(guard.backend, "why_not", lambda device: None)
    monkeypatch.setattr(guard.backend, "configure", lambda threads: None)
    monkeypatch.setattr(guard.torch, "set_num_threads", lambda number: None)


@pytest.fixture(autouse=True)
def recorded(monkeypatch, tmp_path):
    path = tmp_path / "guard.json"
    ones = dict.fromkeys(guard.MEMORIES, 1.0)
    path.write_text(json.dumps({LOOP: ones, SCAN: ones}))
    monkeypatch.setattr(guard, "RECORDED", path)
    return path


def test_a_good_try_is_enough(run):
    result, tries = run([1.19, 9.0], to_scan=[1.19, 9.0])
    assert result.exit_code == 0
    assert tries == {name: [rivals] for name, rivals in DEFAULT.items()}


def test_noise_in_two_tries_passes(run):
    result, tries = run([1.5, 1.3, 1.1], "--memory", "vrnn")
    assert result.exit_code == 0 and tries == {"vrnn": [[LOOP]] * 3}


def test_slower_in_all_tries_fails_and_names_the_memories(run):
    result, tries = run([1.21, 1.3, 1.25])
    assert result.exit_code == 1
    assert all(len(of_one) == 3 for of_one in tries.values())
    message = result.output.splitlines()[-1]
    assert all(f"{name} to hand-written" in message for name in guard.MEMORIES)
    assert "slower by more than 20%" in message and SCAN not in message


def test_slower_than_the_scan_alone_fails_too(run):
    """The loop, of which a try has passed, is not measured again."""
    result, tries = run([1.0], "--memory", "dnc", to_scan=[1.3, 1.3, 1.3])
    assert result.exit_code == 1
    assert tries == {"dnc": [[LOOP, SCAN], [SCAN], [SCAN]]}
    assert result.output.splitlines()[-1].endswith("by more than 20%: dnc to XLA scan")


def test_each_rival_passes_by_a_try_of_its_own(run):
    result, tries = run([1.3, 1.1], "--memory", "dnc", to_scan=[1.1, 1.3])
    assert result.exit_code == 0 and tries == {"dnc": [[LOOP, SCAN], [LOOP]]}


def test_all_memories_against_the_scan(run):
    result, tries = run([1.0], "--all-scans")
    assert result.exit_code == 0
    assert tries == {name: [[LOOP, SCAN]] for name in guard.MEMORIES}


def test_without_jax_a_sentence_says_so_and_the_loop_is_left(run, monkeypatch):
    monkeypatch.setattr(guard.backend, "why_not", lambda device: "JAX is not installed.")
    result, tries = run([1.0])
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == "No XLA scan: JAX is not installed."
    assert tries == {name: [[LOOP]] for name in guard.MEMORIES}


def test_what_has_no_record_is_named(run, recorded):
    recorded.write_text(json.dumps({LOOP: {"dnc": 1.0}}))
    result, tries = run([1.0], "--memory", "dnc", "--memory", "vrnn")
    assert result.exit_code == 1 and not tries
    assert "has no dnc to XLA scan, vrnn to hand-written: record with --write" in result.output


def test_recording_leaves_the_others_as_they_were(run, recorded):
    result, _ = run([0.98765], "--write", "--memory", "dnc", "--memory", "ntm", to_scan=[1.23456])
    assert result.exit_code == 0
    ones = dict.fromkeys(guard.MEMORIES, 1.0)
    assert json.loads(recorded.read_text()) == {
        LOOP: ones | {"dnc": 0.988, "ntm": 0.988},
        SCAN: ones | {"dnc": 1.235},
    }


def test_every_memory_is_recorded_in_the_repository():
    found = json.loads(Path(guard.__file__).with_name("guard.json").read_text())
    assert set(found) == {LOOP, SCAN}
    for rival, most in ((LOOP, 1.5), (SCAN, 2)):
        assert set(found[rival]) == set(guard.MEMORIES)
        assert all(0.5 < value < most for value in found[rival].values())


@pytest.fixture
def a_second_a_reading(monkeypatch):
    """A clock of which each reading is a second after the one before, and small networks."""
    readings = iter(range(10**6))
    monkeypatch.setattr(guard.time, "process_time", lambda: float(next(readings)))
    monkeypatch.setattr(guard, "SIZES", guard.Sizes(2, 4, 4, slots=3, heads=2))


@pytest.mark.usefixtures("a_second_a_reading")
def test_both_steps_are_timed():
    assert guard.measured_ratios("vrnn", [LOOP], turns=1) == {LOOP: 1.0}


@pytest.mark.usefixtures("a_second_a_reading")
def test_the_scan_is_timed():
    pytest.importorskip("jax", reason="needs the extra 'benchmark': JAX is not installed")
    assert guard.measured_ratios("vrnn", [LOOP, SCAN], turns=1) == {LOOP: 1.0, SCAN: 1.0}
