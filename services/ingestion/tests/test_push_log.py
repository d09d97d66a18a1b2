from __future__ import annotations

import headrace_ingestion.adapters.push_log
import pytest
from headrace.events.v1.record_pb2 import PushAccepted
from headrace_ingestion.adapters.push_log import PushLog
from headrace_runtime.errors import Unavailable
from headrace_runtime.record_topics import DEAD
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import DAY_MS, PUSH_ACCEPTED
from kafka.errors import KafkaTimeoutError


def learn(log: PushLog, batch_id: str, day: float, *, tombstone: bool = False) -> None:
    accepted = None if tombstone else PushAccepted(pipeline="p", batch_id=batch_id, accepted=1)
    log._learn(f"p/{batch_id}", accepted, Record("t", 0, 0, None, None, (), int(day * DAY_MS)))


def test_pushes_are_forgotten_after_a_day_and_replays_after_their_letters() -> None:
    log = PushLog(KafkaSettings())
    learn(log, "dead/0:1", 10.0)
    learn(log, "old", 10.0)
    learn(log, "new", 11.5)
    assert [log.answer("p", name) is not None for name in ("dead/0:1", "old", "new")] == [True, False, True]
    assert log.answer("q", "new") is None
    learn(log, "dead/0:2", 17.5)
    assert log.answer("p", "dead/0:1") is not None
    learn(log, "dead/0:3", 18.5)
    assert log.answer("p", "dead/0:1") is None
    learn(log, "dead/0:3", 18.5, tombstone=True)
    assert log.answer("p", "dead/0:3") is None
    assert PUSH_ACCEPTED.retention_ms > int(DEAD.config["retention.ms"])


def test_brokers_that_do_not_answer_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise KafkaTimeoutError("no metadata")

    monkeypatch.setattr(headrace_ingestion.adapters.push_log, "TransactionalProducer", unreachable)
    with pytest.raises(Unavailable, match="Kafka does not take records now"), PushLog(KafkaSettings()).writer():
        pytest.fail("nothing may be written")
