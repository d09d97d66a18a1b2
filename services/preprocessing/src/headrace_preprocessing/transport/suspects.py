"""Rows on which processes die: tried in a process of their own, and parked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.events.v1 import record_pb2
from headrace_data.spec import parse_canonical
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.poison.trial_child import Attempt
from headrace_runtime.poison.trials import Trial
from headrace_runtime.records import Outgoing, Record

from headrace_preprocessing.core.cleaner import Cleaner
from headrace_preprocessing.transport.consumer import handle_rows, handler
from headrace_preprocessing.transport.converters import rows_told, unreadable

CHILD = "headrace_preprocessing.child"


class BatchSuspects:
    """The record batches of one pipeline: a message holds many rows."""

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner

    def open_trial(self) -> Trial:
        """Return a process that cleans rows as if no key had been seen."""
        return Trial(CHILD, {"spec": self._cleaner.pipeline.canonical_json().decode()})

    def rows(self, record: Record) -> int:
        """Return how many rows a message says that it holds; 0 when it says nothing."""
        try:
            return rows_told(decode(record, record_pb2.RecordBatch))
        except Unprocessable:
            return 0

    def handle_without(self, record: Record, faults: Mapping[int, str]) -> Sequence[Outgoing]:
        """Clean the rows that nobody dies of, and park the others."""
        good = [row for row in range(self.rows(record)) if row not in faults]
        return handle_rows(self._cleaner, record, good, faults)

    def park(self, record: Record, reason: str) -> Sequence[Outgoing]:
        """Return the dead letter of a message that cannot be opened, and a batch that accounts for its ranges.

        Where keys are forgotten the letter is without its bytes: nobody knows whose rows they are.
        """
        return unreadable(record, reason, self._cleaner.pipeline, silent=bool(self._cleaner.forgotten()))


def attempt(setup: Mapping[str, Any]) -> Attempt:
    """Return what a trial does with messages, or with some rows of one."""
    cleaner = Cleaner(parse_canonical(setup["spec"].encode()))
    handle = handler(cleaner)

    def clean(records: Sequence[Record], rows: Sequence[int] | None) -> None:
        for record in records:
            cleaner.restore(record.partition, [], 0)
        if rows is None:
            handle(records)
        else:
            handle_rows(cleaner, records[0], rows, {})

    return clean
