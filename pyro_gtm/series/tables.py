"""Long tables of results: a row for each series, step and channel."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gtm.internals.files import write_atomically
from pyro_gtm.series.data import Series, Times

__all__ = [
    "ENDINGS",
    "QUANTILES",
    "Row",
    "check_quantiles",
    "check_table_path",
    "frame_rows",
    "gap_rows",
    "labels",
    "quantile_rows",
    "save_table",
    "value_rows",
]

Row = dict[str, Any]

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Levels that tables have unless others are asked for."""

ENDINGS = (".csv", ".parquet")

UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
"""Of NumPy's dates, the finer the later."""


def check_quantiles(levels: Sequence[float]) -> Tensor:
    """Levels as a tensor.

    Raises:
        ValueError: one lies outside (0, 1).
    """
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"quantiles: got {tuple(levels)}, must lie between 0 and 1")
    return torch.tensor(levels, dtype=torch.float64)


def check_table_path(path: str | Path) -> Path:
    """A path that a table can be written to.

    Raises:
        ValueError: of another ending, or one that wants a package which is not there.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ValueError(f"output: got {path}, must end in {' or '.join(ENDINGS)}")
    if path.suffix == ".parquet":
        _parquet_writer()
    return path


def save_table(rows: Sequence[Row], path: str | Path) -> None:
    """Write rows of equal keys, whole or not at all; the folder must exist.

    Args:
        rows: at least one.
        path: ends in ``.csv``, or in ``.parquet``, which needs pandas and pyarrow.

    Raises:
        ValueError: another ending, or no row.
    """
    path = check_table_path(path)
    if not rows:
        raise ValueError(f"output: there is no row to write to {path}")
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _printed(value) for key, value in row.items()} for row in rows)
        content = text.getvalue().encode()
    else:
        buffer = io.BytesIO()
        _parquet_writer()(list(rows), buffer)
        content = buffer.getvalue()
    write_atomically(path, content)


def _parquet_writer() -> Any:
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"output: a .parquet file needs the package {error.name}; install it or write .csv"
        ) from error
    return lambda rows, buffer: pandas.DataFrame(rows).to_parquet(buffer, index=False)


def _printed(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.12g}"
    return value


def labels(times: Times) -> list[str | float | int]:
    """Times as they are written: dates, with the time of day if one has such, or numbers."""
    if times.dtype.kind == "M":
        days = bool((times == times.astype("datetime64[D]")).all())
        unit: Any = "D" if days else max(("s", np.datetime_data(times.dtype)[0]), key=UNITS.index)
        return [str(text).replace("T", " ") for text in np.datetime_as_string(times, unit=unit)]
    return [int(time) if time.is_integer() else time for time in times.tolist()]


def element_names(series: Series) -> list[str]:
    """Of the elements of a frame, flat: the channel, and where in it."""
    first, *rest = series.event_shape
    if not rest:
        return list(series.channels)
    places = [",".join(map(str, place)) for place in np.ndindex(*rest)]
    return [f"{series.channels[c]} {place}" for c in range(first) for place in places]


def quantile_rows(
    series: Series,
    samples: Tensor,
    levels: Sequence[float],
    starts: Sequence[tuple[int, int]],
    actual: Tensor,
    *,
    horizon: bool,
) -> list[Row]:
    """Rows of samples ``(S, H, N, *event)``, series n beginning at step ``start``."""
    quantiles = torch.quantile(samples, check_quantiles(levels).to(samples), dim=0).flatten(3)
    means, known = samples.mean(0).flatten(2), actual.flatten(2)  # (H, N, elements)
    names = element_names(series)
    rows: list[Row] = []
    for n, start in starts:
        times = labels(series.times_of(n, start, samples.shape[1]))
        for h, time in enumerate(times):
            for e, name in enumerate(names):
                row: Row = {"id": series.ids[n], "time": time, "step": start + h}
                if horizon:
                    row["horizon"] = h + 1
                row |= {"channel": name, "mean": means[h, n, e].item()}
                row |= {
                    f"q{level:g}": quantiles[i, h, n, e].item() for i, level in enumerate(levels)
                }
                row["actual"] = known[h, n, e].item()
                rows.append(row)
    return rows


def gap_rows(series: Series, samples: Tensor, levels: Sequence[float]) -> list[Row]:
    """Rows of the gaps alone, of samples ``(S, T, N, *event)``."""
    checked = check_quantiles(levels).to(samples)
    names = element_names(series)
    flat = samples.flatten(3)  # (S, T, N, elements)
    rows: list[Row] = []
    where = series.gaps.flatten(2).movedim(0, 1)  # (N, T, elements)
    times = [labels(own) for own in series.times]
    for n, t, e in where.nonzero().tolist():
        drawn = flat[:, t, n, e]
        row: Row = {"id": series.ids[n], "time": times[n][t], "step": t}
        row |= {"channel": names[e], "mean": drawn.mean().item()}
        values = torch.quantile(drawn, checked).tolist()
        row |= {f"q{level:g}": value for level, value in zip(levels, values, strict=True)}
        rows.append(row)
    return rows


def frame_rows(series: Series, terms: Mapping[str, Tensor]) -> list[Row]:
    """Rows of figures of frames, ``(T, N)`` each."""
    rows: list[Row] = []
    for n, t, time in _steps(series):
        row: Row = {"id": series.ids[n], "time": time, "step": t}
        rows.append(row | {name: term[t, n].item() for name, term in terms.items()})
    return rows


def value_rows(series: Series) -> list[Row]:
    """Rows of the values themselves."""
    names, flat = element_names(series), series.values.flatten(2)
    rows: list[Row] = []
    for n, t, time in _steps(series):
        for e, name in enumerate(names):
            row: Row = {"id": series.ids[n], "time": time, "step": t}
            rows.append(row | {"channel": name, "value": flat[t, n, e].item()})
    return rows


def _steps(series: Series) -> Iterator[tuple[int, int, Any]]:
    for n, times in enumerate(series.times):
        for t, time in enumerate(labels(times)):
            yield n, t, time
