"""Letters that are rejected again, and those of which processes have died."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.replay import Outcome, plan
from headrace_ingestion.transport.acceptance import Entrance, write_accepted
from headrace_ingestion.transport.dead_letters import _dies
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.stream.dead_letters import DeadLetter, StoredLetter, read_letter

ROW = b'{"id": "a", "level": 1.5, "state": "deep"}'


def stored(stage: str, value: bytes) -> StoredLetter:
    topic = {"backfill": "old.csv", "file": "headrace.push.accepted.v1"}.get(stage, "meters")
    return StoredLetter(DeadLetter(stage, "where", "", "why", topic, 0, 4, None, value), 1, 5, 0, "", len(value))


class Written:
    """A transaction that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send_now(self, _: Outgoing) -> tuple[int, int]:
        return 0, 7

    def send(self, messages: Iterable[Outgoing]) -> None:
        self.sent += messages


@pytest.mark.parametrize(
    ("stage", "value"),
    [("preprocessing", ROW), ("backfill", ROW), ("file", ROW), ("ingestion", b"a,1.5,deep")],
)
def test_what_is_rejected_again_is_read_as_before(stage: str, value: bytes, new_intake: Callable[..., Intake]) -> None:
    intake, one, written = new_intake(stream="format: csv"), stored(stage, value), Written()
    first = plan(one, None, intake, known=False)
    transaction: Any = written
    write_accepted(transaction, Entrance(intake, 1), first.batch_id, first.taken, one)
    dead = written.sent[-1]
    again = read_letter(Record(dead.topic, 1, 9, dead.key, dead.value, dead.headers))
    assert (again.letter.stage, again.letter.rule, again.letter.replays) == (stage, "type", 1)
    second = plan(again, None, intake, known=False)
    assert (first.outcome, second.outcome) == (Outcome.REJECTED, Outcome.REJECTED)
    assert second.reason == first.reason == 'state: expected a value of type int64, got "deep"'


def test_a_trial_sees_all_of_a_record() -> None:
    tried: list[Record] = []

    class Trial:
        def attempt(self, records: list[Record]) -> str | None:
            tried.extend(records)
            return "process died: SIGSEGV"

    trial: Any = Trial()
    headers = [("__value_schema_id", b"\0\0\0\0\7")]
    record = Record("", -1, 0, b"k", b"v", headers, 1_700_000_000_000)
    assert _dies(trial, stored("ingestion", b"v"), record) == "process died: SIGSEGV"
    assert tried == [Record("meters", 0, 4, b"k", b"v", headers, 1_700_000_000_000)]
