"""The rows of one cut, without those that no dataset can have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from headrace_data.forgotten import NOTHING_FORGOTTEN, Suppression
from headrace_data.spec import Pipeline
from headrace_data.stream_keys import NO_DUPLICATES, Duplicates, Known, duplicates_of

from headrace_preprocessing.transport.converters import Left, leave_out

Read = Callable[[], Iterable[pa.RecordBatch]]
"""Reads the rows of a cut, the same ones each time it is called."""


def cut_rows(
    read: Read,
    pipeline: Pipeline,
    beat: Callable[[], None],
    before: Callable[[], Iterable[Known]] = tuple,
    suppression: Suppression = NOTHING_FORGOTTEN,
) -> Iterator[Left]:
    """Yield what a cut takes of each batch, and what it leaves out.

    Where duplicates are dropped over the whole stream, the rows are read twice. `before` returns the last keys of the
    stream before the cut, oldest first. `suppression` tells rows of keys that are forgotten.
    """
    duplicates = duplicates_of((each.rows for each in _left(read, pipeline, beat, suppression)), pipeline, before)
    yield from _left(read, pipeline, beat, suppression, duplicates)


def _left(
    read: Read,
    pipeline: Pipeline,
    beat: Callable[[], None],
    suppression: Suppression,
    duplicates: Duplicates = NO_DUPLICATES,
) -> Iterator[Left]:
    for rows in read():
        yield leave_out(rows, pipeline, duplicates, suppression)
        beat()
