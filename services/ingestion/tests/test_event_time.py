"""When what a record tells of happened, and who says so."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from headrace.events.v1 import record_pb2
from headrace_ingestion.core.intake import Intake, TimeSource
from headrace_ingestion.core.push import placed, to_check
from headrace_ingestion.core.replay import Outcome, plan
from headrace_ingestion.transport.consumer import LATE, WATERMARK, handler
from headrace_ingestion.transport.converters import dead_letter, raw_message
from headrace_runtime.records import LAST_MS, Outgoing, Record
from headrace_runtime.stream.dead_letters import read_letter

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


def kept(letter: Outgoing, written_ms: int) -> Record:
    """A letter as it lies in its topic."""
    return Record(letter.topic, 0, 3, letter.key, letter.value, letter.headers, written_ms)


def test_a_replayed_record_has_the_time_that_it_had(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(now_s=NOW_S + 86_400)
    record = sent(MS)[0]._replace(value=good(0, state="deep"))
    ((_, rejection),) = intake.take([record]).rejected
    letter = dead_letter(record, rejection, "meters").outgoing("meters", 0)
    found = plan(read_letter(kept(letter, MS + 5_000)), Record("meters", 0, 0, None, good(0)), intake, known=False)
    (batch,) = found.taken.batches
    assert (found.outcome, batch.rows.column("_time").to_pylist()) == (Outcome.ACCEPTED, [MOMENT])
    assert batch.time_sources == ()
    # An earlier version's letter does not tell: it was written soon after.
    silent = [item for item in letter.headers if item[0] != "dead-time"]
    assert len(silent) == len(letter.headers) - 1
    found = plan(
        read_letter(kept(replace(letter, headers=silent), MS)),
        Record("meters", 0, 0, None, good(0)),
        intake,
        known=False,
    )
    assert found.taken.batches[0].rows.column("_time").to_pylist() == [MOMENT]


def test_what_is_too_far_ahead_stays_so_until_the_pipeline_allows_it(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(now_s=NOW_S)
    record = sent(MS + 86_400_000)[0]
    ((_, rejection),) = intake.take([record]).rejected
    stored = read_letter(kept(dead_letter(record, rejection, "meters").outgoing("meters", 0), MS))
    assert plan(stored, None, intake, known=False).outcome is Outcome.REJECTED
    mended = plan(stored, None, new_intake(stream="maxAhead: 48h", now_s=NOW_S), known=False)
    assert mended.outcome is Outcome.ACCEPTED
    assert mended.taken.batches[0].rows.column("_time").to_pylist() == [datetime(2025, 11, 30, 0, 0, 0, 123_000, UTC)]


def test_late_rows_are_kept_and_counted_and_the_future_moves_no_watermark(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(now_s=NOW_S)
    late = LATE.labels("meters")._value.get
    before = late()
    minute = 60_000
    handle = handler(intake)
    records = sent(MS, MS + 10 * 365 * 86_400_000, MS - minute, MS - minute - 1, MS + minute, MS - 1)
    messages = handle(records)
    raw = record_pb2.RecordBatch.FromString(messages[0].value or b"")
    assert (raw.rows, dict(raw.rejected)) == (5, {"future": 1})
    assert late() - before == 2
    watermark = WATERMARK.labels("meters", 0)._value.get
    assert watermark() == (MS + minute) / 1_000
    # An aborted transaction's records come once more: none is late by itself.
    handle(records[:3])
    assert (late() - before, watermark()) == (2, MS / 1_000)
