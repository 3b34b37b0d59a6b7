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
    "category_shares",
    "center",
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


def center(samples: Tensor, num_categories: int | None) -> Tensor:
    """The mean of samples, or their most frequent category: ``(S, *shape) -> (*shape)``."""
    if num_categories is None:
        return samples.mean(0)
    likeliest = category_shares(samples, num_categories).max(0).indices.to(samples)
    return torch.where(samples[0].isnan(), torch.nan, likeliest)


def category_shares(samples: Tensor, num_categories: int) -> Tensor:
    """The share of each category among samples: ``(S, *shape) -> (K, *shape)``."""
    return torch.stack([(samples == k).double().mean(0) for k in range(num_categories)])


def _summaries(
    samples: Tensor, levels: Sequence[float], num_categories: int | None
) -> dict[str, Tensor]:
    """What is told of samples ``(S, *shape)``, by name of the column: ``(*shape)`` each."""
    if num_categories is None:
        quantiles = torch.quantile(samples, check_quantiles(levels).to(samples), dim=0)
        told = {f"q{level:g}": one for level, one in zip(levels, quantiles, strict=True)}
        return {"mean": samples.mean(0), **told}
    shares = category_shares(samples, num_categories)
    return {
        "likeliest": center(samples, num_categories),
        **{f"share_{k}": share for k, share in enumerate(shares)},
    }


def quantile_rows(
    series: Series,
    samples: Tensor,
    levels: Sequence[float],
    starts: Sequence[tuple[int, int]],
    actual: Tensor,
    num_categories: int | None,
) -> list[Row]:
    """Rows of samples ``(S, H, N, *event)``, series n beginning at step ``start``."""
    told = _summaries(samples.flatten(3), levels, num_categories)  # (H, N, elements) each
    known = actual.flatten(2)  # (H, N, elements)
    names = element_names(series)
    rows: list[Row] = []
    for n, start in starts:
        times = labels(series.times_of(n, start, samples.shape[1]))
        for h, time in enumerate(times):
            for e, name in enumerate(names):
                row: Row = {"id": series.ids[n], "time": time, "step": start + h}
                row |= {"horizon": h + 1, "channel": name}
                row |= {column: one[h, n, e].item() for column, one in told.items()}
                row["actual"] = known[h, n, e].item()
                rows.append(row)
    return rows


def gap_rows(
    series: Series, samples: Tensor, levels: Sequence[float], num_categories: int | None
) -> list[Row]:
    """Rows of the gaps alone, of samples ``(S, T, N, *event)``."""
    names = element_names(series)
    where = series.gaps.flatten(2).movedim(0, 1)  # (N, T, elements)
    of_gaps = samples.flatten(3).transpose(1, 2)[:, where]  # (S, gaps)
    told = _summaries(of_gaps, levels, num_categories)  # (gaps,) each
    times = [labels(own) for own in series.times]
    rows: list[Row] = []
    for i, (n, t, e) in enumerate(where.nonzero().tolist()):
        row: Row = {"id": series.ids[n], "time": times[n][t], "step": t, "channel": names[e]}
        rows.append(row | {column: one[i].item() for column, one in told.items()})
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
