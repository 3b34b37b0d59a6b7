"""Clocks: times read from words, the spacing they keep, and the times to come.

A clock is even in numbers, in seconds, or in calendar months: the same day of each, or each one's
last.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Months",
    "Spacing",
    "beyond",
    "calendar_months",
    "place_on_clock",
    "spacing_of",
    "times_of_words",
]

Times = NDArray[Any]

DATE = re.compile(
    r"(\d{4})-(\d\d?)(?:-(\d\d?))?"  # 2026-01 or 2026-01-31
    r"(?:[T ]+(\d\d?):(\d\d)(?::(\d\d)(\.\d+)?)?)?"
    r"\s*(Z|[+-]\d\d(?::?\d\d)?)?"
)
QUARTER = re.compile(r"(\d{4})[- ]?Q([1-4])", re.IGNORECASE)
EIGHT_DIGITS = re.compile(r"(1[89]|2[01])\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")

OFF = 1e-3
"""How far from its place on the clock a time may be, in steps: rounding, and no other spacing."""


def times_of_words(words: Sequence[str]) -> tuple[Times | None, int | None]:
    """Numbers, or dates in seconds (microseconds, if they have fractions), of written times.

    Dates are 2026-01-31, 2026-01-31 12:30:15.5, 20260131 (all of them), 2026-01 and 2026Q1; with a
    time zone (``Z``, ``+01:00``) they become those of UTC.

    Returns:
        The times and None, or None and the number of the word that is no time; either all have a
        time zone or none has.
    """
    if all(EIGHT_DIGITS.fullmatch(word) for word in words):
        words = [f"{word[:4]}-{word[4:6]}-{word[6:]}" for word in words]
    elif (numbers := _numbers(words)) is not None:
        bad = np.flatnonzero(~np.isfinite(numbers))
        return (None, int(bad[0])) if len(bad) else (numbers, None)
    times: list[datetime] = []
    zoned: list[bool] = []
    for number, word in enumerate(words):
        read = _date(word)
        if read is None or (zoned and read[1] != zoned[0]):
            return None, number
        times.append(read[0])
        zoned.append(read[1])
    exact = np.array(times, "datetime64[us]")
    seconds = exact.astype("datetime64[s]")
    return seconds if (seconds == exact).all() else exact, None


def _numbers(words: Sequence[str]) -> Times | None:
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        return None


def _date(word: str) -> tuple[datetime, bool] | None:
    """A date, in UTC if it has a zone, and whether it has one; None for what is no date."""
    if quarter := QUARTER.fullmatch(word):
        return datetime(int(quarter[1]), 3 * int(quarter[2]) - 2, 1), False
    if not (parts := DATE.fullmatch(word)):
        return None
    year, month, day, hour, minute, second, fraction, zone = parts.groups()
    try:
        when = datetime(
            int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0)
        )
        when += timedelta(microseconds=round(1e6 * float(fraction or 0)))
        if zone is not None and zone != "Z":
            digits = zone[1:].replace(":", "").ljust(4, "0")
            apart = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            when = when - apart if zone[0] == "+" else when + apart
    except (ValueError, OverflowError):
        return None
    return when, zone is not None


class Months(NamedTuple):
    """Times that keep their place in calendar months."""

    numbers: NDArray[np.int64]
    """Of the months, counted from January 1970."""

    place: Any
    """After the month's beginning, or before its end: a ``timedelta64``."""

    from_end: bool

    def times(self, numbers: NDArray[np.int64]) -> Times:
        """The same place in other months."""
        first = (numbers + self.from_end).astype("datetime64[M]")
        return first - self.place if self.from_end else first + self.place


class Spacing(NamedTuple):
    """How far apart the times of a clock are."""

    unit: str
    """``months``, one of NumPy's such as ``s``; empty for times that are numbers."""

    size: float
    """How many of them; a whole number of dates."""

    from_end: bool = False
    """Of months: whether times keep their place before the month's end."""


