"""Event time from a field of the record: when what a record tells of happened.

A number counts from 1970-01-01T00:00Z in seconds, milliseconds or microseconds, told apart by its size: below 1e11 it
is seconds (up to the year 5138), below 1e14 milliseconds, and else microseconds. Between 1966 and 1973 milliseconds and
microseconds are too small for that. A text is in ISO 8601, with a zone: it says any time of the years 1 to 9999.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace_data.batches import FIRST_US, LAST_US, TIME_TYPE
from headrace_data.columns import Fault, Piece
from headrace_data.describing import describe

TIME_RULE: Final = "time"
"""Rule: the field of the event time holds a time."""
FUTURE: Final = "future"
"""Rule: the event time is not far ahead of ingestion's clock."""
_LARGEST_SECONDS: Final = 1e11
_LARGEST_MILLISECONDS: Final = 1e14
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_NULLS: Final[npt.NDArray[np.bool_]] = np.empty(0, dtype=np.bool_)


class TimeColumn:
    """Reads event times, as a Column reads a field. A record without one is refused, unless it may lack it."""

    def __init__(self, *, may_lack: bool = False) -> None:
        self._may_lack = may_lack

    def read(self, values: list[Any], *, booleans: bool = True) -> Piece | None:
        """Return the times of some records in microseconds; None when any of them is none."""
        del booleans  # their type is looked at in any case
        nulls = _NO_NULLS
        if self._may_lack:
            nulls = np.array([value is None for value in values], np.bool_)
            values = [0 if value is None else value for value in values]
        try:
            return Piece(_microseconds(values), nulls)
        except (ValueError, OverflowError):
            return None

    def fault(self, value: object) -> Fault | None:
        """Return what is wrong with one value; None when it is a time."""
        if value is None and not self._may_lack:
            return Fault(TIME_RULE, "expected a time, got none")
        if self.read([value]) is not None:
            return None
        wanted = "a time with a zone such as 2026-11-29T10:00:00Z, or seconds, milliseconds or microseconds since 1970"
        return Fault(TIME_RULE, f"expected {wanted}, got {describe(value)}")

    def build(self, pieces: Sequence[Piece]) -> pa.Array:
        """Return the column of all pieces in order."""
        times = np.concatenate([np.empty(0, np.int64), *(piece.values for piece in pieces)])
        nulls = np.concatenate([_NO_NULLS, *(piece.nulls for piece in pieces)])
        return pa.array(times, pa.int64(), mask=nulls if nulls.any() else None).cast(TIME_TYPE)


def _microseconds(values: list[Any]) -> npt.NDArray[np.int64]:
    """Return times in microseconds since 1970. Raises ValueError, and OverflowError for a number that is no int64."""
    kinds = set(map(type, values))
    if kinds == {str}:
        times = np.array([_of_text(value) for value in values], np.int64)
    elif kinds == {int} or kinds == {float}:
        numbers: npt.NDArray[Any] = np.array(values, np.int64 if kinds == {int} else np.float64)
        times = _of_numbers(numbers)
    elif kinds <= {str, int, float}:
        return np.concatenate([_microseconds([value]) for value in values])
    else:
        raise ValueError(f"expected texts or numbers, got {kinds}")
    if times.min() < FIRST_US or times.max() > LAST_US:
        raise ValueError("expected times of the years 1 to 9999")
    return times


def _of_text(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("expected a zone")
    return (moment - _EPOCH) // _MICROSECOND


def _of_numbers(numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if not (numbers.min() >= -LAST_US and numbers.max() <= LAST_US):
        raise ValueError("expected times of the years 1 to 9999")
    size = np.abs(numbers)
    units = np.where(size < _LARGEST_SECONDS, 1_000_000, np.where(size < _LARGEST_MILLISECONDS, 1_000, 1))
    return np.rint(numbers * units).astype(np.int64) if numbers.dtype.kind == "f" else numbers.astype(np.int64) * units
