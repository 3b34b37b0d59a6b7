"""Sequences of one's own: values with gaps, lengths, controls, and what they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_gtm.internals.checks import check_choice
from pyro_gtm.series.clock import Spacing, beyond, spacing_of

__all__ = ["Series", "Times", "abridged", "one_each", "side_by_side"]

Times = NDArray[Any]
"""The times of one series, ``(length,)``: float64, or datetime64."""

LAYOUTS = ("series_first", "time_first")

MOST_NAMES = 8
"""That a sentence has."""


@dataclass(frozen=True, eq=False)
class Series:
    """N sequences of frames of one shape, each perhaps shorter than T, perhaps with gaps.

    Make one with :meth:`of`, or from a file with :func:`pyro_gtm.series.read`.
    """

    values: Tensor
    """``(T, N, *event)`` of float64, in the units of the data; NaN where missing, and behind a
    series' end."""

    lengths: Tensor
    """How many steps each series has, ``(N,)`` of int64."""

    ids: tuple[str, ...]
    """The series' names."""

    channels: tuple[str, ...]
    """Names along the first dimension of a frame."""

    times: tuple[Times, ...]
    """Of each series' steps."""

    controls: Tensor | None = None
    """c_t, known beforehand: ``(T', N, K)`` with T' >= T; they may reach beyond the data, and are
    NaN where a series' own end."""

    control_names: tuple[str, ...] = ()

    known_spacing: Spacing | None = None
    """Of the clock of series that have a single step, where it is known from elsewhere."""

    notes: tuple[str, ...] = ()
    """What was decided on reading that the reader may want to know, a sentence each."""

    @classmethod
    def of(
        cls,
        values: Any,
        *,
        lengths: Any = None,
        mask: Any = None,
        controls: Any = None,
        ids: Sequence[Any] | None = None,
        channels: Sequence[Any] | None = None,
        times: Any = None,
        control_names: Sequence[Any] | None = None,
        layout: str = "series_first",
    ) -> Series:
        """Series from arrays.

        Args:
            values: one series, ``(T,)`` or ``(T, C)``; several of one length, ``(N, T, *event)``;
                or a list of such as differ in length, ``(T_i,)`` or ``(T_i, *event)`` each.  NaN is
                a gap.  Tensors, arrays and lists of numbers.
            lengths: of series that end early, ``(N,)``.
            mask: the values that there are, of bool: one for each value, or one a frame.
            controls: c_t, shaped as the values are, with K numbers in the place of a frame; they
                may go on beyond the values, where a forecast is to follow them.
            ids, channels, control_names: names.
            times: of one series or of all, numbers or datetime64; steps are counted from 0 without.
            layout: ``"time_first"`` for ``(T, N, *event)``, as the rest of the library has it.

        Raises:
            ValueError: one sentence that names the argument, what was given and what is allowed.
        """
        check_choice("Series", "layout", layout, LAYOUTS)
        if mask is not None:
            values = _masked(values, mask)
        stacked, given = _stack("values", values, layout)
        lengths = _lengths(given if lengths is None else lengths, *stacked.shape[:2])
        behind = torch.arange(len(stacked)).unsqueeze(1) >= lengths  # (T, N)
        stacked = _where_frame(behind, torch.nan, stacked)
        if bool(stacked.isinf().any()):
            raise ValueError("Series: values must be finite, or NaN where missing; got infinity")
        steps, number = stacked.shape[:2]
        stacked_controls = None
        if controls is not None:
            stacked_controls = _controls(controls, steps, number, lengths, layout)
        count = 0 if stacked_controls is None else stacked_controls.shape[2]
        return cls(
            stacked,
            lengths,
            _names("ids", ids, number, "series", "{}"),
            _names("channels", channels, stacked.shape[2], "elements", "channel {}"),
            _times(times, lengths),
            stacked_controls,
            _names("control_names", control_names, count, "controls", "control {}"),
        )

    @property
    def num_steps(self) -> int:
        """T, the length of the longest."""
        return len(self.values)

    @property
    def num_series(self) -> int:
        """N."""
        return self.values.shape[1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return tuple(self.values.shape[2:])

    @property
    def there(self) -> Tensor:
        """The values that there are: ``(T, N, *event)`` of bool."""
        return ~self.values.isnan()

    @property
    def gaps(self) -> Tensor:
        """The values that are missing before the end: ``(T, N, *event)`` of bool."""
        before_end = torch.arange(self.num_steps).unsqueeze(1) < self.lengths  # (T, N)
        return _where_frame(before_end, self.values.isnan(), torch.tensor(False))

    @property
    def empty_channels(self) -> tuple[str, ...]:
        """Channels of which no value is there in any series."""
        empty = ~self.there.movedim(2, 0).flatten(1).any(1)  # (C,)
        return tuple(name for name, none in zip(self.channels, empty.tolist(), strict=True) if none)

    @property
    def spacing(self) -> Spacing | None:
        """Of the clock of the first series that has several steps; else ``known_spacing``."""
        of_each = (spacing_of(times) for times in self.times if len(times) > 1)
        return next(of_each, self.known_spacing)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of values, lengths and controls: what tells these series from others."""
        digest = hashlib.sha256(str(tuple(self.values.shape)).encode())
        for part in (self.values, self.lengths, self.controls):
            if part is not None:
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def select(self, indices: Iterable[int]) -> Series:
        """Some of the series, in this order."""
        chosen = list(indices)
        lengths = self.lengths[chosen]
        steps = int(lengths.max())
        controls = None if self.controls is None else self.controls[:, chosen]
        return replace(
            self,
            values=self.values[:steps, chosen],
            lengths=lengths,
            ids=tuple(self.ids[i] for i in chosen),
            times=tuple(self.times[i] for i in chosen),
            controls=controls,
        )

    def steps(self, start: int, stop: int) -> Series:
        """The steps from ``start`` to before ``stop`` of the series that have any there.

        Controls keep what comes after, so that a forecast may follow them.
        """
        kept = [i for i, length in enumerate(self.lengths.tolist()) if length > start]
        if not kept or stop <= start:
            raise ValueError(
                f"Series: steps from {start} to {stop} asked for, and the longest series has "
                f"{self.num_steps}"
            )
        chosen = self.select(kept)
        lengths = (chosen.lengths - start).clamp(max=stop - start)
        return replace(
            chosen,
            values=chosen.values[start : start + int(lengths.max())],
            lengths=lengths,
            times=tuple(times[start:stop] for times in chosen.times),
            controls=None if chosen.controls is None else chosen.controls[start:],
        )

    def split_time(self, share: float) -> tuple[Series, Series]:
        """The first part of every series, and the last ``share`` of it.

        Raises:
            ValueError: a share outside (0, 1), or a part without steps.
        """
        _check_share(share)
        lengths = self.lengths
        kept = ((1 - share) * lengths).round().long()
        if bool(((kept < 1) | (kept >= lengths)).any()):
            raise ValueError(
                f"Series: share={share:g} of the shortest series, of {int(lengths.min())} steps, "
                "leaves a part without a step"
            )
        first = [self.select([i]).steps(0, int(n)) for i, n in enumerate(kept)]
        last = [self.select([i]).steps(int(n), self.num_steps) for i, n in enumerate(kept)]
        return side_by_side(first), side_by_side(last)

    def split_series(self, share: float, seed: int = 0) -> tuple[Series, Series]:
        """Most of the series, and a random ``share`` of them, at least one.

        Raises:
            ValueError: a share outside (0, 1), or a single series.
        """
        _check_share(share)
        if self.num_series < 2:
            raise ValueError("Series: one series cannot be split by series; split it by time")
        order = torch.randperm(
            self.num_series, generator=torch.Generator().manual_seed(seed)
        ).tolist()
        size = min(max(1, round(share * self.num_series)), self.num_series - 1)
        return self.select(sorted(order[size:])), self.select(sorted(order[:size]))

    def times_of(self, series: int, start: int, count: int) -> Times:
        """The times of ``count`` steps, those beyond the end in the same spacing.

        Spacing that is even, in numbers, in time or in calendar months, goes on as it is; that
        which is uneven goes on with its median; a single step, with ``known_spacing``, or by days
        or ones.
        """
        times = self.times[series]
        missing = start + count - len(times)
        if missing > 0:
            times = np.concatenate([times, beyond(times, missing, self.known_spacing)])
        return times[start : start + count]


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"Series: share must lie between 0 and 1, got {share!r}")


def _stack(name: str, given: Any, layout: str) -> tuple[Tensor, Tensor]:
    """``(T, N, *event)`` and lengths, of whatever was given."""
    ragged = _as_ragged(given)
    if ragged is not None:
        sequences = [_with_channel(name, _tensor(name, one)) for one in ragged]
        events = {tuple(one.shape[1:]) for one in sequences}
        if len(events) > 1:
            raise ValueError(
                f"Series: {name} with frames of different shapes given, {sorted(events)}, all of "
                "one shape are allowed"
            )
        lengths = torch.tensor([len(one) for one in sequences])
        if 0 in lengths:
            raise ValueError(f"Series: {name} hold a series without a step")
        stacked = torch.nn.utils.rnn.pad_sequence(sequences, padding_value=torch.nan)
        return stacked, lengths
    tensor = _tensor(name, given)
    if tensor.dim() <= 2:
        tensor = _with_channel(name, tensor).unsqueeze(1)
    elif layout == "series_first":
        tensor = tensor.movedim(0, 1)
    if tensor.numel() == 0:
        raise ValueError(f"Series: {name} of shape {tuple(tensor.shape)} given, and nothing in it")
    return tensor, torch.full((tensor.shape[1],), len(tensor))


def _as_ragged(given: Any) -> list[Any] | None:
    """The list of series, where one is given; None for an array or a list of numbers."""
    if not isinstance(given, (list, tuple)) or not given:
        return None
    first = given[0]
    is_array = isinstance(first, (Tensor, np.ndarray))
    if not is_array and not isinstance(first, (list, tuple)):
        return None
    lengths = {len(one) for one in given if hasattr(one, "__len__")}
    deep = is_array or (len(first) > 0 and isinstance(first[0], (list, tuple)))
    return list(given) if deep or len(lengths) > 1 else None


def _tensor(name: str, given: Any) -> Tensor:
    try:
        array = given.detach().cpu() if isinstance(given, Tensor) else np.asarray(given)
        tensor = torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Series: {name} must be numbers, got {type(given).__name__} "
            f"({str(error).splitlines()[0]})"
        ) from error
    if tensor.is_complex():
        raise ValueError(f"Series: {name} must be real numbers, got {tensor.dtype}")
    # A channel may be far from zero and vary little: it is narrowed once it is standardised.
    return tensor.double()


def _with_channel(name: str, tensor: Tensor) -> Tensor:
    if tensor.dim() == 0:
        raise ValueError(f"Series: {name} must be a sequence, got a single number")
    return tensor.unsqueeze(-1) if tensor.dim() == 1 else tensor


def _lengths(given: Any, steps: int, number: int) -> Tensor:
    lengths = torch.as_tensor(given)
    whole = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
    if not whole or lengths.shape != (number,):
        raise ValueError(
            f"Series: lengths must be integers of shape ({number},), one a series, got "
            f"{lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    lengths = lengths.long()
    if bool(((lengths < 1) | (lengths > steps)).any()):
        raise ValueError(
            f"Series: lengths must lie from 1 to the {steps} steps there are, got from "
            f"{int(lengths.min())} to {int(lengths.max())}"
        )
    return lengths


def _masked(values: Any, mask: Any) -> Any:
    """The values as they were given, with NaN where the mask says that there are none."""
    ragged = _as_ragged(values)
    if ragged is not None:
        if not isinstance(mask, (list, tuple)) or len(mask) != len(ragged):
            raise ValueError(f"Series: mask must be a list of {len(ragged)}, as the values are")
        return [_masked(one, own) for one, own in zip(ragged, mask, strict=True)]
    tensor, there = _tensor("values", values), torch.as_tensor(np.asarray(mask))
    if there.dtype != torch.bool:
        raise ValueError(f"Series: mask must be bool, True for a value, got {there.dtype}")
    leading = 1 if tensor.dim() <= 2 else 2  # of a frame's place
    if there.shape == tensor.shape[:leading]:
        there = there.reshape(*there.shape, *[1] * (tensor.dim() - leading))
    elif there.shape != tensor.shape:
        raise ValueError(
            f"Series: mask must have one entry a value, {tuple(tensor.shape)}, or one a frame, "
            f"{tuple(tensor.shape[:leading])}, got {tuple(there.shape)}"
        )
    return torch.where(there, tensor, torch.nan)


def _controls(given: Any, steps: int, number: int, lengths: Tensor, layout: str) -> Tensor:
    controls, _ = _stack("controls", given, layout)
    if controls.dim() != 3 or controls.shape[1] != number or len(controls) < steps:
        raise ValueError(
            f"Series: controls must be numbers for {number} series of at least {steps} steps, got "
            f"{controls.shape[1]} series of {len(controls)} steps and shape "
            f"{tuple(controls.shape[2:])}"
        )
    within = torch.arange(len(controls)).unsqueeze(1) < lengths  # (T', N)
    if bool((~controls.isfinite() & within.unsqueeze(-1)).any()):
        raise ValueError("Series: controls must be finite in every step of a series; got NaN")
    return controls


def _names(
    argument: str, given: Sequence[Any] | None, count: int, of: str, default: str
) -> tuple[str, ...]:
    if given is None:
        return tuple(default.format(i) for i in range(count))
    names = tuple(str(name) for name in given)
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"Series: {argument} must be {count} different names, one for each of the {of}, got "
            f"{len(names)}, {len(set(names))} of them different"
        )
    return names


def _times(given: Any, lengths: Tensor) -> tuple[Times, ...]:
    counts = lengths.tolist()
    if given is None:
        return tuple(np.arange(count, dtype=float) for count in counts)
    several = isinstance(given, (list, tuple)) and len(given) and np.ndim(given[0]) == 1
    each = list(given) if several else [given] * len(counts)
    if len(each) != len(counts):
        raise ValueError(f"Series: times for {len(each)} series given, {len(counts)} needed")
    times = []
    for one, count in zip(each, counts, strict=True):
        array = np.asarray(one)
        if array.dtype.kind in "iub":
            array = array.astype(float)
        if array.dtype.kind not in "fM" or array.shape[:1] < (count,) or array.ndim != 1:
            raise ValueError(
                f"Series: times must be numbers or datetime64, one for each of {count} steps, got "
                f"{array.dtype} of shape {array.shape}"
            )
        array = array[:count]
        if bool((np.isnat(array) if array.dtype.kind == "M" else ~np.isfinite(array)).any()):
            raise ValueError("Series: times must be known in every step; got one that is missing")
        if bool((np.diff(array) <= np.zeros(1, np.diff(array[:1]).dtype)).any()):
            raise ValueError("Series: times must grow from step to step")
        times.append(array)
    return tuple(times)


def abridged(names: Sequence[str]) -> str:
    """Names in a sentence, of many the first."""
    more = len(names) - MOST_NAMES
    told = ", ".join(names[:MOST_NAMES])
    return f"{told} and {more} more" if more > 0 else told


def one_each(owner: str, name: str, given: Any, number: int) -> Tensor:
    """A whole number for each of several series, ``(N,)``, of one for all or one for each.

    Raises:
        ValueError: no whole numbers, or of another count.
    """
    numbers = torch.as_tensor(given) if _is_whole(given) else None
    if numbers is None or numbers.shape not in ((), (number,)):
        raise ValueError(
            f"{owner}: {name} must be a whole number, or {number}, one a series, got {given!r}"
        )
    return numbers.long().expand(number).clone()


def _is_whole(given: Any) -> bool:
    if isinstance(given, (Tensor, np.ndarray)):
        given = given.tolist()
    if isinstance(given, (list, tuple)):
        return all(isinstance(one, int) and not isinstance(one, bool) for one in given)
    return isinstance(given, (int, np.integer)) and not isinstance(given, bool)


def side_by_side(parts: Sequence[Series]) -> Series:
    """Series that were taken apart, together again."""
    values = torch.nn.utils.rnn.pad_sequence(
        [part.values[:, 0] for part in parts], padding_value=torch.nan
    )
    controls = None
    if parts[0].controls is not None:
        every = [part.controls[:, 0] for part in parts if part.controls is not None]
        controls = torch.nn.utils.rnn.pad_sequence(every, padding_value=torch.nan)
    return replace(
        parts[0],
        values=values,
        lengths=torch.cat([part.lengths for part in parts]),
        ids=tuple(part.ids[0] for part in parts),
        times=tuple(part.times[0] for part in parts),
        controls=controls,
    )


def _where_frame(frames: Tensor, one: Tensor | float, other: Tensor) -> Tensor:
    """``torch.where`` with a condition of one entry a frame, ``(T, N)``."""
    values = one if isinstance(one, Tensor) else other
    there = frames.reshape(*frames.shape, *[1] * (values.dim() - 2))
    return torch.where(there, one, other)
