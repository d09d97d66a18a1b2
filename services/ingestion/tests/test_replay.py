from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.replay import Outcome, is_original, needs_original, plan, selection
from headrace_runtime.errors import InvalidInput
from headrace_runtime.records import Record
from headrace_runtime.stream.dead_letters import DeadLetter, StoredLetter


def sent(**other: object) -> bytes:
    return json.dumps({"id": "a", "level": 0.1, "state": 1} | other).encode()


def message(value: bytes | None) -> Record:
    return Record("meters", 0, 4, b"k", value)


def letter(value: bytes | None, stage: str = "ingestion", replays: int = 0, value_bytes: int = -1) -> StoredLetter:
    dead = DeadLetter(stage, "type", "state", "why", "meters", 0, 4, b"k", value, (), replays)
    return StoredLetter(dead, 1, 5, 0, "", len(value or b"") if value_bytes < 0 else value_bytes)


@pytest.mark.parametrize(
    ("value", "outcome", "reason"),
    [
        (sent(), Outcome.ACCEPTED, ""),
        (sent(level=11), Outcome.REJECTED, "level: expected 0 to 10, got 11.0"),
        (sent(state="deep"), Outcome.REJECTED, 'state: expected a value of type int64, got "deep"'),
        (None, Outcome.REJECTED, "expected a JSON object, got no value"),
        (sent(note="x" * 1_000), Outcome.REJECTED, "expected at most 1000 bytes, got 1049"),
    ],
)
def test_a_plan_foresees_what_both_stages_will_say(
    value: bytes | None, outcome: Outcome, reason: str, new_intake: Callable[..., Intake]
) -> None:
    found = plan(letter(value), None, new_intake(), known=False)
    assert (found.outcome, found.reason, found.sends) == (outcome, reason, True)
    assert found.batch_id == "dead/1:5"


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"nan"])
def test_what_json_does_not_have_is_rejected(literal: bytes, new_intake: Callable[..., Intake]) -> None:
    value = sent().replace(b"0.1", literal)
    (rejected,) = new_intake().take([Record("meters", 0, 0, None, value)]).rejected
    assert rejected[1].rule == "json"


@pytest.mark.parametrize("level", ["3e38", "-1e39", "1e308"])
def test_a_number_that_its_type_cannot_hold_is_rejected(level: str, new_intake: Callable[..., Intake]) -> None:
    taken = new_intake().take([Record("meters", 0, 0, None, sent().replace(b"0.1", level.encode()))])
    assert [rejection.rule for _, rejection in taken.rejected] == ([] if level == "3e38" else ["overflow"])


def test_an_oversized_record_is_rejected_unread_and_stops_no_other(new_intake: Callable[..., Intake]) -> None:
    values = [sent(), b"{" * 1_001, b"{", sent(), b"x" * 5_000]
    taken = new_intake().take([Record("meters", 0, offset, None, value) for offset, value in enumerate(values)])
    assert [(record.offset, rejection.rule) for record, rejection in taken.rejected] == [
        (1, "oversized"),
        (2, "json"),
        (4, "oversized"),
    ]
    (batch,) = taken.batches
    assert batch.rows.column("_offset").to_pylist() == [0, 3]
    assert (batch.start, batch.end, batch.rejected) == (0, 5, {"oversized": 2, "json": 1})


def test_nothing_is_sent_for_a_letter_that_was_or_came_back_too_often(new_intake: Callable[..., Intake]) -> None:
    for found, outcome in (
        (plan(letter(sent()), None, new_intake(), known=True), Outcome.REPEATED),
        (plan(letter(sent(), replays=2), None, new_intake(), known=False), Outcome.EXHAUSTED),
    ):
        assert (found.outcome, found.sends) == (outcome, False)


def test_the_producers_bytes_are_sent_when_they_were_found(new_intake: Callable[..., Intake]) -> None:
    row = letter(sent(level=11.0), "preprocessing")
    found = plan(row, message(sent(level=9, more=1)), new_intake(), known=False)
    assert found.outcome is Outcome.ACCEPTED
    assert found.taken.batches[0].rows.column("level").to_pylist() == [9.0]


def test_a_part_of_a_record_is_never_sent(new_intake: Callable[..., Intake]) -> None:
    cut = letter(b'{"id": "a"', value_bytes=9_000)
    found = plan(cut, None, new_intake(), known=False)
    assert (found.outcome, found.sends) == (Outcome.REJECTED, False)
    assert "9000 bytes, got its first 10" in found.reason
    assert needs_original(cut)
    assert not needs_original(letter(sent()))
    assert is_original(message(b'{"id": "a"' + b" " * 8_990), cut, new_intake())
    assert not is_original(message(b'{"id": "a"'), cut, new_intake())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (sent(level=0.1, more=2), True),
        (sent(id="b"), False),
        (sent(state=2), False),
        (b"{broken", False),
        (b"[1]", False),
        (None, False),
    ],
)
def test_another_record_at_the_same_place_is_not_taken_for_the_original(
    found: bytes | None, expected: bool, new_intake: Callable[..., Intake]
) -> None:
    row = letter(sent(level=0.10000000149011612), "preprocessing")
    assert is_original(message(found), row, new_intake()) is expected
    assert not is_original(None, row, new_intake())


