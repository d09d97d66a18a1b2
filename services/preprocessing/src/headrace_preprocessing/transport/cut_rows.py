"""The rows of one cut, without those that no dataset can have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa
from headrace_data.forgotten import NOTHING_FORGOTTEN, Suppression
from headrace_data.lateness import Lateness
from headrace_data.repeats import Repeats
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline
from headrace_data.stream_keys import NO_DUPLICATES, Duplicates, Known, duplicates_of
from headrace_runtime.records import Outgoing

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


def written(
    cut: Iterable[Left], writer: SegmentWriter, letters: list[Outgoing], counts: Sequence[Repeats | Lateness]
) -> tuple[Counter[str], Counter[str]]:
    """Write what a cut takes, and return how many rows it leaves out, by rule, and what was masked, by kind.

    Rows that are written go to `counts`; those that no dataset can have become `letters`.
    """
    left_out, masked = Counter[str](), Counter[str]()
    for left in cut:
        letters += left.letters
        left_out.update(left.rejected)
        masked.update(left.masked)
        writer.add(left.rows)
        for count in counts:
            count.add(left.rows)
    return left_out, masked


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
