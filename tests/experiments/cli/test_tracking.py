"""``--tensorboard`` and ``--quiet``: a run looked at from elsewhere, or not at all."""

from __future__ import annotations

import json
import sys

import pytest


def test_event_files_have_what_the_metrics_have_and_change_nothing(command_line, folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    command_line.train("--memory vrnn -n 4 -o plain --eval-every 2")
    command_line.train("--memory vrnn -n 4 -o watched --eval-every 2 --tensorboard")
    metrics = [(folder / name / "metrics.jsonl").read_text() for name in ("plain", "watched")]
    assert metrics[0] == metrics[1]
    events = accumulator.EventAccumulator(str(folder / "watched" / "tensorboard"))
    events.Reload()
    rows = [json.loads(line) for line in metrics[1].splitlines()]
    for split in ("train", "test"):
        name = f"negative_elbo_per_frame/{split}"
        told = {event.step: event.value for event in events.Scalars(name)}
        expected = {
            row["step"]: row["negative_elbo_per_frame"] for row in rows if row["split"] == split
        }
        assert told == pytest.approx(expected)
    tags = events.Tags()
    assert [event.step for event in events.Images("frames")] == [2, 4]
    assert any(name.startswith("memory/") for name in tags["histograms"])


def test_without_tensorboard_the_option_is_refused_before_anything(command_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    command_line.refuses("train --preset debug --tensorboard", "the package tensorboard")
    command_line.refuses("compare --preset debug --tensorboard", "the package tensorboard")


def test_a_quiet_run_says_where_it_is(command_line):
    assert command_line.train("--memory vrnn -n 2 -o here -q").output == "here\n"
    assert command_line.succeeds("train --resume here -n 3 --quiet").output == "here\n"
    command_line.refuses("train --preset debug -q -o here", "must be empty or new")
