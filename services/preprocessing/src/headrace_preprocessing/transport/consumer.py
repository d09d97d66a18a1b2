"""Raw batches in, clean batches and dead letters out."""

from __future__ import annotations

from collections.abc import Sequence

from headrace_runtime import telemetry_names as names
from headrace_runtime.messages import Handle, Outgoing, Record
from opentelemetry import trace
from prometheus_client import Counter

from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.transport.converters import clean_message, dead_letter, record_batch

ROWS = Counter("headrace_preprocessing_rows", "Rows cleaned.", ["pipeline", "outcome"])


def handler(cleaner: Cleaner) -> Handle:
    """Return what to do with messages of a raw topic."""
    pipeline = cleaner.pipeline

    def handle(records: Sequence[Record]) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        kept = dropped = 0
        for record in records:
            raw, rows = record_batch(record)
            cleaned = cleaner.clean(record.partition, rows)
            outgoing.append(clean_message(raw, cleaned, pipeline, record.partition))
            letters = (dead_letter(rows, rejection, pipeline, record.headers) for rejection in cleaned.dropped)
            outgoing += [letter.outgoing(pipeline.name, record.partition) for letter in letters]
            kept += cleaned.batch.num_rows
            dropped += len(cleaned.dropped)
        ROWS.labels(pipeline.name, "kept").inc(kept)
        ROWS.labels(pipeline.name, "dropped").inc(dropped)
        trace.get_current_span().set_attributes(
            {names.PIPELINE: pipeline.name, names.ROWS: kept, names.REJECTED: dropped}
        )
        return outgoing

    return handle
