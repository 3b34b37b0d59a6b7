"""A run of several processes: one folder, one writer, and exact to go on with.

Processes are forked here; ``cli/test_ranks.py`` has ``torchrun`` itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest
import torch

from pyro_gtm.experiments.build import build_experiment
from pyro_gtm.experiments.checkpoint_file import load_checkpoint
from pyro_gtm.experiments.config import make_config
from pyro_gtm.experiments.distributed_run import DistributedRun
from pyro_gtm.experiments.run import FolderTakenError, Interrupted, Run, RunError
from pyro_gtm.infer.check_observations import InvalidFramesError
from pyro_gtm.infer.ranks import LostRankError

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
STEPS = 8  # logs after 3, 6, 8; evaluations after 4, 8; checkpoints after 3, 6, 8
SIZES = {"task_options": {"list_length": 7, "recall_length": 2}}
KINDS = {
    "vrnn": {},
    "curriculum by recall KL": {**SIZES, "curriculum": "recall-kl", "memory": "introspective"},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("pyro_gtm.internals.files.os.fsync", lambda descriptor: None)


def tiny(ranks=2, **overrides):
    settings = {
        "memory": "vrnn",
        "task_options": {"list_length": 2, "recall_length": 1},
        "latent_dim": 3,
        "hidden_dim": 6,
        "num_steps": STEPS,
        "batch_size": 2,
        "log_every": 3,
        "eval_every": 4,
        "eval_sequences": 4,
        "save_every": 3,
        "device": "cpu",
        "ranks": ranks,
    }
    return make_config("debug", **{**settings, **overrides})


def comparable(value):
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {key: comparable(entry) for key, entry in value.items()}
    return [comparable(entry) for entry in value] if isinstance(value, list) else value


def outcome(folder):
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    return {
        "metrics": (folder / "metrics.jsonl").read_bytes(),
        "config": (folder / "config.json").read_text(),
        "state": comparable(load_checkpoint(newest)),
    }


def at(step, act):
    return lambda row: act() if row["step"] == step and "split" not in row else None


def whole(in_ranks, folder, **overrides):
    """What a run that nothing stops leaves."""
    in_ranks(lambda ranks: DistributedRun.start(folder, tiny(ranks.size, **overrides)).train())
    return outcome(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_by_a_signal_to_one_rank_all_go_on_exactly(kind, in_ranks, tmp_path):
    expected = whole(in_ranks, tmp_path / "whole", **KINDS[kind])
    folder = tmp_path / "run"

    def stopped(ranks):
        run = DistributedRun.start(folder, tiny(**KINDS[kind]))
        told = at(2, lambda: ranks.rank == 1 and os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted) as caught:
            run.train(told)
        return caught.value.step, caught.value.signal

    def resumed(ranks):
        torch.manual_seed(999 + ranks.rank)  # another process would have another state
        run = DistributedRun.resume(folder, ranks=2)
        run.train()
        return run.exact

    assert in_ranks(stopped) == [(2, signal.SIGTERM)] * 2
    assert in_ranks(resumed) == [True, True]
    assert outcome(folder) == expected


def test_a_rank_that_is_killed_ends_the_run_which_goes_on_from_its_checkpoint(in_ranks, tmp_path):
    expected = whole(in_ranks, tmp_path / "whole")
    folder = tmp_path / "run"

    def bereft(ranks):
        run, died = DistributedRun.start(folder, tiny()), []

        def kill():
            if ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            died.append(time.monotonic())

        with pytest.raises(LostRankError):
            run.train(at(5, kill))
        return run.step, run.saved_step, time.monotonic() - died[0]

    step, saved, seconds = in_ranks(bereft)[0]
    assert (step, saved) == (5, 3) and seconds < 10
    in_ranks(lambda ranks: DistributedRun.resume(folder, ranks=2).train())
    assert outcome(folder) == expected


def test_weights_of_another_run_are_in_all_ranks_and_resumed_before_the_first_checkpoint(
    in_ranks, tmp_path
):
    source = tmp_path / "source"
    Run.start(source, tiny(1, seed=5, num_steps=1)).train()
    expected = whole(in_ranks, tmp_path / "whole", init_from=str(source))
    folder = tmp_path / "run"

    def built(ranks):
        run = DistributedRun.start(folder, tiny(init_from=str(source)))
        return comparable(run.experiment.program.state_dict())

    first, second = in_ranks(built)
    assert first == second
    in_ranks(lambda ranks: DistributedRun.resume(folder, ranks=2).train())
    assert outcome(folder) == expected


def test_their_sequences_are_those_of_one_process_with_the_whole_batch(in_ranks):
    def drawn(ranks):
        return torch.stack([experiment.draw()[0] for experiment in [built(ranks)] * 3])

    def built(ranks):
        return build_experiment(tiny(ranks.size))

    alone = build_experiment(tiny(1, batch_size=4))
    together = torch.cat(in_ranks(drawn), dim=2)  # of (3, T, B, ...)
    assert together.equal(torch.stack([alone.draw()[0] for _ in range(3)]))


def test_they_have_the_same_weights_and_noise_of_their_own(in_ranks):
    def states(ranks):
        experiment = build_experiment(tiny(ranks.size))
        return comparable(experiment.program.state_dict()), torch.randn(4).tolist()

    (weights, first), (same, second), (_, third) = in_ranks(states, size=3)
    alone = build_experiment(tiny(1))
    assert comparable(alone.program.state_dict()) == weights == same
    assert torch.randn(4).tolist() == first, "the first has the noise of a run of its own"
    assert first != second != third != first


def test_only_the_first_writes(in_ranks, tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def watched(ranks):
        if ranks.rank == 1:
            monkeypatch.setattr("pyro_gtm.internals.files.os.replace", None)  # what would be used
            monkeypatch.setattr("pathlib.Path.mkdir", None)
        run = DistributedRun.start(folder, tiny())
        run.train()
        return run.metrics.rows

    first, second = in_ranks(watched)
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert first == logged and [row["step"] for row in second] == [row["step"] for row in logged]
    assert [path.name for path in Run.load(folder).checkpoints()] == [
        "step-00000006.pt",
        "step-00000008.pt",
    ]


def test_another_number_of_ranks_is_refused_in_a_sentence(in_ranks, tmp_path):
    folder = tmp_path / "run"
    whole(in_ranks, folder)

    def refused(ranks):
        with pytest.raises(RunError) as caught:
            DistributedRun.resume(folder, ranks=ranks.size)
        return str(caught.value)

    sentence = f"ranks: got 3, must be 2 as in the run in {folder}"
    assert in_ranks(refused, size=3) == [sentence] * 3
    with pytest.raises(RunError, match="ranks: got 1, must be 2"):
        Run.resume(folder, ranks=1)
    with pytest.raises(ValueError, match=r"ranks: got 2, must be 1, .* --nproc-per-node=2"):
        Run.resume(folder)
    assert Run.load(folder).step == STEPS, "one process can evaluate it"


def test_what_is_wrong_is_told_to_all(in_ranks, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "something").touch()

    def refused(ranks):
        with pytest.raises(FolderTakenError):
            DistributedRun.start(taken, tiny())
        with pytest.raises(ValueError) as caught:
            DistributedRun.start(tmp_path / "new", tiny(seed=ranks.rank))
        return str(caught.value)

    assert in_ranks(refused) == ["seed: got 1 in process 1, must be 0 as in the first"] * 2
    assert not (tmp_path / "new").exists()


def test_frames_without_a_density_are_told_of_by_all(in_ranks, tmp_path):
    def stopped(ranks):
        run = DistributedRun.start(tmp_path / "run", tiny())
        draw, drawn = run.experiment.draw, []

        def spoilt():
            frames, controls = draw()
            drawn.append(1)
            if ranks.rank == 1 and len(drawn) == 5:
                frames = frames + 7.0
            return frames, controls

        run.experiment.draw = spoilt
        with pytest.raises(InvalidFramesError) as caught:
            run.train()
        return str(caught.value), run.saved_step

    first, second = in_ranks(stopped)
    assert first == second and "step 5" in first[0] and first[1] == 3
