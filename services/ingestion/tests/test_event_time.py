"""When what a record tells of happened, and who says so."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from headrace.events.v1 import record_pb2
from headrace_ingestion.core.intake import Intake, TimeSource
from headrace_ingestion.core.push import placed, to_check
from headrace_ingestion.transport.converters import raw_message
from headrace_runtime.records import LAST_MS, Record

MS = 1_764_374_400_123
NOW_S = MS / 1_000
MOMENT = datetime(2025, 11, 29, 0, 0, 0, 123_000, UTC)


def good(number: int, **more: object) -> bytes:
    return json.dumps({"id": f"r{number}", "level": 1.5, "state": 1, **more}).encode()


def sent(*stamps: int, appended: bool = False) -> list[Record]:
    return [Record("meters", 0, number, None, good(number), (), stamp, appended) for number, stamp in enumerate(stamps)]


def told(intake: Intake, records: list[Record]) -> list[int]:
    """Where the times of the batch that these records become come from, as its message says."""
    (batch,) = intake.take(records).batches
    message = raw_message(batch, "meters", "digest", 0)
    return list(record_pb2.RecordBatch.FromString(message.value or b"").time_sources)


def test_a_row_has_the_time_of_its_message_and_none_when_kafka_has_none(new_intake: Callable[..., Intake]) -> None:
    records = sent(MS, -1, 5, 0, MS - 123)
    records[2] = records[2]._replace(value=b"none")
    (batch,) = new_intake(now_s=NOW_S).take(records).batches
    assert batch.rows.column("_time").to_pylist() == [MOMENT, None, None, datetime(2025, 11, 29, tzinfo=UTC)]


@pytest.mark.parametrize("stamp", [MS + 3_600_001, 4_070_908_800_000, LAST_MS + 1, MS * 1_000, 2**63 - 1])
def test_a_message_from_the_future_is_set_aside_whatever_it_takes_for_a_time(
    new_intake: Callable[..., Intake], stamp: int
) -> None:
    taken = new_intake(now_s=NOW_S).take(sent(MS, stamp, MS + 3_600_000))
    (batch,) = taken.batches
    assert batch.rows.column("_offset").to_pylist() == [0, 2]
    assert (batch.start, batch.end, batch.rejected) == (0, 3, {"future": 1})
    ((record, rejection),) = taken.rejected
    assert (record.offset, rejection.rule, rejection.field) == (1, "future", "")
    assert "expected a time up to 2025-11-29T01:00:00Z" in rejection.reason


def test_a_batch_says_who_set_the_times_of_its_rows(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(now_s=NOW_S)
    assert told(intake, sent(MS)) == [record_pb2.TIME_SOURCE_CREATE]
    assert told(intake, sent(MS, appended=True)) == [record_pb2.TIME_SOURCE_APPEND]
    # The topic's configuration may change between two records.
    both = [record_pb2.TIME_SOURCE_CREATE, record_pb2.TIME_SOURCE_APPEND]
    assert told(intake, [*sent(MS, appended=True), *sent(0, MS)[1:]]) == both
    assert told(intake, sent(-1)) == []


def test_a_field_goes_before_the_time_of_the_message(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(stream="time: at", now_s=NOW_S)
    records = sent(MS + 10**9)
    records = [records[0]._replace(value=good(0, at="2025-11-29T01:00:00.123+01:00"))]
    assert told(intake, records) == [record_pb2.TIME_SOURCE_FIELD]
    (batch,) = intake.take(records).batches
    assert batch.rows.column("_time").to_pylist() == [MOMENT]


def test_pushed_rows_have_the_moment_of_their_acceptance(
    new_intake: Callable[..., Intake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: NOW_S)
    (batch,) = new_intake().take(to_check("batch", [good(0), good(1)]), numbered=True).batches
    moved = placed(batch, 0, 7)
    assert moved.rows.column("_time").to_pylist() == [MOMENT] * 2
    assert moved.time_sources == (TimeSource.ACCEPT,)
    timed = new_intake(stream="time: at").take(to_check("batch", [good(0, at=MS - 1_000)]), numbered=True).batches[0]
    assert (timed.rows.column("_time").cast("int64").to_pylist(), timed.time_sources) == (
        [(MS - 1_000) * 1_000],
        (TimeSource.FIELD,),
    )
