"""Tables, wide or long, of text files and of pandas."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gtm.series.clock import place_on_clock, times_of_words
from pyro_gtm.series.data import Series
from pyro_gtm.series.reading.failures import DataFileError, check_size
from pyro_gtm.series.tables import labels

__all__ = ["Columns", "read_csv", "series_of_frame"]

MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", "?", "<na>", "nat"})
"""Cells, in lower case, that are gaps."""

MOST_NAMES = 6
"""Of channels, that a note lists."""

MOST_GAPS = 10
"""Times that are left out become gaps unless they were more than so many times the rows."""


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what; None is found by its usual names."""

    id: str | None = None
    """Names of series: id, series, series_id, unique_id, item_id."""

    time: str | None = None
    """Numbers or dates: time, date, datetime, timestamp, ds, t, step."""

    channel: str | None = None
    """Of a long table, the channel's name: channel, variable, metric."""

    value: str | None = None
    """Of a long table, the value: value."""

    controls: tuple[str, ...] = ()
    """Numbers that are known beforehand."""


USUAL = {
    "id": ("id", "series", "series_id", "unique_id", "item_id"),
    "time": ("time", "date", "datetime", "timestamp", "ds", "t", "step"),
    "channel": ("channel", "variable", "metric"),
    "value": ("value",),
}


class TableError(ValueError):
    """Something is wrong with a table: the sentence lacks its name."""


def read_csv(
    path: Path,
    *,
    id: str | None = None,
    time: str | None = None,
    channel: str | None = None,
    value: str | None = None,
    controls: Sequence[str] = (),
) -> Series:
    """Series from a table of text, its columns parted by commas, semicolons or tabs."""
    check_size(path, 10 * path.stat().st_size)  # what Python makes of it
    columns = Columns(id, time, channel, value, tuple(controls))
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            comma = max(",;\t", key=first.count)
            lines = csv.reader(file, delimiter=comma, strict=True)
            names = next(lines, [])
            rows, places = [], []
            for row in lines:
                if row:
                    rows.append(row)
                    places.append(f"line {lines.line_num}")
        return _series(names, rows, places, columns)
    except UnicodeDecodeError as error:
        raise DataFileError(path, "is no text in UTF-8") from error
    except csv.Error as error:
        raise DataFileError(path, f"is no table of text ({error})") from error
    except ValueError as error:
        raise DataFileError(path, str(error)) from error


def series_of_frame(frame: Any, columns: Columns = Columns()) -> Series:
    """Series from a pandas frame, whose index is left out.

    Args:
        frame: with a column for each column of a table.
        columns: which column is what.

    Raises:
        ValueError: one sentence says what is wrong with it.
    """
    names = [str(name) for name in frame.columns]
    rows = list(zip(*(frame[name].tolist() for name in frame.columns), strict=True))
    try:
        return _series(names, rows, [f"row {i}" for i in range(len(rows))], columns)
    except TableError as error:
        raise ValueError(f"series_of_frame: the frame {error}") from error


def _series(
    names: Sequence[str], rows: Sequence[Sequence[Any]], places: Sequence[str], given: Columns
) -> Series:
    """Series of a table, ``places`` saying where each row is."""
    names = [str(name).strip() for name in names]
    if not rows:
        raise TableError("holds no line below that of the columns' names")
    if len(set(names)) < len(names) or any(name == "" for name in names):
        raise TableError(f"must name every column once in its first line, got {', '.join(names)}")
    if all(_is_number(name) for name in names):
        raise TableError("must name its columns in the first line, which holds numbers")
    for row, at in zip(rows, places, strict=True):
        if len(row) != len(names):
            raise TableError(f"has {len(names)} columns and {len(row)} cells in {at}")
    columns = _find(names, given)
    place = {name: i for i, name in enumerate(names)}
    special = {columns.id, columns.time, columns.channel, columns.value, *columns.controls}
    channels = [name for name in names if name not in special]
    if columns.channel is not None:
        if columns.value is None:
            raise TableError(
                f"has a column of channels, {columns.channel}, and none of their values"
            )
        if channels:
            raise TableError(
                f"is long, with {columns.channel} and {columns.value}, and has columns besides: "
                f"{', '.join(channels)}; name them as controls or leave them out"
            )
        names, rows, places, channels = _widened(rows, places, place, columns)
        place = {name: i for i, name in enumerate(names)}
    elif columns.value is not None:
        channels.append(columns.value)
    if not channels:
        raise TableError("has no column of values")
    by_id: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        key = "series 0" if columns.id is None else str(row[place[columns.id]]).strip()
        if key.lower() in MISSING:
            raise TableError(f"has no series id in column {columns.id}, {places[number]}")
        by_id.setdefault(key, []).append(number)
    clock = None
    if columns.time is not None:
        clock = _times([row[place[columns.time]] for row in rows], places)
    values, times, controls, notes = [], [], [], [_told(columns, channels)]
    for key, numbers in by_id.items():
        wanted = [place[name] for name in (*channels, *columns.controls)]
        table = np.array(
            [[_cell(rows[i][c], names[c], places[i]) for c in wanted] for i in numbers]
        )
        if clock is not None:
            table, own, note = _in_order(table, clock[numbers], key)
            times.append(own)
            notes += note
            if note and np.isnan(table[:, len(channels) :]).any():
                raise TableError(
                    f"lacks rows in {key}, and its controls must be known in every step"
                )
        own_values = table[:, : len(channels)]
        if columns.controls:  # rows of nothing but controls are what a forecast is to follow
            there = np.flatnonzero(~np.isnan(own_values).all(1))
            own_values = own_values[: there[-1] + 1 if len(there) else 1]
        values.append(own_values)
        controls.append(table[:, len(channels) :])
    series = Series.of(
        values,
        ids=list(by_id),
        channels=channels,
        times=times or None,
        controls=controls if columns.controls else None,
        control_names=columns.controls or None,
    )
    return replace(series, notes=tuple(notes))


