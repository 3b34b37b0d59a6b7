"""``pyro-gtm evaluate``: a trained model on its own sequences, or longer ones."""

from __future__ import annotations

import json

import pytest

from pyro_gtm.experiments.run_folder import summary_in


def evaluation_in(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_it_says_again_what_the_summary_says(run, command_line):
    before = command_line.files(run)
    result = command_line.succeeds("evaluate run")
    after = command_line.files(run)
    assert {name: after[name] for name in before} == before, "nothing of the run changes"
    written = {str(name) for name in after.keys() - before.keys()}
    names = ("evaluation.json", "kl_per_frame.png", "frames.png", "attention.png")
    assert written == {"evaluation", *(f"evaluation/{name}" for name in names)}
    assert result.output.split()[-4:] == [f"run/evaluation/{name}" for name in names]

    summary = summary_in(run)
    evaluation = evaluation_in(run / "evaluation")
    del summary["steps_per_second"], summary["provenance"], summary["metrics"]
    assert evaluation.pop("trained_with") == summary["task_options"]
    assert evaluation.pop("memory_options") == {"hidden_dim": 16, "heads": 2}
    assert (evaluation.pop("sequences"), evaluation.pop("sequences_seed")) == (16, 170204649)
    assert evaluation == summary


def test_it_asks_for_another_length(lru_run, folder, command_line):
    """Trained on lists of four, asked for six: the memory stays as it was trained."""
    result = command_line.succeeds(
        "evaluate run --list-length 6 --num-sequences 5 --particles 2 --seed 1"
    )
    (where,) = lru_run.glob("evaluation*")
    assert where.name == "evaluation-list_length=6-num_sequences=5-particles=2-seed=1"
    assert "held-out sequences of 8 frames" in result.output
    evaluation = evaluation_in(where)
    assert evaluation["trained_with"] == {"list_length": 4, "recall_length": 2}
    assert evaluation["task_options"] == {"list_length": 6, "recall_length": 2}
    assert len(evaluation["kl_per_frame"]) == len(evaluation["oracle_kl_per_frame"]) == 8
    assert (evaluation["recall_accuracy_frames"], evaluation["particles"]) == (10, 2)

    command_line.succeeds("evaluate run --list-length 6 --memory-option slots=9 -o more/slots")
    with_more = evaluation_in(folder / "more/slots")
    assert with_more["kl_per_frame"] != evaluation["kl_per_frame"]
    assert with_more["memory_options"]["slots"] == 9


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("missing", ["missing holds no run"]),
        ("run --list-length 0", ["--list-length"]),
        ("run --recall-length 5", ["recall_length", "list_length"]),
        ("run --task-option rows=3", ["'perfect_recall' takes no option 'rows'"]),
        ("run --memory-option nope=3", ["'introspective' takes no option 'nope'"]),
        (
            "run --memory-option slots=9",
            ["the weights in run do not fit a memory with slots=9", "introspective depend on it"],
        ),
        ("run --num-sequences 0", ["--num-sequences"]),
        ("run --num-sequences 1000000000000", ["this machine has"]),
        ("run --particles 0", ["--particles"]),
        ("run --particles 1000000000000", ["--particles"]),
        ("run --device nonsense", ["device: got 'nonsense', must be auto"]),
        ("run --output run/config.json", ["--output", "is a file"]),
        ("run --output ''", ["--output", "the name is empty"]),
    ],
)
@pytest.mark.usefixtures("run")
def test_it_refuses(line, words, command_line):
    command_line.refuses(f"evaluate {line}", *words)


def test_another_size_of_frame_is_refused(command_line):
    command_line.succeeds("train --preset debug --task rotation_3d -n 1 -o run")
    command_line.refuses(
        "evaluate run --task-option size=16", "event_shape (3, 16, 16)", "event_shape (3, 8, 8)"
    )