def test_the_original_may_say_its_time_in_another_form_than_the_row_in_the_letter(
    new_intake: Callable[..., Intake],
) -> None:
    row = letter(sent(level=0.1, at=1_764_374_400.25), "preprocessing")
    for at in ("2025-11-29T00:00:00.25Z", 1_764_374_400_250, 1_764_374_400_250_000):
        assert is_original(message(sent(at=at)), row, new_intake())


def test_a_selection_takes_what_fits_all_of_it() -> None:
    one = letter(sent())
    for wanted in (("", "", "", ""), ("ingestion", "type", "state", "1:5"), ("", "type", "", "")):
        assert selection(*wanted).takes(one)
    for wanted in (("preprocessing", "", "", ""), ("", "json", "", ""), ("", "", "id", ""), ("", "", "", "1:6")):
        assert not selection(*wanted).takes(one)
    assert not selection("", "", "", "1:5").takes(replace(one, partition=0))


@pytest.mark.parametrize("wrong", ["7", ":", "a:b", "1:-5", "1:5:6", "1:" + "9" * 19, "٣:1"])
def test_an_id_is_a_partition_and_an_offset(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="expected partition:offset"):
        selection("", "", "", wrong)


@pytest.mark.parametrize("rule", ["crash", "type"])
def test_of_what_a_process_died_is_tried_elsewhere_before_it_is_handled(
    rule: str, new_intake: Callable[..., Intake]
) -> None:
    asked: list[Record] = []

    def dies(record: Record) -> str | None:
        asked.append(record)
        return "process died: SIGSEGV" if record.value == sent(id="bad") else None

    good, bad = (
        replace(item, letter=replace(item.letter, rule=rule)) for item in map(letter, (sent(), sent(id="bad")))
    )
    assert plan(good, None, new_intake(), known=False, dies=dies).outcome is Outcome.ACCEPTED
    found = plan(bad, None, new_intake(), known=False, dies=dies)
    if rule == "crash":
        assert (found.outcome, found.sends) == (Outcome.REJECTED, False)
        assert found.reason == "expected a record that can be handled: process died: SIGSEGV"
    assert len(asked) == (2 if rule == "crash" else 0)


def test_a_record_that_is_set_aside_is_accounted_for_at_its_place(new_intake: Callable[..., Intake]) -> None:
    record = Record("meters", 3, 17, b"k", b"bytes")
    taken = new_intake().set_aside(record, "process died: SIGKILL")
    (batch,) = taken.batches
    assert (batch.partition, batch.start, batch.end, batch.rows.num_rows) == (3, 17, 18, 0)
    assert batch.rejected == {"crash": 1}
    ((parked, rejection),) = taken.rejected
    assert (parked, rejection.rule, rejection.reason) == (record, "crash", "process died: SIGKILL")


def test_a_row_is_replayed_as_one_whatever_the_producers_write(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(stream="format: csv")
    row = plan(letter(sent(), "preprocessing"), None, intake, known=False)
    assert (row.outcome, row.reason) == (Outcome.ACCEPTED, "")
    assert plan(letter(b"a,1.5,1"), None, intake, known=False).outcome is Outcome.ACCEPTED
    assert plan(letter(sent()), None, intake, known=False).outcome is Outcome.REJECTED


DOUBLED = "select: id, CAST(level AS DOUBLE) * 2 AS level, state"


@pytest.mark.parametrize(
    ("stream", "stage", "topic", "value", "level"),
    [
        (DOUBLED, "preprocessing", "meters", sent(level=1.5), 1.5),
        (DOUBLED, "backfill", "meters", sent(level=1.5), 3.0),
        (DOUBLED, "backfill", "old.jsonl", sent(level=1.5), 3.0),
        (f"format: csv\n  {DOUBLED}", "backfill", "old.csv", sent(level=1.5), 3.0),
        (f"format: csv\n  {DOUBLED}", "backfill", "meters", b"a,1.5,1", 3.0),
        (f"format: csv\n  {DOUBLED}", "preprocessing", "meters", sent(level=1.5), 1.5),
        (f"format: csv\n  {DOUBLED}", "file", "headrace.push.accepted.v1", sent(level=1.5), 3.0),
        ("envelope: debezium", "file", "headrace.push.accepted.v1", sent(level=1.5), 1.5),
        ("envelope: debezium", "preprocessing", "meters", sent(level=1.5), 1.5),
        ("envelope: debezium", "backfill", "old.csv", sent(level=1.5), 1.5),
        ("envelope: debezium", "backfill", "others", b'{"op": "c", "after": %s}' % sent(level=1.5), 1.5),
    ],
)
def test_a_letter_is_read_as_what_its_stage_had(
    stream: str, stage: str, topic: str, value: bytes, level: float, new_intake: Callable[..., Intake]
) -> None:
    one = letter(value, stage)
    found = plan(replace(one, letter=replace(one.letter, topic=topic)), None, new_intake(stream=stream), known=False)
    assert (found.outcome, found.reason) == (Outcome.ACCEPTED, "")
    assert found.taken.batches[0].rows.column("level").to_pylist() == [level]
