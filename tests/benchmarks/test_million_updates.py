"""Whole training: what is timed, and what it takes for two ways of training to agree."""

from __future__ import annotations

import importlib.util
import os
import signal
import statistics
import sys
import warnings
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import pyro_gtm as gtm
from pyro_gtm.experiments.build import Experiment, build_experiment
from pyro_gtm.experiments.config import make_config

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SPEC = importlib.util.spec_from_file_location("million_updates", FOLDER / "million_updates.py")
million_updates = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = million_updates
SPEC.loader.exec_module(million_updates)

TINY = "--memory vrnn --preset debug -b 2 --device cpu"
WARM_UP = million_updates.WARM_UP


@pytest.fixture
def experiment():
    return build_experiment(make_config("debug", memory="vrnn", batch_size=2, device="cpu"))


@pytest.fixture
def clock(monkeypatch):
    """Training steps that train nothing: 100 s each in the warm-up, and half a second after."""
    now = [0.0]

    def steps(svi, draw, *, num_steps, **options):
        for step in range(1, num_steps + 1):
            now[0] += 100.0 if step <= WARM_UP else 0.5
            yield step, 1.0

    monkeypatch.setattr(million_updates, "training_steps", steps)
    monkeypatch.setattr(million_updates.time, "perf_counter", lambda: now[0])


@pytest.fixture
def interrupted(monkeypatch):
    """Have Ctrl-C pressed while the batch of such a number is drawn."""

    def interrupt(number):
        drawn = []
        draw = Experiment.draw

        def interrupting(experiment):
            drawn.append(experiment)
            if len(drawn) == number:
                os.kill(os.getpid(), signal.SIGINT)
            return draw(experiment)

        monkeypatch.setattr(Experiment, "draw", interrupting)

    return interrupt


def run(arguments):
    return CliRunner().invoke(million_updates.main, [*TINY.split(), *arguments.split()])


def test_the_warm_up_is_not_timed(clock, experiment):
    speed = million_updates.measure_speed(experiment, experiment.svi, 6, [])
    assert (speed.kind, speed.updates, speed.rate) == ("plain SVI", 6, 2.0)
    assert speed.minutes == pytest.approx(500_000 / 60)


def test_a_step_is_called_captured_where_nothing_says_otherwise(clock, experiment):
    svi = million_updates.captured_svi(experiment)
    assert million_updates.measure_speed(experiment, svi, 1, []).kind == "captured"


def test_a_step_that_is_not_captured_says_why_in_a_sentence(experiment):
    svi = million_updates.captured_svi(experiment)
    speed = million_updates.measure_speed(experiment, svi, 1, [])
    assert speed.kind == "one by one"
    (reason,) = speed.reasons
    assert reason.endswith("the device is cpu, and only CUDA has such graphs")


def test_other_warnings_are_shown():
    with (
        pytest.warns(UserWarning, match="something else"),
        million_updates.noting_captures(reasons := []),
    ):
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert reasons == []


def test_stopping_within_a_block_counts_the_steps_taken(experiment):
    """Those of a block are given one by one when all are taken."""
    stop = []
    draw, drawn = experiment.draw, []

    def drawing():
        drawn.append(1)
        if len(drawn) == WARM_UP + 3:
            stop.append(signal.SIGINT)
        return draw()

    experiment.draw = drawing
    svi = million_updates.captured_svi(experiment)
    speed = million_updates.measure_speed(experiment, svi, 50, stop)
    assert (speed.updates, len(drawn)) == (3, WARM_UP + 3)
    assert speed.seconds > 0


def test_stopping_in_the_warm_up_measures_nothing(experiment):
    assert million_updates.measure_speed(experiment, experiment.svi, 5, [signal.SIGINT]) is None


def test_a_row_has_rate_projection_and_ratio():
    speed = million_updates.Speed("captured", 20_000, 100.0, [])
    plain = million_updates.Speed("plain SVI", 50, 5.0, [])
    assert million_updates.speed_row("dnc", speed, plain).split() == (
        ["dnc", "20,000", "200.0", "83.3", "min", "10.0", "20.00", "captured"]
    )
    assert million_updates.speed_row("dnc", speed, None).split()[5:7] == ["-", "-"]


def test_a_row_for_each_memory_with_the_plain_step_beside_it(clock):
    result = run("--memory lru --updates 2 --also-eager 3")
    assert result.exit_code == 0, result.output
    first, note, _, *rows = result.output.splitlines()
    assert "(4, 2), batches of 2, preset debug, mlp, float32, matmul precision highest" in first
    assert f"PyTorch {torch.__version__}" in first
    assert "nothing is captured" in note
    assert [row.split(maxsplit=2)[:2] for row in rows] == [["vrnn", "2"], ["lru", "2"]]
    for row in rows:
        assert row.endswith("2.0      8,333.3 min              2.0    1.00  plain SVI")


