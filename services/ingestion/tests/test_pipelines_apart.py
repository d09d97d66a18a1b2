"""What is wrong with one pipeline: the others take what is pushed, and it takes nothing by a spec of before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace.ingestion.v1 import ingestion_service_pb2 as pb
from headrace_data.errors import SelectTooSlow
from headrace_data.formats import Schemas
from headrace_data.select.engine import Engine, OutOfTime
from headrace_ingestion.core.intake import Intake
from headrace_ingestion.core.line import PushLine
from headrace_ingestion.settings import Settings
from headrace_ingestion.transport.acceptance import Entrance
from headrace_ingestion.transport.pushes import PushDesk
from headrace_ingestion.wiring import _pipeline_parts
from headrace_runtime.errors import FailedPrecondition, Unavailable, Unprocessable
from headrace_runtime.records import Record
from headrace_runtime.stream.cuts import NewestCuts

REGISTRY = "format: {kind: avro, registry: {url: 'http://registry:8080'}}"


class Log:
    """What is accepted, nowhere."""

    @contextmanager
    def writer(self) -> Iterator[Log]:
        yield self

    def answer(self, *_: str) -> None:
        return None

    def remember(self, _: object) -> None:
        pass

    def send_now(self, _: object) -> tuple[int, int]:
        return 0, 7

    def send(self, messages: Any) -> None:
        list(messages)


class Slow:
    """A registry that is away once it is `done` trying."""

    def __init__(self) -> None:
        self.asked, self.done = threading.Event(), threading.Event()

    def by_id(self, _: int) -> None:
        self.asked.set()
        assert self.done.wait(20)
        raise Unavailable("schema registry: no answer")


def test_a_registry_that_is_away_keeps_no_other_pipeline_waiting(new_intake: Callable[..., Intake]) -> None:
    slow, log = Slow(), Log()
    schemas: Any = slow
    told: Schemas = schemas
    waiting = Intake(new_intake(stream=REGISTRY).pipeline, 900_000, 1_000, schemas=told)
    accepted: Any = log
    entrances = {"waiting": Entrance(waiting, 1), "meters": Entrance(new_intake(), 1)}
    desk = PushDesk(entrances, accepted, ThreadPoolExecutor(1), PushLine(1_000))

    async def push() -> None:
        first = asyncio.create_task(
            desk.pushed(pb.PushRequest(pipeline="waiting", batch_id="1", records=[b"\0\0\0\0\7a"]))
        )
        await asyncio.to_thread(slow.asked.wait, 10)
        other = desk.pushed(
            pb.PushRequest(pipeline="meters", batch_id="1", records=[b'{"id": "a", "level": 1, "state": 1}'])
        )
        try:
            assert (await asyncio.wait_for(other, 10)).accepted == 1
        finally:
            slow.done.set()
        with pytest.raises(Unavailable):
            await first

    asyncio.run(push())


def test_all_partitions_of_a_poll_share_the_time_of_a_select(
    new_intake: Callable[..., Intake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*_: object) -> None:
        raise OutOfTime("it took more than 5 s")

    monkeypatch.setattr(Engine, "compute", slowly)
    intake = new_intake(stream="select: upper(id) AS id, level, state")
    records = [Record("meters", partition, 0, None, b'{"id": "a", "level": 1, "state": 1}') for partition in range(12)]
    assert [rejection.rule for _, rejection in intake.take(records[:4]).rejected] == ["select"] * 4
    with pytest.raises(SelectTooSlow):
        intake.take(records)
    accepted: Any = Log()
    desk = PushDesk({"meters": Entrance(intake, 1)}, accepted, ThreadPoolExecutor(1), PushLine(1_000))
    with pytest.raises(FailedPrecondition, match="stopped 8 times after 5 s of computing; send fewer records"):
        asyncio.run(desk.pushed(pb.PushRequest(pipeline="meters", batch_id="1", records=[b'{"id": "a"}'] * 12)))


def test_what_cannot_run_takes_nothing_by_the_spec_of_before(new_intake: Callable[..., Intake]) -> None:
    entrances = {"meters": Entrance(new_intake(), 1)}
    spec = PipelineSpec(json=new_intake(stream=REGISTRY).pipeline.canonical_json())
    applied = PipelineApplied(pipeline="meters", spec=spec, partitions=1)
    with pytest.raises(Unprocessable, match="HEADRACE_SCHEMA_REGISTRY_HOSTS"):
        _pipeline_parts(Settings(), entrances, NewestCuts(Settings(), "test"), applied)
    assert not entrances
