"""What a pushed batch of records gets for an answer, and where its rows say they come from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from headrace_data.batches import OFFSET, PARTITION
from headrace_data.records import Rejection
from headrace_runtime.errors import InvalidInput
from headrace_runtime.records import Headers, Record

from headrace_ingestion.core.intake import Batch, Taken

MAX_BATCH_ID_LENGTH = 200
REPLAY_PREFIX = "dead/"
"""Begins the batch ids of replayed dead letters, and of nothing else."""
Context = tuple[bytes | None, Headers]
"""Key and headers of a record, as a message of Kafka would have them."""
NO_CONTEXT: Context = (None, ())


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a pushed batch: how many records are written, and which were refused at which index."""

    accepted: int
    rejected: Sequence[tuple[int, Rejection]]


def to_check(batch_id: str, values: Sequence[bytes], contexts: Sequence[Context] = ()) -> list[Record]:
    """Return the records of a pushed batch, not yet placed; they are taken as numbered ones. Their time is now.

    `contexts` are key and headers of each, or nothing. Raises InvalidInput for a bad id, for no record, and for keys
    and headers of others than all.
    """
    require_id(batch_id)
    if not values:
        raise InvalidInput("records: expected at least one record, got none")
    if contexts and len(contexts) != len(values):
        raise InvalidInput(f"contexts: expected none, or one for each of {len(values)} records, got {len(contexts)}")
    now_ms, beside = int(time.time() * 1000), contexts or [NO_CONTEXT] * len(values)
    return [
        Record("", partition=-1, offset=0, key=key, value=value, headers=headers, timestamp_ms=now_ms)
        for value, (key, headers) in zip(values, beside, strict=True)
    ]


def require_id(batch_id: str) -> None:
    """Raise InvalidInput unless a client may call a batch so."""
    if not 0 < len(batch_id) <= MAX_BATCH_ID_LENGTH:
        raise InvalidInput(f"batch_id: expected 1 to {MAX_BATCH_ID_LENGTH} characters, got {len(batch_id)}")
    if batch_id.startswith(REPLAY_PREFIX):
        raise InvalidInput(f"batch_id: expected one that does not begin with {REPLAY_PREFIX}, got {batch_id!r}")


def answer_to(taken: Taken) -> Answer:
    """Return the answer that tells what became of the records."""
    accepted = sum(batch.rows.num_rows for batch in taken.batches)
    return Answer(accepted, [(rejection.position, rejection) for _, rejection in taken.rejected])


def placed(batch: Batch, accepted_partition: int, accepted_offset: int) -> Batch:
    """Return a checked batch whose rows name the message that accepted it: partition -1 - p and its offset.

    That message's place is unique for ever, as a producer's offset is, and both orders are total.
    """
    partition, rows = -1 - accepted_partition, batch.rows
    columns = {
        PARTITION: pa.array(np.full(rows.num_rows, partition, np.int32)),
        OFFSET: pa.array(np.full(rows.num_rows, accepted_offset, np.int64)),
    }
    arrays = [columns.get(name, rows.column(name)) for name in rows.schema.names]
    return replace(
        batch,
        partition=partition,
        start=accepted_offset,
        end=accepted_offset + 1,
        rows=pa.RecordBatch.from_arrays(arrays, schema=rows.schema),
    )