def test_training_that_diverges_is_a_sentence(monkeypatch):
    def spoilt(config):
        experiment = build_experiment(config)
        next(experiment.memory.parameters()).data.fill_(float("nan"))
        return experiment

    monkeypatch.setattr(million_updates, "build_experiment", spoilt)
    result = run("--updates 2")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: vrnn: training stopped in step 1: ")


def test_ctrl_c_ends_with_what_was_measured(interrupted):
    interrupted(WARM_UP + 2)
    result = run("--memory lru --updates 1000")
    assert result.exit_code == 128 + signal.SIGINT
    *_, row, end = result.output.splitlines()
    assert row.split()[:2] == ["vrnn", "2"]
    assert end.startswith("Stopped")


def test_ctrl_c_leaves_out_the_pair_that_it_cut(interrupted):
    interrupted(4 * 10 + 3)  # the third seed's
    result = run("--curves 10 --seeds 4")
    assert result.exit_code == 128 + signal.SIGINT
    assert "vrnn: over 2 seeds the curves agree" in result.output
    assert "seed 2" not in result.output


def test_ctrl_c_before_two_seeds_tells_nothing(interrupted):
    interrupted(3)
    result = run("--curves 10")
    assert result.exit_code == 128 + signal.SIGINT
    assert "stopped before two seeds were trained" in result.output


def test_windows_hold_means_and_the_standard_error_over_seeds(float64):
    plain = 100 + torch.randn(3, 25)
    captured = 101 + torch.randn(3, 25)
    windows = million_updates.compare(plain, captured)
    spans = [range(window.first, window.last + 1) for window in windows]
    assert [step for span in spans for step in span] == list(range(1, 26))
    assert {len(span) for span in spans} == {2, 3}
    for window, span in zip(windows, spans, strict=True):
        means = [
            [statistics.mean(curve[step - 1] for step in span) for curve in curves.tolist()]
            for curves in (plain, captured)
        ]
        differences = [other - one for one, other in zip(*means, strict=True)]
        assert window.plain == pytest.approx(statistics.mean(means[0]), rel=1e-12)
        assert window.captured == pytest.approx(statistics.mean(means[1]), rel=1e-12)
        assert window.difference == pytest.approx(statistics.mean(differences), rel=1e-9)
        assert window.error == pytest.approx(statistics.stdev(differences) / 3**0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("difference", "error", "within_errors", "within_rounding"),
    [
        (0.0, 0.0, True, True),
        (-0.29, 0.1, True, False),
        (0.31, 0.1, False, False),
        (-0.31, 0.1, False, False),
        (0.0009, 1e-6, True, True),
        (0.0011, 1e-6, False, False),
        (float("nan"), 0.1, False, False),
    ],
)
def test_what_agrees(difference, error, within_errors, within_rounding):
    """Rounding of a bound of 100 nats is 0.001."""
    window = million_updates.Window(1, 2, 100.0, 100.0 + difference, difference, error)
    assert window.agrees(rounding_only=False) is within_errors
    assert window.agrees(rounding_only=True) is within_rounding


def test_both_ways_train_alike():
    result = run("--curves 20 --seeds 2")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "the step that CUDA would capture, here taken one by one" in lines[1]
    rows = [line.split() for line in lines if line.endswith(" agree")]
    assert [row[0] for row in rows] == [f"{step}-{step + 1}" for step in range(1, 20, 2)]
    assert float(rows[0][1]) > 1.1 * float(rows[-1][1]), "it is trained"
    assert (
        lines[-1] == "vrnn: over 2 seeds the curves agree within 1e-05 of the bound in 10 windows"
    )


def test_a_way_that_trains_otherwise_is_found(monkeypatch):
    def slower(experiment):
        experiment.optimizer = gtm.optim.Adam(lr=1e-3, clip_norm=10.0)
        return captured_svi(experiment)

    captured_svi = million_updates.captured_svi
    monkeypatch.setattr(million_updates, "captured_svi", slower)
    result = run("--curves 20 --seeds 2")
    assert result.exit_code == 1
    assert "DIFFER by more than 1e-05 of the bound in 10 of 10 windows" in result.output
    assert "with vrnn CapturedSVI does not train as SVI does" in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--memory none", "'none' is not one of"),
        ("--updates 0", "0 is not in the range x>=1"),
        ("--curves 9", "9 is not in the range x>=10"),
        ("--curves 10 --seeds 1", "1 is not in the range x>=2"),
        ("--seeds 4", "--seeds needs --curves"),
        ("--curves 10 --updates 5", "--updates times updates, and is not allowed with --curves"),
        ("--curves 10 --also-eager 5", "--also-eager times updates"),
        ("-b 100000000", "choose fewer sequences"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(arguments, words):
    result = run(arguments)
    assert result.exit_code == 2
    assert words in result.output.splitlines()[-1]
