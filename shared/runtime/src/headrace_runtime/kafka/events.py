"""Events that may be lost: published off the caller's path, one in a message or many."""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from google.protobuf.message import Message
from kafka import errors as kafka_errors
from opentelemetry import context as otel_context
from prometheus_client import Counter

from headrace_runtime.kafka.producers import best_effort_producer, send
from headrace_runtime.messages import encode
from headrace_runtime.service import Background
from headrace_runtime.settings import KafkaSettings

logger = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long events gather before they are sent."""
MOST_WAITING = 10_000
MOST_HELD_BYTES = 64 * 1024 * 1024
"""What waits may keep in memory: while Kafka is away, large events must not fill it."""
MESSAGE_BYTES = 256 * 1024
"""What one message of many holds at most, unless a single one is larger; brokers take 1 MB by default."""

EVENTS_DROPPED = Counter("headrace_events_dropped", "Best-effort events dropped because the queue was full.", ["topic"])

T = TypeVar("T")


class _Gathering(Background, Generic[T]):
    """Keeps what comes in a bounded queue, and writes it a little later. Safe for use by several threads.

    Putting never blocks; what finds the queue full is counted. At most `at_once` items are written before other threads
    get a turn: the interpreter itself lets one go on for 5 ms.
    """

    def __init__(self, settings: KafkaSettings, source: str, gather_s: float, at_once: int) -> None:
        super().__init__(f"{source} events")
        self._source = source
        self._gather_s = gather_s
        self._at_once = at_once
        self._waiting: deque[tuple[T, int]] = deque()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._producer = best_effort_producer(settings, f"{source}.events", gather_s)

    @abstractmethod
    def _write(self, items: Sequence[T]) -> None:
        """Hand items to the producer."""

    def _put(self, item: T, held_bytes: int, kind: type[Message]) -> None:
        """Queue an item that keeps so much in memory, for an event of a class."""
        with self._lock:
            full = len(self._waiting) >= MOST_WAITING or self._held_bytes + held_bytes > MOST_HELD_BYTES
            if not full:
                self._held_bytes += held_bytes
                self._waiting.append((item, held_bytes))
        if full:
            EVENTS_DROPPED.labels(kind.DESCRIPTOR.name).inc()
        elif not self._arrived.is_set():
            self._arrived.set()

    def run(self) -> None:
        """Write what is queued until stopped, then the rest."""
        try:
            while self._arrived.wait() and not (self.stopping.is_set() and not self._waiting):
                # A short rest lets events gather: waking for each would cost a busy caller half of its own time.
                self.stopping.wait(self._gather_s)
                self._arrived.clear()
                left = len(self._waiting)
                while left:
                    items = self._take(min(left, self._at_once))
                    left -= len(items)
                    self._write(items)
                    time.sleep(0)
                if self.stopping.is_set():
                    self._arrived.set()
        finally:
            self._producer.close(timeout=10)

    def _take(self, most: int) -> list[T]:
        items: list[T] = []
        taken_bytes = 0
        with self._lock:
            while len(items) < most and (not items or taken_bytes + self._waiting[0][1] <= MESSAGE_BYTES):
                item, held_bytes = self._waiting.popleft()
                items.append(item)
                taken_bytes += held_bytes
            self._held_bytes -= taken_bytes
        return items

    def _send(self, message: Message) -> None:
        try:
            send(self._producer, encode(message, source=self._source))
        except kafka_errors.KafkaError as error:
            logger.warning("%s: an event was lost: %r", self.name, error)
            EVENTS_DROPPED.labels(message.DESCRIPTOR.name).inc()

    def stop(self) -> None:
        """Send what is queued, then close. A queue that is full of what cannot be sent is given up."""
        self.stopping.set()
        self._arrived.set()
        if len(self._waiting) >= MOST_WAITING:
            logger.warning("%s: giving up %s events", self.name, len(self._waiting))
            return
        super().stop()


class EventProducer(_Gathering[tuple[Message, otel_context.Context]]):
    """Publishes events, each in a message of its own, with the trace context in which it was published."""

    def __init__(self, settings: KafkaSettings, source: str) -> None:
        super().__init__(settings, source, GATHER_S, at_once=8)

    def publish(self, message: Message) -> None:
        """Queue a message for the topic of its class."""
        self._put((message, otel_context.get_current()), 0, type(message))

    def _write(self, items: Sequence[tuple[Message, otel_context.Context]]) -> None:
        for message, context in items:
            token = otel_context.attach(context)
            self._send(message)
            otel_context.detach(token)


class BatchedEvents(_Gathering[T]):
    """Publishes many items in one message: for what happens thousands of times a second.

    `pack` makes a message of the class `kind` of some items when they are sent: not in the caller's time. Each item is
    queued with the bytes that it keeps in memory until then.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        source: str,
        kind: type[Message],
        pack: Callable[[Sequence[T]], Message],
        gather_s: float,
        at_once: int,
    ) -> None:
        super().__init__(settings, source, gather_s, at_once)
        self._kind = kind
        self._pack = pack

    def add(self, item: T, held_bytes: int) -> None:
        """Queue an item."""
        self._put(item, held_bytes, self._kind)

    def _write(self, items: Sequence[T]) -> None:
        self._send(self._pack(items))


__all__ = ["BatchedEvents", "EventProducer"]