def _find(names: Sequence[str], given: Columns) -> Columns:
    """The columns, those that were not named by their usual names."""
    found: dict[str, str | None] = {}
    for role, usual in USUAL.items():
        wanted = getattr(given, role)
        if wanted is None:
            wanted = next((name for name in names if name.lower() in usual), None)
        elif wanted not in names:
            raise TableError(f"has no column {wanted!r} ({role}); it has {', '.join(names)}")
        found[role] = wanted
    for name in given.controls:
        if name not in names:
            raise TableError(f"has no column {name!r} (controls); it has {', '.join(names)}")
    columns = Columns(**found, controls=given.controls)
    taken: dict[str, str] = {}
    for role, wanted in (*found.items(), *(("control", name) for name in given.controls)):
        if wanted is None:
            continue
        if wanted in taken:
            raise TableError(
                f"has one column {wanted!r}, and {taken[wanted]} and {role} are to be it"
            )
        taken[wanted] = role
    return columns


def _told(columns: Columns, channels: Sequence[str]) -> str:
    """Which column was taken for what."""
    few = ", ".join(channels[:MOST_NAMES])
    more = len(channels) - MOST_NAMES
    told = {
        "values": few + (f" and {more} more" if more > 0 else ""),
        "series": columns.id,
        "times": columns.time,
        "controls": ", ".join(columns.controls) or None,
    }
    if columns.channel is not None:
        told["values"] = f"{columns.value}, by {columns.channel} ({told['values']})"
    return "columns: " + "; ".join(f"{what} {name}" for what, name in told.items() if name) + "."


def _widened(
    rows: Sequence[Sequence[Any]], places: Sequence[str], place: dict[str, int], columns: Columns
) -> tuple[list[str], list[list[Any]], list[str], list[str]]:
    """A long table made wide: its names, rows, where each begins, and channels."""
    assert columns.channel is not None and columns.value is not None
    if columns.time is None:
        raise TableError("is long, and has no column of times to put its channels side by side")
    kept = [name for name in (columns.id, columns.time, *columns.controls) if name is not None]
    channels = list(dict.fromkeys(str(row[place[columns.channel]]).strip() for row in rows))
    if len(channels) > len(rows) ** 0.5 + 1000:
        raise TableError(f"has {len(channels):,} channels in {len(rows):,} rows")
    slots = {name: len(kept) + i for i, name in enumerate(channels)}
    wide: dict[tuple[Any, ...], list[Any]] = {}
    begins: list[str] = []
    for row, at in zip(rows, places, strict=True):
        own = [row[place[name]] for name in kept]
        key = tuple(own[: 2 if columns.id else 1])
        if key not in wide:
            wide[key] = own + [None] * len(channels)
            begins.append(at)
        entry = wide[key]
        if entry[len(key) : len(kept)] != own[len(key) :]:
            raise TableError(
                f"has other controls for {' '.join(map(str, key))} in {at} than before"
            )
        name = str(row[place[columns.channel]]).strip()
        if entry[slots[name]] is not None:
            raise TableError(f"has two values for {' '.join(map(str, key))}, {name} ({at})")
        entry[slots[name]] = _cell(row[place[columns.value]], columns.value, at)
    names = [*kept, *channels]
    if len(set(names)) < len(names):
        raise TableError(f"has a channel with the name of a column, among {', '.join(names)}")
    return names, list(wide.values()), begins, channels


def _cell(cell: Any, name: str, at: str) -> float:
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        text = cell.strip()
        if text.lower() in MISSING:
            return math.nan
        try:
            value = float(text)
        except ValueError:
            raise TableError(
                f"has {text[:40]!r} in column {name}, {at}, which is no number"
            ) from None
    else:
        try:
            value = float(cell)
        except (TypeError, ValueError):
            raise TableError(
                f"has {str(cell)[:40]!r} in column {name}, {at}, which is no number"
            ) from None
    if math.isinf(value):
        raise TableError(f"has infinity in column {name}, {at}")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _times(cells: Sequence[Any], places: Sequence[str]) -> NDArray[Any]:
    """Numbers, or dates."""
    words = [str(cell).strip() for cell in cells]
    times, bad = times_of_words(words)
    if times is not None:
        return times
    assert bad is not None
    if words[bad].lower() in MISSING:
        raise TableError(f"has a time that is missing, in {places[bad]}")
    raise TableError(
        f"has {words[bad][:40]!r} as the time in {places[bad]}, and either numbers are allowed or "
        "dates such as 2026-01-31, 2026-01-31 12:30 or 2026Q1, all with a time zone or none"
    )


def _in_order(
    table: NDArray[Any], times: NDArray[Any], key: str
) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Rows in the order of time, those that an even clock lacks put in as gaps."""
    order = np.argsort(times, kind="stable")
    table, times = table[order], times[order]
    if len(times) < 2:
        return table, times, []
    apart = np.diff(times)
    zero = np.zeros(1, apart.dtype)[0]
    if (apart == zero).any():
        twice = labels(times[:-1][apart == zero][:1])[0]
        raise TableError(f"has the time {twice} twice in {key}")
    placed = place_on_clock(times, MOST_GAPS * len(times))
    if placed is None:
        return table, times, [f"{key}: times are not even; rows are taken as steps one by one."]
    steps, clock = placed
    if len(clock) == len(times):
        return table, times, []
    full = np.full((len(clock), table.shape[1]), np.nan)
    full[steps] = table
    missing = len(full) - len(table)
    note = f"{key}: {missing} of {len(full)} steps have no row; they are gaps."
    return full, clock, [note]
