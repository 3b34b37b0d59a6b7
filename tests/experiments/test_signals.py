"""A signal that is answered at once ends what is being done, whatever that makes of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

import pytest

from pyro_gtm.experiments import signals
from pyro_gtm.experiments.signals import stop_signals


class Ending(Exception):
    pass


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 0.05)


@pytest.fixture
def answers():
    """The numbers that were answered, and what answers."""
    numbers = []

    def act(number):
        numbers.append(number)
        raise Ending

    return numbers, act


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # it is answered before this ends


def until_ended(seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_answer_that_is_lost_is_given_again(number, answers):
    numbers, act = answers
    with pytest.raises(Ending), stop_signals() as received, received.acting_at_once(act):
        for _ in range(3):  # lost as often
            try:
                send(number)
                until_ended()
            except Ending:
                number = 0  # only asks whether the process is there
        until_ended()
    assert numbers == received == [received[0]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_answer_in_what_is_run_when_an_object_goes(answers):
    class Goes:
        def __del__(self):
            send(signal.SIGTERM)

    numbers, act = answers
    with pytest.raises(Ending), stop_signals() as received, received.acting_at_once(act):
        Goes()
        until_ended()
    assert numbers == [signal.SIGTERM]


def test_an_error_made_of_an_answer_is_the_answer(answers):
    _, act = answers
    with pytest.raises(Ending) as caught, stop_signals() as received, received.acting_at_once(act):
        try:
            send(signal.SIGTERM)
        except Ending:
            raise ValueError("invalid bounding box") from None
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_block_that_ends_in_spite_of_its_answer(answers):
    _, act = answers
    with (
        pytest.raises(Ending),
        stop_signals() as received,
        received.acting_at_once(act),
        suppress(Ending),
    ):
        send(signal.SIGTERM)


def test_an_error_of_the_block_is_its_own(answers):
    _, act = answers
    with (
        pytest.raises(ValueError, match="its own"),
        stop_signals() as received,
        received.acting_at_once(act),
    ):
        raise ValueError("its own")


def test_nothing_is_left_of_a_block(answers):
    numbers, act = answers
    before, threads = signal.getsignal(signal.SIGTERM), threading.enumerate()
    with stop_signals() as received:
        with pytest.raises(Ending), received.acting_at_once(act):
            send(signal.SIGTERM)
        until_ended(0.3)  # longer than an answer is waited for
        send(signal.SIGTERM)
        assert numbers == [signal.SIGTERM]
        assert received == [signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) is before
    assert threading.enumerate() == threads