def calendar_months(times: Times) -> Months | None:
    """Times as places in months, if they are at the same of each, one at most in a month."""
    if times.dtype.kind != "M" or len(times) < 2:
        return None
    months = times.astype("datetime64[M]")
    numbers = months.astype(np.int64)
    if (np.diff(numbers) < 1).any():
        return None
    after = times - months
    if (after == after[0]).all():
        return Months(numbers, after[0], False)
    before = (months + np.timedelta64(1, "M")) - times
    if (before == before[0]).all():
        return Months(numbers, before[0], True)
    return None


def place_on_clock(times: Times, most: int) -> tuple[NDArray[np.int64], Times] | None:
    """Where times stand on an even clock, from 0, and all of that clock's times up to the last.

    Args:
        times: growing, at least two.
        most: steps of a clock that is still one.

    Returns:
        None if they keep no such clock: their least distance does not divide the others, or it goes
        into them too often.
    """
    if (months := calendar_months(times)) is not None:
        since = months.numbers - months.numbers[0]
        apart = int(np.gcd.reduce(since))
        if since[-1] // apart >= most:
            return None
        every = months.numbers[0] + apart * np.arange(since[-1] // apart + 1)
        return since // apart, months.times(every)
    since = (times - times[0]).astype(np.float64)
    places = np.rint(since / np.diff(since).min())
    step = since[-1] / places[-1]  # of many steps, and so of little rounding
    if (np.abs(since - places * step) > OFF * step).any() or places[-1] >= most:
        return None
    if times.dtype.kind != "M":
        return places.astype(np.int64), times[0] + step * np.arange(int(places[-1]) + 1)
    whole = np.rint(step * np.arange(int(places[-1]) + 1)).astype(np.int64)
    return places.astype(np.int64), times[0] + whole.astype(np.diff(times[:2]).dtype)


def spacing_of(times: Times) -> Spacing | None:
    """The spacing that times keep, the median one where it is uneven; None of less than two."""
    if len(times) < 2:
        return None
    if (months := calendar_months(times)) is not None:
        return Spacing("months", int(_median(np.diff(months.numbers))), months.from_end)
    apart = _median(np.diff(times))
    if times.dtype.kind != "M":
        return Spacing("", float(apart))
    unit, multiple = np.datetime_data(times.dtype)
    return Spacing(unit, int(apart.astype(np.int64)) * multiple)


def beyond(times: Times, count: int, spacing: Spacing | None = None) -> Times:
    """The next ``count`` times in the spacing of those given, which is the median one where it is
    uneven; a single time is followed in ``spacing``, by days or by ones if that is none of it."""
    ahead = np.arange(1, count + 1)
    if not len(times):
        return ahead - 1.0
    is_date = times.dtype.kind == "M"
    own = spacing_of(times)
    step = own or spacing
    if step is None or (step.unit != "") != is_date:
        step = Spacing("D", 1) if is_date else Spacing("", 1.0)
    if step.unit == "months" and own is None:
        return _months_after(times[-1], ahead * int(step.size), step.from_end)
    if step.unit == "months":
        last = _in_month(times[-1:], step.from_end)
        return last.times(last.numbers + ahead * int(step.size))
    one: Any = step.size
    if is_date:
        one = np.timedelta64(int(step.size), cast(Any, step.unit))
    return times[-1] + ahead * one


def _in_month(time: Times, from_end: bool) -> Months:
    """The place of one time, ``(1,)``, in its month."""
    month = time.astype("datetime64[M]")
    place = (month + np.timedelta64(1, "M")) - time if from_end else time - month
    return Months(month.astype(np.int64), place[0], from_end)


def _months_after(time: Any, months: Times, from_end: bool) -> Times:
    """The same day and hour so many months after a single time.

    Where a month has no such day it is its last, as it is everywhere after a last day if times are
    counted ``from_end``.
    """
    day = time.astype("datetime64[D]")
    month = time.astype("datetime64[M]")
    later = month + months
    last = (later + 1).astype("datetime64[D]") - 1
    is_last = (month + 1).astype("datetime64[D]") == day + 1
    same = later.astype("datetime64[D]") + (day - month.astype("datetime64[D]"))
    days = last if from_end and is_last else np.minimum(same, last)
    return days.astype(time.dtype) + (time - day)


def _median(apart: Times) -> Any:
    """The upper median: one of those given."""
    return np.sort(apart)[len(apart) // 2]
