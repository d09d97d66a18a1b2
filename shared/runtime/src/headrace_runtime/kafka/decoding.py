"""Decoding of Kafka's record batches, one batch at a time.

kafka-python (3.0.12) decodes one record after another in Python, which is the largest part of the cost of reading.
This module finds the offsets of all fields of many records together, in numpy, and builds each record once, in the
class that the services use. Checksums, codecs, aborted transactions and control batches stay with kafka-python:
`QuickRecords` replaces the class with which its fetcher unpacks a batch, and has the same interface.

The format is described in Kafka's documentation under "Record Batch" and "Record".
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import dropwhile, repeat
from typing import Any

import numpy as np
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.util import decode_varint

from headrace_runtime.kafka import internals
from headrace_runtime.records import Headers, Record

logger = logging.getLogger(__name__)

_VERSION = 2
APPEND_TIME = 1
"""The type of timestamps that the broker sets; those of producers have 0."""
FEWEST = 24
"""Smallest batch (records) for which decoding in numpy is faster."""
AT_ONCE = 1024
"""Records that are built at a time. They lie in memory beside their batch."""


_Places = np.ndarray[Any, np.dtype[np.int64]]
_Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class QuickRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """An iterator that decodes the fetched batches of a partition into records of headrace_runtime.records."""

    def __init__(self, fetch_offset: int, tp: Any, records: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(fetch_offset, tp, records, *arguments, **options)
        # Replaces kafka-python's iterator, which decodes record by record.
        self.record_iterator = self._pieces(tp, records)
        self._piece: list[Record] = []

    def take(self, n: int | None = None) -> list[Record]:
        """Return the next records, n at most.

        An error is raised after the records before it were returned. The remaining bytes are dropped and fetched again.
        """
        taken: list[Record] = []
        try:
            self._maybe_raise_next_inline_exception()
            while n is None or len(taken) < n:
                self._piece = self._piece or next(self.record_iterator, [])
                if not self._piece:
                    break
                most = len(self._piece) if n is None else n - len(taken)
                taken += self._piece[:most]
                self._piece = self._piece[most:]
                self.next_fetch_offset = taken[-1].offset + 1
        except Exception as error:
            if not taken:
                self.drain()
                raise
            self._next_inline_exception = error
        self.records_read += len(taken)
        return taken

    def _pieces(self, tp: Any, records: Any) -> Iterator[list[Record]]:
        """Yield the records from the fetch offset on, in groups."""
        last = None
        while (batch := records.next_batch()) is not None:
            last = batch
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(f"{tp}: the record batch at offset {batch.base_offset} fails its checksum")
            self.bytes_read += batch.size_in_bytes
            if batch.magic == _VERSION:
                self.leader_epoch = batch.leader_epoch
                if self._passed_over(batch):
                    self.next_fetch_offset = batch.next_offset
                    continue
            for piece in unpack(batch, tp.topic, tp.partition):
                # The broker sends whole batches, even when the fetch offset lies inside one.
                if found := list(dropwhile(self._maybe_skip_record, piece)):
                    yield found
        if last is not None and last.magic == _VERSION:
            # A batch keeps its last offset when compaction has removed its last record.
            self.next_fetch_offset = last.next_offset
        self.drain()

    def _passed_over(self, batch: Any) -> bool:
        """Return whether a batch holds no records for readers: a control batch, or one of an aborted transaction."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def unpack(batch: Any, topic: str, partition: int) -> Iterator[list[Record]]:
    """Yield the records of one of kafka-python's batches, in groups.

    Raises CorruptRecordError when the bytes are not a record batch. A header with a null value gets an empty one.
    Bytes of a header's name that are not UTF-8 are replaced, so that no producer's message stops a reader.
    """
    if batch.magic != _VERSION:
        yield list(_plainly(batch, topic, partition))
        return
    position, bytes_of = internals.uncompressed(batch)
    left = batch.records_count
    if left < FEWEST:
        try:
            yield list(_plainly(batch, topic, partition))
        except CorruptRecordError:
            logger.debug("%s:%s: the batch at %s is read once more", topic, partition, batch.base_offset)
        else:
            return
    data = bytes_of()
    try:
        while left:
            starts, ends = _bodies(data, position, min(left, AT_ONCE))
            yield _records(data, starts, ends, batch, topic, partition)
            position = ends[-1]
            left -= len(ends)
    except (IndexError, ValueError) as error:
        raise CorruptRecordError(
            f"{topic}:{partition}: a record after {batch.base_offset} is none: {error!r}"
        ) from error
    if position != len(data):
        raise CorruptRecordError(f"{topic}:{partition}: {len(data) - position} bytes are left after all records")


