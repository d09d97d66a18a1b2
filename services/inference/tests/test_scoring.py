"""Which records of a topic are asked about in one call, how many at a time, and what becomes of one that is refused."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest
from headrace_inference import wiring
from headrace_inference.core.scoring import FIRST, MOST, MOST_BYTES, MOST_LINES, MOST_ROWS, Pace, Scoring, calls_of
from headrace_inference.settings import Settings
from headrace_inference.transport.other_process import TookTooLong
from headrace_inference.transport.records import desk
from headrace_inference.transport.records.around import DiesOften
from headrace_inference.transport.records.door import Door
from headrace_inference.transport.records.scoring import Scorer
from headrace_runtime.errors import InvalidInput, Overloaded, TooLarge, Unavailable
from headrace_runtime.kafka import GroupConsumer
from headrace_runtime.priorities import LAST
from headrace_runtime.process.service import Background
from headrace_runtime.records import Headers, Record
from headrace_runtime.stream.dead_letters import MAX_VALUE_BYTES

TRACED = [("who", b"ada"), ("traceparent", b"00-trace"), ("traceparent", b"x" * 10_000)]


def sent(*values: bytes) -> list[Record]:
    return [Record("asked", at % 2, at, b"key", value, TRACED) for at, value in enumerate(values)]


def test_a_call_has_as_many_records_as_a_model_takes_and_others_can_wait_for() -> None:
    def sizes(most: int, *values: bytes, headers: Headers = ()) -> list[int]:
        return [len(call) for call in calls_of([each._replace(headers=headers) for each in sent(*values)], most)]

    assert sizes(4, *[b"x"] * 10) == [4, 4, 2]
    assert sizes(MOST_ROWS, *[b"x"] * 600) == [MOST_ROWS, MOST_ROWS, 88]
    large = b"x" * (MOST_BYTES // 2 - 100)
    assert sizes(100, large, large, large, 6 * large, b"x") == [2, 1, 1, 1]
    assert sizes(4) == []
    assert sizes(100, b"a", b"b", b"c", headers=[("told", large)]) == [2, 1]


def test_so_many_are_tried_as_take_about_a_second() -> None:
    pace = Pace()
    for _ in range(20):
        pace.answered(pace.most, 0.01, 1000)
    assert pace.most == MOST
    pace.answered(MOST // 2, 0.01, 1000)
    assert pace.most == MOST
    pace.answered(MOST, 8.0, 1000)
    assert pace.most == MOST // 8
    pace.answered(MOST // 8, 0.1, 1 << 30)
    assert pace.most == MOST // 8 // 32, "so many fit into memory"
    slow = Pace()
    for _ in range(2):
        slow.failed()
    assert slow.most == FIRST // 16
    slow.answered(slow.most, 100.0, 1000)
    assert slow.most == 1


class Desk:
    """Answers records by what their values say; `seen` has the values of each call."""

    def __init__(self) -> None:
        self.seen: list[list[bytes]] = []
        self.busy = 2

    def most_rows(self, _model: str) -> int:
        return 8

    async def score(self, asked: Any, context: Any) -> tuple[list[bytes], int]:
        assert (asked.priority, asked.pipeline, context.time_remaining()) == (LAST, "levels", None)
        values = [record.value for record in PredictRecordsRequest.FromString(asked.body).records]
        self.seen.append(values)
        if self.busy:
            self.busy -= 1
            raise Overloaded("too many wait", 0.001)
        for value, error in ERRORS.items():
            if value in values:
                raise error
        pairs = zip(values, asked.places, strict=True)
        return [json.dumps([value.decode(), *place]).encode() for value, place in pairs], 0


ERRORS = {
    b"large": TooLarge("expected less"),
    b"dies": DiesOften("died"),
    b"hangs": TookTooLong("took too long"),
    b"odd": InvalidInput("expected other than ada"),
}


@contextmanager
def opened(told: Desk) -> Iterator[Door]:
    """Let others in to a desk, in the loop of another thread."""
    door, loop = Door(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    way: Any = door.opened(told)  # type: ignore[arg-type]
    asyncio.run_coroutine_threadsafe(way.__aenter__(), loop).result(10)
    yield door
    asyncio.run_coroutine_threadsafe(way.__aexit__(None, None, None), loop).result(10)
    assert "waiting" in str(door.closed_for("model"))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def scoring(**more: Any) -> Scoring:
    return Scoring("levels", "inference.levels", "model", "asked", "scored", **more)


def test_a_record_that_is_refused_is_found_and_the_others_are_answered() -> None:
    values = [b"a", b"large", b"b", b"dies", b"c", b"hangs", b"d", b"e", b"odd", b"f"]
    told = Desk()
    with opened(told) as door:
        messages = Scorer(scoring(), door, "inference").handle(sent(*values))
    answers = [json.loads(each.value or b"") for each in messages]
    assert [(each.topic, each.partition, each.key) for each in messages] == [
        ("scored", at % 2, b"key") for at in range(len(values))
    ]
    rules = {
        value: answer["rejection"]["rule"]
        for value, answer in zip(values, answers, strict=True)
        if isinstance(answer, dict)
    }
    assert rules == {b"large": "oversized", b"dies": "crash", b"hangs": "crash", b"odd": "refused"}
    assert answers[8]["record"] == {"topic": "asked", "partition": 0, "offset": 8, "line": 0}
    assert answers[0] == ["a", "asked", 0, 0, 0]
    assert dict(messages[0].headers)["traceparent"] == b"00-trace", "one of absurd size is none"
    assert max(map(len, told.seen)) == 8


def test_lines_are_records_and_what_is_personal_is_left_out() -> None:
    with opened(Desk()) as door:
        messages = Scorer(scoring(has_lines=True, withholds=True), door, "inference").handle(
            sent(b"a\n\nb\n", b"odd", b"")
        )
    answers = [json.loads(each.value or b"") for each in messages]
    assert answers[:2] == [["a", "asked", 0, 0, 0], ["b", "asked", 0, 0, 2]]
    assert [each.key for each in messages] == [None] * 4
    assert "ada" not in repr(messages)


def test_messages_of_too_many_lines_are_polled_fewer_at_a_time() -> None:
    scorer = Scorer(scoring(has_lines=True), Door(), "inference")
    scorer.consumer = cast("GroupConsumer", SimpleNamespace(max_records=FIRST))
    many = sent(*[b"{}\n" * (MOST_LINES - 1)] * FIRST)
    while not scorer.fits(many):
        assert scorer.consumer.max_records < len(many)
        many = many[: scorer.consumer.max_records]
    assert len(many) == 1, "a message has one transaction, as its offset has"
    assert scorer.fits(sent(*[b"{}\n{}\n"] * 100, b""))


def test_an_answer_that_no_topic_takes_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Desk()
    told.busy = 0

    async def score(asked: Any, _context: Any) -> tuple[list[bytes], int]:
        return [b"x" * (MAX_VALUE_BYTES + 1)], 0

    monkeypatch.setattr(told, "score", score)
    with opened(told) as door:
        (message,) = Scorer(scoring(), door, "inference").handle(sent(b"a"))
    assert json.loads(message.value or b"")["rejection"]["rule"] == "oversized"


def test_who_stops_waits_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Desk()
    asked = threading.Event()

    async def never(_asked: Any, _context: Any) -> tuple[list[bytes], int]:
        asked.set()
        await asyncio.Event().wait()
        return [], 0

    monkeypatch.setattr(told, "score", never)
    with opened(told) as door:
        scorer = Scorer(scoring(), door, "inference")

        def stop() -> None:
            asked.wait(10)
            scorer.stopping.set()

        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(Unavailable, match="this replica stops"):
            scorer.handle(sent(b"a"))
        stopper.join()


def test_what_is_missing_is_told_and_who_scores_nothing_has_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(serve: dict[str, Any]) -> Any:
        applied = PipelineApplied(pipeline="levels")
        applied.spec.json = json.dumps({"serve": serve}).encode()
        return wiring._scoring(Settings(), Door(), applied)

    assert parts({}) == []
    monkeypatch.setattr(desk, "find_spec", lambda _: None)
    desk.missing_packages.cache_clear()
    try:
        (lacking,) = parts({"scoring": {"start": "latest"}})
        assert isinstance(lacking, Background)
        with pytest.raises(Exception, match=r"install the extra headrace-inference\[records\]"):
            lacking.run()
    finally:
        monkeypatch.undo()
        desk.missing_packages.cache_clear()
