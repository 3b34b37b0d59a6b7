"""A signal that is answered at once ends what is being done, whatever that makes of it."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

from pyro_gtm.experiments import signals
from pyro_gtm.experiments.signals import stop_signals

WAIT = 0.05


class Ending(Exception):
    pass


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(signals, "WAITS", 6 * [WAIT])


@pytest.fixture
def answers():
    """The numbers that were answered, and what answers."""
    numbers = []

    def act(number):
        numbers.append(number)
        raise Ending

    return numbers, act


def until_ended(seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_answer_that_is_lost_is_given_again(number, answers):
    numbers, act = answers
    with pytest.raises(Ending), stop_signals() as received, received.acting_at_once(act):
        with suppress(Ending):
            signal.raise_signal(number)
        for _ in range(2):
            with suppress(Ending):
                until_ended()
        until_ended()
    assert numbers == received == [number]


def test_an_answer_ends_a_wait(answers):
    _, act = answers
    begun = time.monotonic()
    with pytest.raises(Ending), stop_signals() as received, received.acting_at_once(act):
        with suppress(Ending):
            signal.raise_signal(signal.SIGTERM)
        threading.Event().wait(60)
    assert time.monotonic() - begun < 30


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_answer_while_an_object_is_destroyed(answers):
    class Destroyed:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    numbers, act = answers
    with pytest.raises(Ending), stop_signals() as received, received.acting_at_once(act):
        Destroyed()
        until_ended()
    assert numbers == [signal.SIGTERM]


def test_an_error_made_of_an_answer_is_the_answer(answers):
    _, act = answers
    with pytest.raises(Ending) as caught, stop_signals() as received, received.acting_at_once(act):
        try:
            signal.raise_signal(signal.SIGTERM)
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
        signal.raise_signal(signal.SIGTERM)


def test_an_error_of_the_block_is_its_own(answers):
    _, act = answers
    with (
        pytest.raises(ValueError, match="its own"),
        stop_signals() as received,
        received.acting_at_once(act),
    ):
        raise ValueError("its own")


def test_a_second_ctrl_c_ends_at_once_what_an_answer_does_not(answers):
    numbers, act = answers
    with pytest.raises(KeyboardInterrupt), stop_signals() as received, received.acting_at_once(act):
        with suppress(Ending):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert numbers == received == [signal.SIGTERM]


def test_nothing_is_left_of_a_block(answers):
    numbers, act = answers
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as received:
        with pytest.raises(Ending), received.acting_at_once(act):
            signal.raise_signal(signal.SIGTERM)
        until_ended(4 * WAIT)
        signal.raise_signal(signal.SIGTERM)
        assert numbers == [signal.SIGTERM]
        assert received == [signal.SIGTERM] * 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_block_that_was_never_left_disturbs_no_later_one(answers):
    """A signal at its very end may come outside of it, in the code of contextlib."""
    _, act = answers
    with stop_signals() as received:
        abandoned = received.acting_at_once(act)
        abandoned.__enter__()
        with suppress(Ending):
            signal.raise_signal(signal.SIGTERM)
    with stop_signals() as later, later.acting_at_once(act):
        until_ended(4 * WAIT)
    assert later == []
    until_ended(4 * WAIT)  # with the handlers of this process
