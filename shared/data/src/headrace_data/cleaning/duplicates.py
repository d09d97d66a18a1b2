"""`duplicates`: the row's key is among the last accepted keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from headrace_data.key_digests import Digests, key_digests
from headrace_data.records import Rejection
from headrace_data.seen_keys import SeenKeys
from headrace_data.spec import Field, Pipeline
from headrace_data.spec.scalars import format_duration

DUPLICATES: Final = "duplicates"


def repeated_rows(batch: pa.RecordBatch, field: Field, dropped: Collection[int], seen: SeenKeys) -> Iterator[Rejection]:
    """Yield the rows whose key was seen, and add the keys of the others to `seen`.

    Rows that were `dropped` already leave no key behind: a sound row with their key may follow.
    """
    reason = f"{field.name}: expected a new key, got one that is among the last {seen.window}"
    rows, digests = np.arange(len(batch)), key_digests(batch.column(field.name))
    if dropped:
        rows = np.delete(rows, list(dropped))
        digests = digests[rows]
    for position in rows[~seen.accept(digests)].tolist():
        yield Rejection(position, DUPLICATES, field.name, reason)


def duplicate_in_stream(position: int, pipeline: Pipeline) -> Rejection:
    """Return why a row is dropped whose key another row of the stream has. Raises ValueError without a key."""
    field, window = pipeline.stream.key_field, pipeline.prepare.clean.duplicate_window
    if field is None:
        raise ValueError(f"pipeline {pipeline.name!r}: expected a key, got none")
    among = f"among the last {window}" if isinstance(window, int) else f"of the last {format_duration(window)}"
    reason = f"{field.name}: expected a new key, got one that is {among} of the stream"
    return Rejection(position, DUPLICATES, field.name, reason)


def keys_of(batch: pa.RecordBatch, pipeline: Pipeline) -> Digests:
    """Return the digests of the keys of a batch's rows, in order; none when the pipeline's records have no identity."""
    field = pipeline.stream.key_field
    return key_digests(pa.array([], pa.string()) if field is None else batch.column(field.name))
