"""A pipeline's clean topic, read backwards and by range."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa
from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka import Admin, LogReader
from headrace_runtime.kafka.producers import TRANSACTION_TIMEOUT_MS
from headrace_runtime.records import Place, Record
from headrace_runtime.settings import KafkaSettings

FIRST_STEP = 64
SETTLE_S = 2 * TRANSACTION_TIMEOUT_MS / 1_000
"""Longest wait for the transactions of former owners: twice what the broker grants one before it aborts it."""
SETTLE_POLL_S = 0.02


Read = Callable[[Record], pa.RecordBatch | None]
"""Returns the rows of a message, None when there are none to be had from it."""


def last_rows(
    settings: KafkaSettings, place: Place, rows: int, read: Read, beat: Callable[[], None] = lambda: None
) -> list[pa.RecordBatch]:
    """Return batches with at least the last `rows` rows of a clean partition, oldest first; all there is if less.

    Everything written before the call is among them, if it is committed at all. `beat` is called whenever
    something was read or waited for. Raises Unavailable when a transaction stays open.
    """
    with LogReader(settings, f"preprocessing.restore.{place[0]}") as reader:
        reader.start_at({place: None})
        ends, step = _settled_ends(settings, reader, place, beat), FIRST_STEP
        beginning = reader.position(place)
        # How many rows a message holds is known only once it is read: go back twice as far until there are enough.
        while True:
            start = max(beginning, ends[place] - step)
            reader.start_at({place: start})
            batches: list[pa.RecordBatch] = []
            for records in reader.read_to(ends):
                batches += [batch for batch in map(read, records) if batch is not None]
                beat()
            if start == beginning or sum(batch.num_rows for batch in batches) >= rows:
                return batches
            step *= 2


def _settled_ends(
    settings: KafkaSettings, reader: LogReader, place: Place, beat: Callable[[], None]
) -> dict[Place, int]:
    """Return the last stable offset once it has passed all that is written now.

    A former owner's transaction may be committed and its offsets valid while its marker has not reached this partition:
    its rows lie behind the last stable offset then, and would be missed.
    """
    with Admin(settings, "preprocessing.restore") as admin:
        written = admin.written_ends([place])[place]
    deadline = time.monotonic() + SETTLE_S
    while (ends := reader.ends([place]))[place] < written:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{place[0]}:{place[1]}: a transaction before offset {written} stays open for {SETTLE_S:.0f} s"
            )
        beat()
        time.sleep(SETTLE_POLL_S)
    return ends


def rows_between(
    settings: KafkaSettings,
    pipeline: str,
    starts: Mapping[Place, int | None],
    ends: Mapping[Place, int],
    stall_s: float,
    read: Read,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a range of the clean topic, in order within each partition."""
    with LogReader(settings, f"preprocessing.{pipeline}.range") as reader:
        reader.start_at({place: starts.get(place) for place in ends})
        for records in reader.read_to(ends, stall_s):
            yield from (batch for batch in map(read, records) if batch is not None)
