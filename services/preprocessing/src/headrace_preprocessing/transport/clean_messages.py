"""Reads messages of a clean topic. Whoever can write to Kafka may have left others there: they are passed over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

import pyarrow as pa
from headrace.events.v1 import record_pb2
from headrace_data.cleaning import keys_of
from headrace_data.errors import DataError
from headrace_data.key_digests import Digests
from headrace_data.spec import Pipeline
from headrace_runtime.errors import Unprocessable
from headrace_runtime.records import Record
from prometheus_client import Counter

from headrace_preprocessing.transport.converters import own_message, record_batch, require_room

logger = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""Rule: a message of the clean topic holds no rows of its pipeline."""
MOST_LOGGED = 10

PASSED_OVER = Counter(
    "headrace_preprocessing_unreadable",
    "Messages of a clean topic that hold no rows and were passed over.",
    ["pipeline"],
)


class CleanMessages:
    """The messages of one pipeline's clean topic. Safe for use by several threads.

    `tell` is called once, with the place and the reason, when the first unreadable message is met.
    """

    def __init__(
        self, pipeline: Pipeline, tell: Callable[[str, str], None], known: Callable[[Collection[str]], bool]
    ) -> None:
        """`known` tells whether none of these specs was applied after the pipeline's that is in force here."""
        self._pipeline = pipeline
        self.known = known
        self._tell = tell
        self._met: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def batch(self, record: Record) -> record_pb2.RecordBatch | None:
        """Return the message without a look at its rows, None after a word about it when it is none.

        How many rows it says it has is believed as far as they have room.
        """
        try:
            message = own_message(record, self._pipeline)
            require_room(message, record)
        except Unprocessable as error:
            self._pass_over(record, error)
            return None
        return message

    def rows(self, record: Record, without: Collection[str] = ()) -> pa.RecordBatch | None:
        """Return the rows of a message, None after a word about it when there are none to be had from it.

        Messages of producers' topics with an id of `without` are passed over in silence.
        """
        try:
            if without and own_message(record, self._pipeline).topic_id in without:
                return None
            return record_batch(record, self._pipeline)[1]
        except (Unprocessable, DataError) as error:
            self._pass_over(record, error)
            return None

    def keys(self, record: Record) -> Digests | None:
        """Return the keys of a message's rows, None after a word about it when there are none to be had from it."""
        rows = self.rows(record)
        return None if rows is None else keys_of(rows, self._pipeline)

    def _pass_over(self, record: Record, error: Exception) -> None:
        """Count a message, once however often it is read."""
        place = (record.partition, record.offset)
        with self._lock:
            if place in self._met:
                return
            self._met.add(place)
            met = len(self._met)
        PASSED_OVER.labels(self._pipeline.name).inc()
        if met <= MOST_LOGGED:
            logger.warning("passed over %s, which is no batch of clean records: %s", record.coordinates, error)
        if met == 1:
            self._tell(
                record.coordinates,
                f"{record.coordinates} is no batch of clean records and is passed over, as are others like it: "
                f"somebody else writes to this topic ({error})",
            )
