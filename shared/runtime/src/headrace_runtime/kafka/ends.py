"""The end offsets of partitions. All consumers of a process request them over one shared connection."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from headrace_runtime.records import Place
from headrace_runtime.settings import KafkaSettings


@dataclass(slots=True)
class _Shared:
    """One shared client, and the number of its users."""

    consumer: KafkaConsumer
    lock: threading.Lock
    users: int = 0


class Ends:
    """Requests end offsets, over another connection than the consumers' fetches. Thread-safe.

    With `read_committed` they are last stable offsets: records of open transactions lie after them. A transaction is
    committed a moment before its markers are written. So whatever was committed lies before the ends of
    `read_uncommitted`, and may lie after the others.

    A broker answers the requests of one connection in order. On a consumer's own connection, a request would wait for
    the answer to the fetch before it, and that fetch waits for records.
    """

    _clients: ClassVar[dict[str, _Shared]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, settings: KafkaSettings, isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    ) -> None:
        """Store the settings. The first request opens the connection."""
        self._settings = settings
        self._isolation = isolation
        self._key = repr((isolation, sorted(settings.kafka_client().items())))
        self._shared: _Shared | None = None

    def of(self, places: Iterable[Place], timeout_ms: int) -> dict[Place, int]:
        """Return the end offset of each partition.

        Raises KafkaError when the broker does not answer within `timeout_ms` milliseconds.
        """
        partitions = [TopicPartition(*place) for place in places]
        if not partitions:
            return {}
        shared = self._open()
        if not shared.lock.acquire(timeout=timeout_ms / 1_000):
            raise KafkaTimeoutError(f"others ask for the ends of partitions, for {timeout_ms} ms already")
        try:
            ends = shared.consumer.end_offsets(partitions, timeout_ms=timeout_ms)
        finally:
            shared.lock.release()
        return {(partition.topic, partition.partition): end for partition, end in ends.items()}

    def close(self) -> None:
        """Release the connection. The last user closes it."""
        with self._guard:
            shared, self._shared = self._shared, None
            if shared is None:
                return
            shared.users -= 1
            if shared.users:
                return
            del self._clients[self._key]
        shared.consumer.close(autocommit=False)

    def _open(self) -> _Shared:
        with self._guard:
            if self._shared is None:
                if self._key not in self._clients:
                    self._clients[self._key] = _Shared(self._connect(), threading.Lock())
                self._shared = self._clients[self._key]
                self._shared.users += 1
            return self._shared

    def _connect(self) -> KafkaConsumer:
        return KafkaConsumer(
            client_id="headrace.ends",
            group_id=None,
            isolation_level=self._isolation,
            allow_auto_create_topics=False,
            retry_backoff_ms=20,
            metrics_enabled=False,
            **self._settings.kafka_client(),
        )