def _plainly(batch: Any, topic: str, partition: int) -> Iterator[Record]:
    """Yield the records of a batch one after another, as kafka-python reads them."""
    for one in batch:
        if not one.validate_crc():
            raise CorruptRecordError(f"{topic}:{partition}: the record at offset {one.offset} fails its checksum")
        headers = tuple((name, value or b"") for name, value in one.headers)
        # Messages of the oldest format have no time, for which later ones write -1.
        stamp = -1 if one.timestamp is None else one.timestamp
        yield Record(
            topic, partition, one.offset, one.key, one.value, headers, stamp, one.timestamp_type == APPEND_TIME
        )


def _bodies(data: bytes, position: int, count: int) -> tuple[list[int], list[int]]:
    """Return the start of each of the next records, after its length, and its end.

    A record begins at the end of its predecessor, so this loop cannot be vectorised.
    """
    starts, ends = [], []
    for _ in range(count):
        first = data[position]
        if first < 0x80:
            length = (first >> 1) ^ -(first & 1)
            position += 1
        elif (second := data[position + 1]) < 0x80:
            whole = first & 0x7F | second << 7
            length = (whole >> 1) ^ -(whole & 1)
            position += 2
        else:
            length, position = decode_varint(data, position)
        if not 0 < length <= len(data) - position:
            raise ValueError(f"a record of {length} bytes at {position} of {len(data)}")
        starts.append(position)
        position += length
        ends.append(position)
    return starts, ends


def _records(data: bytes, starts: list[int], ends: list[int], batch: Any, topic: str, partition: int) -> list[Record]:
    view = np.frombuffer(data, np.uint8)
    at = np.array(starts, np.int64)
    if (view[at] & 0x80).any():  # kafka-python reads a number there, of which no bit has a meaning so far
        raise ValueError("attributes that nobody knows")
    at += 1
    stamps, at = _varints(view, at)
    deltas, at = _varints(view, at)
    keys, at = _parts(data, view, at)
    values, at = _parts(data, view, at)
    counts, at = _varints(view, at)
    if (counts < 0).any():
        raise ValueError("a negative number of headers")
    if batch.timestamp_type == APPEND_TIME:
        stamps[:] = batch.max_timestamp
    else:
        stamps += batch.first_timestamp
    offsets = (deltas + batch.base_offset).tolist()
    headers, found = _headers(data, counts, at)
    if found != ends:
        raise ValueError("a record that does not end where its length says")
    appended = repeat(batch.timestamp_type == APPEND_TIME)
    stamped = stamps.tolist()
    held = offsets, keys, values, headers, stamped, appended
    fields = zip(repeat(topic), repeat(partition), *held, repeat(0), strict=False)
    # Record's own constructor is a Python function and too slow here.
    records: list[Record] = list(map(tuple.__new__, repeat(Record), fields))
    return records


def _varints(view: _Bytes, at: _Places) -> tuple[_Places, _Places]:
    """Return the zigzag-encoded numbers at these offsets, and the offsets after them."""
    byte = view[at]
    whole = (byte & 0x7F).astype(np.int64)
    at = at + 1
    longer = np.flatnonzero(byte & 0x80)
    shift = 7
    while len(longer):
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
        byte = view[at[longer]]
        whole[longer] |= (byte & 0x7F).astype(np.int64) << shift
        at[longer] += 1
        longer = longer[(byte & 0x80) != 0]
        shift += 7
    # An arithmetic shift of a 64-bit number repeats the sign bit on the left: clear those bits.
    halves = (whole.view(np.uint64) >> np.uint64(1)).view(np.int64)
    return halves ^ -(whole & 1), at


def _parts(data: bytes, view: _Bytes, at: _Places) -> tuple[list[bytes | None], _Places]:
    """Return the length-prefixed bytes at these offsets; a negative length stands for None."""
    lengths, starts = _varints(view, at)
    ends = starts + np.maximum(lengths, 0)
    if int(lengths.max()) > len(data) or int(ends.max()) > len(data):
        raise ValueError("a key or value that is longer than its batch")
    if (lengths < 0).all():
        return [None] * len(at), ends
    parts: list[bytes | None] = [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    for at_none in np.flatnonzero(lengths < 0).tolist():
        parts[at_none] = None
    return parts, ends


def _headers(data: bytes, counts: _Places, at: _Places) -> tuple[list[Headers], list[int]]:
    """Return each record's headers and the offset after them. Few records have headers."""
    headers: list[Headers] = [()] * len(counts)
    ends = at.tolist()
    for record in np.flatnonzero(counts).tolist():
        found, ends[record] = _some_headers(data, int(counts[record]), ends[record])
        headers[record] = found
    return headers, ends


def _some_headers(data: bytes, count: int, position: int) -> tuple[tuple[tuple[str, bytes], ...], int]:
    found: list[tuple[str, bytes]] = []
    for _ in range(count):
        length, position = decode_varint(data, position)
        if length < 0:
            raise ValueError("a header without a name")
        name = data[position : position + length].decode(errors="replace")
        length, position = decode_varint(data, position + length)
        found.append((name, data[position : position + length] if length > 0 else b""))
        position += max(length, 0)
    return tuple(found), position
