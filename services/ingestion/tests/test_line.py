"""Pushes that wait: bounded, answered at once when they come again, and rows of files by what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from headrace.events.v1.record_pb2 import PushAccepted
from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.line import FIRST_S, LEAST_S, MOST_S, PushLine
from headrace_ingestion.transport.acceptance import Entrance
from headrace_ingestion.transport.pushes import PushDesk
from headrace_runtime.errors import InvalidInput, Overloaded
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.stream.dead_letters import read_letter


def test_what_waits_is_bounded_for_each_pipeline() -> None:
    now = [0.0]
    line = PushLine(100, lambda: now[0])
    with line.place("a", 500), line.place("b", 60):
        with pytest.raises(Overloaded, match="500 bytes of pipeline a wait already, of at most 100") as refused:
            line.place("a", 1).__enter__()
        assert refused.value.wait_s == FIRST_S
        with line.place("b", 40):
            now[0] = 2.0
        with pytest.raises(Overloaded) as refused:
            line.place("b", 41).__enter__()
        assert refused.value.wait_s == 60 / 2 * 2.0 / 40
        for now[0], wait_s in ((0.0001, LEAST_S), (1e6, MOST_S)):
            with pytest.raises(Overloaded) as refused:
                line.place("b", 41).__enter__()
            assert refused.value.wait_s == wait_s
    with line.place("a", 1):
        pass


class Log:
    """What is accepted: one batch was before, and what is written now is kept."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    @contextmanager
    def writer(self) -> Iterator[Log]:
        yield self

    def answer(self, pipeline: str, batch_id: str) -> PushAccepted | None:
        return PushAccepted(pipeline=pipeline, batch_id="known", accepted=7) if batch_id == "known" else None

    def remember(self, _: object) -> None:
        pass

    def send_now(self, _: object) -> tuple[int, int]:
        return 0, 7

    def send(self, messages: Iterable[Outgoing]) -> None:
        self.sent += messages


def test_rows_of_a_file_are_read_as_such_and_a_repeat_is_not_read(new_intake: Callable[..., Intake]) -> None:
    log: Any = Log()
    entrances = {"meters": Entrance(new_intake(stream="format: {kind: csv, delimiter: ;}"), 1)}
    desk = PushDesk(entrances, log, ThreadPoolExecutor(1), PushLine(1))

    def pushed(batch_id: str, records: list[bytes], form: Any = pb.RECORD_FORM_FILE_ROW) -> pb.PushResponse:
        return asyncio.run(
            desk.pushed(pb.PushRequest(pipeline="meters", batch_id=batch_id, records=records, form=form))
        )

    found = pushed("1", [b'{"id": "a", "level": 1, "state": 1}', b'{"id": "a", "level": "much", "state": 1}'])
    assert (found.accepted, [each.rule for each in found.rejected]) == (1, ["type"])
    letter = read_letter(Record("dead", 0, 0, None, log.sent[-1].value, log.sent[-1].headers)).letter
    assert (letter.stage, letter.value) == ("file", b'{"id": "a", "level": "much", "state": 1}')
    # The cells of a row that has not as many as the header.
    found = pushed("3", [b'["a","1"]'])
    assert [(each.rule, each.reason) for each in found.rejected] == [
        ("columns", "expected a row with a cell for each column of the file, got 2")
    ]
    assert pushed("2", [b"a;1;1"], pb.RECORD_FORM_UNSPECIFIED).accepted == 1
    again = pushed("known", [])
    assert (again.accepted, again.repeated_batch) == (7, True)
    with pytest.raises(InvalidInput, match="does not begin with dead/"):
        pushed("dead/0:1", [b"{}"])
