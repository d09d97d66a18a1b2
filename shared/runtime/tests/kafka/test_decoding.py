"""The quick way through a record batch finds what kafka-python's own finds, whatever the bytes."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from headrace_runtime.kafka import decoding
from headrace_runtime.kafka.decoding import FEWEST, QuickRecords, unpack
from headrace_runtime.records import Record
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

CODECS = {"none": 0, "gzip": 1, "lz4": 3, "zstd": 4}

parts = st.none() | st.binary(max_size=20) | st.integers(100, 9_000).map(lambda size: b"x" * size)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=200)), max_size=3)
rows = st.tuples(parts, parts, headers | st.just([]), st.integers(0, 2**41))


def encoded(written: list[Any], codec: int = 0, first: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 30,
    )  # fmt: skip
    for offset, (key, value, told, stamp) in enumerate(written):
        builder.append(offset, timestamp=stamp, key=key, value=value, headers=told)
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")  # where the broker puts the batch
    return bytes(data)


def plainly(data: bytes) -> list[Record] | str:
    """Unpack one record after another."""
    batch = DefaultRecordBatch(data)
    try:
        return [
            Record(
                *("t", 3, one.offset, one.key, one.value, tuple((n, v or b"") for n, v in one.headers)),
                one.timestamp,
                one.timestamp_type == 1,
            )
            for one in batch
        ]
    except (CorruptRecordError, UnicodeDecodeError):
        return "corrupt"


def quickly(data: bytes) -> list[Record] | str:
    try:
        return list(chain.from_iterable(unpack(DefaultRecordBatch(data), "t", 3)))
    except CorruptRecordError:
        return "corrupt"


def _batches(data: bytes) -> list[Any]:
    records = MemoryRecords(data)
    return list(iter(records.next_batch, None))


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=FEWEST, max_size=FEWEST + 40), st.sampled_from(sorted(CODECS)))
def test_both_ways_find_the_same_records(written: list[Any], codec: str) -> None:
    data = encoded(written, CODECS[codec])

    found = quickly(data)

    assert found == plainly(data)
    assert [(record[3], record[4]) for record in found] == [(key, value) for key, value, _, _ in written]
    assert all(type(record) is Record for record in found)


def test_offsets_and_times_are_those_of_the_log() -> None:
    written: list[Any] = [(None, b"v", [], 1_700_000_000_000 + place) for place in range(FEWEST)]
    data = bytearray(encoded(written, first=2**40))

    found = quickly(bytes(data))
    assert [record.offset for record in found] == [2**40 + place for place in range(FEWEST)]
    assert [record.timestamp_ms for record in found] == [1_700_000_000_000 + place for place in range(FEWEST)]
    assert not any(record.is_append_time for record in found)
    data[22] |= 0x08  # the broker's time stands for all
    assert quickly(bytes(data)) == plainly(bytes(data))
    assert {(record.timestamp_ms, record.is_append_time) for record in quickly(bytes(data))} == {
        (1_700_000_000_000 + FEWEST - 1, True)
    }


def test_a_message_of_the_oldest_format_has_no_time() -> None:
    builder = LegacyRecordBatchBuilder(magic=0, compression_type=0, batch_size=1 << 16)
    builder.append(0, timestamp=None, key=b"k", value=b"v")
    (batch,) = _batches(bytes(builder.build()))
    assert list(chain.from_iterable(unpack(batch, "t", 3))) == [Record("t", 3, 0, b"k", b"v", (), -1)]


def test_many_records_are_made_in_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "AT_ONCE", 7)
    data = encoded([(b"k", b"v" * place, [], place) for place in range(300)])

    assert quickly(data) == plainly(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_bytes_are_corrupt_or_read_alike(given_: st.DataObject) -> None:
    data = bytearray(
        encoded([(b"key", b"value", [("h", b"x")] if place % 5 == 0 else [], place) for place in range(30)])
    )
    for _ in range(given_.draw(st.integers(1, 3))):
        data[given_.draw(st.integers(61, len(data) - 1))] = given_.draw(st.integers(0, 255))
    if given_.draw(st.booleans()):
        del data[given_.draw(st.integers(70, len(data) - 1)) :]

    found, expected = quickly(bytes(data)), plainly(bytes(data))

    names = {name for record in found for name, _ in record.headers} if isinstance(found, list) else set()
    assert found in (expected, "corrupt") or any("\ufffd" in name for name in names)


def test_a_header_without_a_value_has_an_empty_one() -> None:
    for count in (1, FEWEST):
        data = encoded([(None, b"v", [("name", None), ("other", b"x")], 5)] * count)
        assert {record.headers for record in quickly(data)} == {(("name", b""), ("other", b"x"))}


def test_a_name_of_a_header_that_is_no_utf_8_stops_nobody() -> None:
    for count in (1, FEWEST):
        data = encoded([(None, b"v", [("name", b"x")], 5)] * count).replace(b"name", b"n\xffme")
        found = quickly(data)
        assert isinstance(found, list)
        assert [record.headers for record in found] == [(("n\ufffdme", b"x"),)] * count


def test_few_records_that_are_none_are_corrupt() -> None:
    data = encoded([(None, b"v", [], 5), (None, b"v", [], 6)])
    assert quickly(data[:-3]) == plainly(data[:-3]) == "corrupt"


def test_few_records_go_the_plain_way() -> None:
    data = encoded([(None, b"v", [("name", b"value")], 5)])

    assert quickly(data) == plainly(data) == [Record("t", 3, 0, None, b"v", (("name", b"value"),), 5)]


def fetched(data: bytes, offset: int = 0) -> tuple[QuickRecords, list[QuickRecords]]:
    """Return what was fetched from an offset on, and a list that holds it too once it is drained."""
    drained: list[QuickRecords] = []
    found = QuickRecords(offset, TopicPartition("t", 3), MemoryRecords(data), on_drain=drained.append)
    return found, drained


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(0, 70),
    st.lists(st.none() | st.integers(1, 50), max_size=8),
)
def test_what_was_fetched_is_taken_as_kafka_pythons_own_is(
    sizes: list[int], start: int, steps: list[int | None]
) -> None:
    firsts = [sum(sizes[:place]) + 3 * place for place in range(len(sizes))]
    batches = [encoded([(None, b"v", [], 5)] * size, first=first) for size, first in zip(sizes, firsts, strict=True)]
    quick, drained = fetched(b"".join(batches), start)
    plain = Fetcher.PartitionRecords(start, TopicPartition("t", 3), MemoryRecords(b"".join(batches)))

    for step in [*steps, None, None]:
        if not (quick and plain):
            break
        assert [record.offset for record in quick.take(step)] == [record.offset for record in plain.take(step)]
        assert quick.next_fetch_offset == plain.next_fetch_offset
    assert bool(quick) == bool(plain)
    assert drained == [quick]
    assert quick.bytes_read == sum(map(len, batches))


@pytest.mark.parametrize("count", [2, FEWEST])
def test_what_is_before_a_broken_batch_is_read_and_the_batch_is_told_each_time(count: int) -> None:
    good, bad = encoded([(None, b"v", [], 5)] * count), bytearray(encoded([(None, b"v", [], 5)] * count, first=count))
    bad[-1] ^= 1
    quick, drained = fetched(good + bytes(bad))

    assert len(quick.take(count)) == count
    with pytest.raises(CorruptRecordError, match="checksum"):
        quick.take(1)
    assert drained == [quick]
    assert quick.next_fetch_offset == count

    quick, drained = fetched(good + bytes(bad))
    assert len(quick.take()) == count
    assert not drained
    with pytest.raises(CorruptRecordError, match="checksum"):
        quick.take()
    assert not quick
