"""What the processes of a run say to each other, and what they hear of one that is lost."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
import torch

from pyro_gtm.infer.ranks import LAUNCHER, LostRankError, Ranks, started_by_launcher
from pyro_gtm.infer.training import NonFiniteLossError

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def test_tensors_are_summed_in_place_whatever_their_types(in_ranks):
    def summed(ranks):
        tensors = [
            torch.full((2, 3), 1.0 + ranks.rank),
            torch.tensor(10.0 * ranks.rank, dtype=torch.float64),
            torch.full((4,), 2.0),
        ]
        ranks.sum_(tensors)
        return [tensor.tolist() for tensor in tensors]

    assert in_ranks(summed) == [[[[3.0] * 3] * 2, 10.0, [4.0] * 4]] * 2


def test_each_has_its_sequences_of_a_batch():
    batch = torch.arange(12).reshape(2, 6)  # T, B
    shares = [Ranks(rank, 3).share(batch) for rank in range(3)]
    assert torch.cat(shares, dim=1).equal(batch) and shares[1].tolist() == [[2, 3], [8, 9]]
    assert Ranks(0, 3).share(None) is None


def test_what_the_first_has_all_get(in_ranks):
    def told(ranks):
        tensor = torch.full((2,), float(ranks.rank), requires_grad=True)
        changed = ranks.broadcast_([tensor])
        return tensor.tolist(), changed, ranks.from_first(lambda: f"of {ranks.rank}")

    assert in_ranks(told) == [([0.0, 0.0], False, "of 0"), ([0.0, 0.0], True, "of 0")]


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no such thing"), "ValueError no such thing"),
        (NonFiniteLossError(3, "so it is"), "NonFiniteLossError training stopped in step 3: so"),
        (Unsendable("in a", "word"), "in a word"),
    ],
)
def test_an_error_in_one_is_raised_in_all(error, words, in_ranks):
    def failing(ranks):
        try:
            with ranks.failing_together():
                if ranks.rank == 1:
                    raise error
        except Exception as raised:
            return f"{type(raised).__name__} {raised}"

    assert all(words in told for told in in_ranks(failing))


def test_an_error_of_the_first_is_raised_in_all_that_wait_for_its_word(in_ranks):
    def failing(ranks):
        with pytest.raises(KeyError):
            ranks.from_first(lambda: {}["nothing"])
        return ranks.greatest(ranks.rank)

    assert in_ranks(failing) == [1, 1], "they understand each other after it"


def test_a_rank_that_dies_is_noticed_at_once(in_ranks):
    def left_behind(ranks):
        ranks.greatest(0)  # they have met
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        begun = time.monotonic()
        with pytest.raises(LostRankError, match="has ended or does not answer"):
            ranks.sum_([torch.ones(3)])
        return time.monotonic() - begun

    assert in_ranks(left_behind)[0] < 10


def test_a_rank_that_hangs_is_noticed_after_the_timeout(in_ranks):
    def waiting(ranks):
        if ranks.rank == 1:
            time.sleep(2.5)
            return 0.0
        begun = time.monotonic()
        with pytest.raises(LostRankError):
            ranks.greatest(1)
        return time.monotonic() - begun

    assert 0.9 < in_ranks(waiting, timeout=1)[0] < 2.4


def test_each_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    ranks = Ranks(3, 4)
    assert [ranks.device(name) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    assert Ranks().device("cuda:0") == "cuda:0"
    with pytest.raises(ValueError, match="device: got 'cuda:0', must be auto, cpu or cuda"):
        ranks.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"process 3 of this machine.*PyTorch finds 2"):
        ranks.device("auto")


def test_a_launcher_is_known_by_what_it_tells(monkeypatch):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    assert not started_by_launcher()
    for name in LAUNCHER:
        monkeypatch.setenv(name, "2")
    assert started_by_launcher()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not started_by_launcher(), "one process needs nobody"
