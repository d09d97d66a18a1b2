import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from headrace_data.forgotten import Suppression, forgotten
from headrace_data.spec import load_pipeline
from headrace_ingestion.core.intake import Form, Intake
from headrace_ingestion.transport.converters import dead_letter
from headrace_runtime.records import Record
from hypothesis import given, settings
from hypothesis import strategies as st


def good(number: int) -> bytes:
    return json.dumps({"id": f"r{number}", "level": 1.5, "state": 1}).encode()


def test_a_bad_record_never_stops_the_good_ones(new_intake: Callable[..., Intake]) -> None:
    values: list[bytes | None] = [
        good(0),
        b"{not json",
        None,
        good(1),
        b'{"id": "x", "level": "deep", "state": 0}',
        good(2),
    ]
    records = [Record("meters", 0, offset, None, value) for offset, value in enumerate(values)]
    taken = new_intake().take(records)
    (batch,) = taken.batches
    assert batch.rows.column("id").to_pylist() == ["r0", "r1", "r2"]
    assert batch.rows.column("_offset").to_pylist() == [0, 3, 5]
    assert (batch.start, batch.end) == (0, 6)
    assert [record.offset for record, _ in taken.rejected] == [1, 2, 4]
    assert sum(batch.rejected.values()) == 3
    assert "level" in next(rejection.reason for record, rejection in taken.rejected if record.offset == 4)


def test_records_of_a_partition_stay_in_order_and_apart(new_intake: Callable[..., Intake]) -> None:
    records = [Record("meters", partition, offset, None, good(offset)) for offset in range(6) for partition in (2, 0)]
    taken = new_intake().take(records)
    assert {batch.partition: batch.rows.column("_offset").to_pylist() for batch in taken.batches} == {
        0: list(range(6)),
        2: list(range(6)),
    }


def test_when_every_record_is_bad_the_range_is_still_accounted_for(new_intake: Callable[..., Intake]) -> None:
    taken = new_intake().take([Record("meters", 1, offset, None, b"[]") for offset in (10, 11)])
    (batch,) = taken.batches
    assert (batch.start, batch.end, batch.rows.num_rows, sum(batch.rejected.values())) == (10, 12, 0, 2)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1024, 4096), st.integers(1, 3))
def test_batches_cover_each_offset_once_and_keep_every_record(
    new_intake: Callable[..., Intake], fine: list[bool], limit: int, stride: int
) -> None:
    records = [
        Record("meters", 0, 5 + stride * number, None, good(number) if ok else b"?") for number, ok in enumerate(fine)
    ]
    taken = new_intake(limit).take(records)
    ranges = [(batch.start, batch.end) for batch in taken.batches]
    assert ranges[0][0] == records[0].offset
    assert ranges[-1][1] == records[-1].offset + 1
    assert all(left[1] == right[0] for left, right in pairwise(ranges))
    rows: list[dict[str, Any]] = [row for batch in taken.batches for row in batch.rows.to_pylist()]
    assert [row["_offset"] for row in rows] == [record.offset for record, ok in zip(records, fine, strict=True) if ok]
    assert all(batch.start <= row["_offset"] < batch.end for batch in taken.batches for row in batch.rows.to_pylist())
    assert len(taken.rejected) == fine.count(False) == sum(sum(batch.rejected.values()) for batch in taken.batches)


LARGE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: large}
stream:
  topic: large
  schema:
    - {name: id, type: string, role: id}
    - {name: xs, type: float64, shape: [1048576], role: feature, nullable: true}
    - {name: state, type: int64, role: label}
