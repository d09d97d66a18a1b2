"""The compacted topic of answered batches: what makes a repeated push a no-op."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from headrace.events.v1.record_pb2 import PushAccepted
from headrace_runtime.errors import Unavailable
from headrace_runtime.kafka import CompactedView, Transaction, TransactionalProducer
from headrace_runtime.records import Record
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import DAY_MS, PUSH_ACCEPTED
from kafka.errors import KafkaError

from headrace_ingestion.core.push import REPLAY_PREFIX

CATCH_UP_S = 10.0


@dataclass(frozen=True, slots=True)
class _Answer:
    accepted: PushAccepted
    time_ms: int


class _Answers:
    """Answers by key, forgotten some time after they were given. Safe for use by several threads."""

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> PushAccepted | None:
        with self._lock:
            known = self._answers.get(key)
        return known.accepted if known else None

    def keep(self, key: str, accepted: PushAccepted, time_ms: int) -> None:
        expired = time_ms - self._kept_ms
        with self._lock:
            # The newest stand last, so the expired ones are found at the front.
            self._answers.pop(key, None)
            self._answers[key] = _Answer(accepted, time_ms)
            for old in list(takewhile(lambda item: item[1].time_ms < expired, self._answers.items())):
                del self._answers[old[0]]

    def forget(self, key: str) -> None:
        with self._lock:
            self._answers.pop(key, None)


class PushLog:
    """Knows every answered batch id and writes new ones, one transaction at a time.

    All instances share one transactional id. Opening it fences the instance that wrote before, and whoever opens it
    first reads the topic to its end: so two instances never both accept the same batch.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        # Apart, because a replay is remembered for longer than a push: nothing would expire behind it.
        self._pushes = _Answers(DAY_MS)
        self._replays = _Answers(PUSH_ACCEPTED.retention_ms)
        self._view = CompactedView(settings, PUSH_ACCEPTED, PushAccepted, self._learn, "ingestion")
        self._producer: TransactionalProducer | None = None
        self._writing = threading.Lock()

    def start(self) -> None:
        """Read the topic to its end."""
        self._view.start()
        self._view.wait_ready(30.0)

    def stop(self) -> None:
        """Wait for the transaction in hand, then close."""
        with self._writing:
            self._view.stop()
            self._close()

    @contextmanager
    def writer(self) -> Iterator[Transaction]:
        """Open a transaction as the only writer. Call `answer` in it before anything is written.

        Raises Fenced when another instance took over; then nothing was written and another try may succeed. Raises
        Unavailable when the brokers do not answer; whether it was written then, the next writer finds out.
        """
        with self._writing:
            try:
                with self._opened().transaction() as transaction:
                    yield transaction
            except BaseException as error:
                # Fenced, or in a state that nobody knows: the next writer opens a producer of its own.
                self._close()
                # kafka-python raises ValueError for a partition that came after it had asked for those of the topic.
                if isinstance(error, KafkaError) or "Unrecognized partition" in str(error):
                    raise Unavailable(f"Kafka does not take records now: {error!r}") from error
                raise

    def _opened(self) -> TransactionalProducer:
        if self._producer is None:
            self._producer = TransactionalProducer(self._settings, "ingestion.push")
            self._view.catch_up(CATCH_UP_S)
        return self._producer

    def answer(self, pipeline: str, batch_id: str) -> PushAccepted | None:
        """Return the answer that this batch got, None when it is new or its answer was forgotten.

        A push is forgotten after a day, a replay after its dead letter.
        """
        return self._answers(batch_id).get(f"{pipeline}/{batch_id}")

    def remember(self, accepted: PushAccepted) -> None:
        """Keep an answer whose transaction was committed."""
        answers = self._answers(accepted.batch_id)
        answers.keep(PUSH_ACCEPTED.key_of(accepted), accepted, int(time.time() * 1_000))

    def _learn(self, key: str, accepted: PushAccepted | None, record: Record) -> None:
        if accepted is None:
            self._pushes.forget(key)
            self._replays.forget(key)
        else:
            self._answers(accepted.batch_id).keep(key, accepted, record.timestamp_ms)

    def _answers(self, batch_id: str) -> _Answers:
        return self._replays if batch_id.startswith(REPLAY_PREFIX) else self._pushes

    def _close(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None
