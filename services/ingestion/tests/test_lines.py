"""JSON Lines in a message: each line a record with a place of its own, rejected and replayed by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from headrace_data.formats.json_lines import MOST_LINES
from headrace_ingestion.core import intake as intakes
from headrace_ingestion.core.intake import Intake, Taken
from headrace_ingestion.core.push import to_check
from headrace_ingestion.core.replay import Outcome, plan
from headrace_ingestion.transport.converters import dead_letter
from headrace_ingestion.transport.dead_letters import _original
from headrace_runtime.records import Record
from headrace_runtime.stream.dead_letters import StoredLetter, read_letter

LINES = "format: {kind: json, lines: true}"


def line(name: str, level: object = "1") -> bytes:
    return b'{"id": "%s", "level": %s, "state": 1}' % (name.encode(), str(level).encode())


def message(offset: int, *lines: bytes) -> Record:
    return Record("meters", 2, offset, b"k", b"\n".join(lines), timestamp_ms=1_700_000_000_000)


def places(taken: Taken) -> list[tuple[str, int, int]]:
    rows = [row for batch in taken.batches for row in batch.rows.to_pylist()]
    return [(row["id"], row["_offset"], row["_index"]) for row in rows]


def stored(taken: Taken, at: int, intake: Intake) -> StoredLetter:
    record, rejection = taken.rejected[at]
    sent = dead_letter(record, rejection, "meters", intake).outgoing("meters")
    return read_letter(Record(sent.topic, 0, 5, sent.key, sent.value, sent.headers))


def test_each_line_is_a_record_and_what_is_wrong_with_one_is_told_of_it_alone(
    new_intake: Callable[..., Intake],
) -> None:
    intake = new_intake(stream=LINES)
    messages = [
        message(7, line("a"), b"", line("b", '"much"'), line("c") + b"\r", b""),
        message(9, line("d")),
        message(10, b" \n"),
        Record("meters", 2, 11, None, None),
    ]
    taken = intake.take(messages)
    assert places(taken) == [("a", 7, 0), ("c", 7, 3), ("d", 9, 0)]
    assert [(batch.start, batch.end, dict(batch.rejected)) for batch in taken.batches] == [
        (7, 12, {"type": 1, "json": 2})
    ]
    assert [(record.offset, record.number, record.value, why.rule) for record, why in taken.rejected] == [
        (7, 2, line("b", '"much"'), "type"),
        (10, 0, b" \n", "json"),
        (11, 0, None, "json"),
    ]
    letter = stored(taken, 0, intake)
    assert (letter.letter.offset, letter.letter.index, letter.letter.value) == (7, 2, line("b", '"much"'))
    mended = replace(letter, letter=replace(letter.letter, value=line("b")), value_bytes=0)
    again = plan(mended, None, intake, known=False)
    assert (again.outcome, places(again.taken)) == (Outcome.ACCEPTED, [("b", 0, 0)])


def test_a_message_stays_whole_in_its_batch(new_intake: Callable[..., Intake], monkeypatch: pytest.MonkeyPatch) -> None:
    intake = new_intake(batch_bytes=150, stream=LINES)
    taken = intake.take([message(at, *(line(f"{at}-{n}") for n in range(3))) for at in range(6)])
    assert [sorted({place[1] for place in places(Taken([batch], ()))}) for batch in taken.batches] == [
        [at] for at in range(6)
    ]
    assert [(batch.start, batch.end) for batch in taken.batches] == [(at, at + 1) for at in range(6)]
    monkeypatch.setattr(intakes, "MOST_ROW_BYTES", taken.batches[0].rows.nbytes + 20)
    large = intake.take([message(0, line("a")), message(1, *[line("b")] * 9), message(2, line("c"))])
    assert places(large) == [("a", 0, 0), ("c", 2, 0)]
    assert [(record.offset, record.number, why.rule) for record, why in large.rejected] == [
        (1, number, "oversized") for number in range(9)
    ]


def test_too_many_lines_are_one_fault_and_a_push_has_records_apart(new_intake: Callable[..., Intake]) -> None:
    intake = replace_limit(new_intake(stream=LINES))
    many = b"{}\n" * (MOST_LINES + 1)
    ((record, why),) = intake.take([message(3, many)]).rejected
    assert (record.value, why.rule) == (many, "lines")
    assert why.reason == f"expected at most {MOST_LINES} lines in a message, got {MOST_LINES + 1}"
    assert len(intake.take([message(4, many[3:])]).rejected) == MOST_LINES
    pushed = intake.take(to_check("b", [line("a") + b"\n" + line("b"), line("c")]), numbered=True)
    assert places(pushed) == [("c", 0, 1)]


def replace_limit(intake: Intake) -> Intake:
    intake.max_record_bytes = 10**6
    return intake


def test_a_replay_finds_the_line_that_a_letter_withholds(new_intake: Callable[..., Intake]) -> None:
    intake = new_intake(stream=f"{LINES}\n  personal: {{fields: {{secret: drop}}}}")
    sent = message(7, line("a"), line("b", 99), line("c", '"much"'))
    letter = stored(intake.take([sent]), 0, intake)
    assert (letter.letter.withheld, letter.letter.index) == (True, 2)

    class Log:
        def sent(self, topic: str, partition: int, offset: int) -> Record:
            assert (topic, partition, offset) == ("meters", 2, 7)
            return sent

    log: Any = Log()
    found = _original(log, letter, intake)
    assert found is not None
    assert found.value == line("c", '"much"')
