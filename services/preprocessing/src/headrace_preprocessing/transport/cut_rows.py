"""The rows of one cut, without those that no dataset can have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from headrace_data.spec import Pipeline
from headrace_data.stream_keys import NO_DUPLICATES, Known, StreamKeys

from headrace_preprocessing.transport.converters import Left, leave_out

Read = Callable[[], Iterable[pa.RecordBatch]]
"""Reads the rows of a cut, the same ones each time it is called."""


def cut_rows(
    read: Read, pipeline: Pipeline, beat: Callable[[], None], before: Callable[[], Iterable[Known]] = tuple
) -> Iterator[Left]:
    """Yield what a cut takes of each batch, and what it leaves out.

    Where duplicates are dropped over the whole stream, the rows are read twice: which one of two comes first is known
    only once all partitions are read. `before` returns the last keys of the stream before the cut, oldest first.
    """
    duplicates = NO_DUPLICATES
    if pipeline.drops_over_stream:
        keys = StreamKeys(pipeline)
        for rows in read():
            keys.add(leave_out(rows, pipeline).rows)
            beat()
        duplicates = keys.duplicates(before())
    for rows in read():
        yield leave_out(rows, pipeline, duplicates)
        beat()