prepare: {}
train: {network: {kind: mlp, hidden: [4]}}
"""


def test_a_row_that_no_message_can_hold_is_rejected_and_stops_no_other() -> None:
    intake = Intake(load_pipeline(LARGE), 900_000, 3_000_000)
    large = b'{"id": "b", "state": 1, "xs": [0' + b",0" * (2**20 - 1) + b"]}"
    values = [b"{", b'{"id": "c", "state": true}', large, b"x" * 3_000_001]
    taken = intake.take([Record("large", 0, at, None, value) for at, value in enumerate(values)])
    assert [(record.offset, fault.rule) for record, fault in taken.rejected] == [
        (0, "json"),
        (1, "type"),
        (2, "oversized"),
        (3, "oversized"),
    ]
    assert "expected a row of at most 7000000 bytes, got 8" in taken.rejected[2][1].reason
    assert [(batch.start, batch.end, batch.rows.num_rows) for batch in taken.batches] == [(0, 4, 0)]


def test_large_texts_side_by_side_are_in_messages_that_can_be_sent(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake()
    intake.max_record_bytes = 1_500_000
    values = [b'{"id": "%s", "level": 1, "state": 1}' % (b"x" * (1_400_000 if at < 8 else 3)) for at in range(500)]
    taken = intake.take([Record("meters", 0, at, None, value) for at, value in enumerate(values)])
    assert taken.rejected == []
    assert max(batch.rows.nbytes for batch in taken.batches) < 7_000_000
    ranges = [(batch.start, batch.end) for batch in taken.batches]
    assert [start for start, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert (ranges[-1][1], sum(batch.rows.num_rows for batch in taken.batches)) == (500, 500)


def test_deletions_are_counted_and_no_dead_letters(new_intake: Callable[..., Intake]) -> None:
    row = {"id": "a", "level": 1, "state": 1}
    values = [json.dumps({"op": "c", "after": row}).encode(), None, b'{"op": "d"}', b"{"]
    taken = new_intake(stream="envelope: debezium").take(
        [Record("meters", 0, at, None, value) for at, value in enumerate(values)]
    )
    assert [(record.offset, fault.rule) for record, fault in taken.rejected] == [(3, "json")]
    (batch,) = taken.batches
    assert (batch.start, batch.end, dict(batch.rejected)) == (0, 4, {"deleted": 2, "json": 1})


SELECT = (
    "select: \"$key AS id, TRY_CAST(replace(m.level, ',', '.') AS DOUBLE) AS level, "
    "CAST($headers['state'] AS INTEGER) AS state\""
)


def test_a_select_reads_a_records_message_and_counts_what_it_cannot_read(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(stream=SELECT)
    values = [{"m": {"level": "1,5"}}, {"m": {"level": "low"}}, {"m": {"level": 2}}]
    headers = [[("state", b"1")], [("state", b"0")], [("state", b"on")]]
    records = [
        Record("meters", 0, at, b"k%d" % at, json.dumps(value).encode(), headers[at], 1_700_000_000_000)
        for at, value in enumerate(values)
    ]
    taken = intake.take(records)
    (batch,) = taken.batches
    assert batch.rows.select(["id", "level", "state"]).to_pylist() == [{"id": "k0", "level": 1.5, "state": 1}]
    assert [(fault.rule, fault.field) for _, fault in taken.rejected] == [("missing", "level"), ("select", "state")]
    assert batch.unread == {"level": 1}
    # What preprocessing refused is a row by then, and what was pushed came in no message.
    again = intake.take([Record("", -1, 0, None, good(7))], form=Form.ROW)
    assert again.batches[0].rows.column("id").to_pylist() == ["r7"]
    (_, fault), *_ = intake.take([Record("", -1, 0, None, json.dumps(values[0]).encode())], numbered=True).rejected
    assert (fault.rule, fault.field) == ("missing", "id")


@pytest.mark.parametrize(
    "value",
    [b'{"id": "x", "level": "deep", "state": 0}', b'{"id": "ada", "level": "4321.5", "state": 7}', b"no JSON of ada"],
    ids=["key of the message", "key of the record", "unreadable"],
)
def test_of_a_forgotten_key_a_letter_has_place_and_rule_alone(new_intake: Callable[..., Intake], value: bytes) -> None:
    secret = b"0123456789abcdef" * 2
    intake = new_intake()
    record = Record("meters", 0, 3, b"somebody" if b"4321" in value else b"ada", value, [("who", b"ada")])
    ((_, before),) = intake.take([record]).rejected
    intake.forgotten = lambda: Suppression([forgotten("ada", secret)], lambda _: secret)
    other = record._replace(offset=4, key=None, value=b'{"id": "grace", "level": "9"}')
    (_, rejection), (_, spared) = intake.take([record, other]).rejected
    assert (rejection.rule, rejection.field, rejection.forgotten) == (before.rule, before.field, True)
    letter = dead_letter(record, rejection, "meters", intake)
    assert (letter.offset, letter.key, letter.value, letter.headers, letter.withheld) == (3, None, None, [], True)
    assert not any(trace in repr(letter) for trace in ("ada", "4321", "somebody"))
    assert (spared.forgotten, dead_letter(other, spared, "meters", intake).value) == (False, other.value)
    large = record._replace(offset=5, key=b"ada", value=b"x" * 2_000)
    ((_, rejection),) = intake.take([large]).rejected
    assert (rejection.rule, rejection.forgotten) == ("oversized", True)
