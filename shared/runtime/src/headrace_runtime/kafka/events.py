"""Best-effort events, published off the caller's path, alone or many in a message."""

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

from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.kafka.producers import best_effort_producer, send
from headrace_runtime.process.service import Background
from headrace_runtime.settings import KafkaSettings

logger = logging.getLogger(__name__)

GATHER_S = 0.05
"""How long events are gathered before they are sent (seconds)."""
MOST_WAITING = 10_000
MOST_HELD_BYTES = 64 * 1024 * 1024
"""Largest memory of queued events (bytes). Without a limit, large events would fill it while Kafka is away."""
MOST_AGE_S = 120.0
"""Events that waited longer are dropped (seconds): readers look for an event around the time of its creation."""
STOP_TIMEOUT_S = 10.0
"""How long a stop waits for Kafka to acknowledge the remaining events (seconds)."""
MESSAGE_BYTES = 256 * 1024
"""Largest message of many items (bytes), unless a single item is larger. Brokers take 1 MB by default."""

EVENTS_DROPPED = Counter(
    "headrace_events_dropped", "Best-effort events that were dropped or did not arrive.", ["topic"]
)

T = TypeVar("T")
_Waiting = tuple[T, type[Message], int, float]
"""An item, the class of its event, the bytes that it keeps in memory, and when it came (on the monotonic clock)."""


def _count_lost(kind: type[Message], items: int) -> None:
    EVENTS_DROPPED.labels(kind.DESCRIPTOR.name).inc(items)


class _Gathering(Background, Generic[T]):
    """A bounded queue whose items a thread writes to Kafka a little later. Thread-safe.

    Putting never blocks; items that find the queue full are dropped and counted. The thread writes at most `at_once`
    items before it yields to other threads: the interpreter would let it run for 5 ms.
    """

    def __init__(self, settings: KafkaSettings, source: str, gather_s: float, at_once: int) -> None:
        super().__init__(f"{source} events")
        self.stop_timeout_s = STOP_TIMEOUT_S
        self._source = source
        self._gather_s = gather_s
        self._at_once = at_once
        self._waiting: deque[_Waiting[T]] = deque()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._producer = best_effort_producer(settings, f"{source}.events", gather_s)

    @abstractmethod
    def _write(self, items: Sequence[T]) -> None:
        """Pass items to the producer."""

    def _put(self, item: T, held_bytes: int, kind: type[Message]) -> None:
        """Queue an item with its size in memory (bytes) and the class of its event."""
        with self._lock:
            full = len(self._waiting) >= MOST_WAITING or self._held_bytes + held_bytes > MOST_HELD_BYTES
            if not full:
                self._held_bytes += held_bytes
                self._waiting.append((item, kind, held_bytes, time.monotonic()))
        if full:
            _count_lost(kind, 1)
        elif not self._arrived.is_set():
            self._arrived.set()

    def run(self) -> None:
        """Write queued items until stopped, then drain the queue."""
        try:
            while self._arrived.wait() and not (self.stopping.is_set() and not self._waiting):
                # A short pause gathers events: a wake-up for each would cost a busy caller half of its own time.
                self.stopping.wait(self._gather_s)
                self._arrived.clear()
                left = len(self._waiting)
                while left:
                    taken = self._take(min(left, self._at_once))
                    left -= len(taken)
                    self._write_fresh(taken)
                    time.sleep(0)
                if self.stopping.is_set():
                    self._arrived.set()
        finally:
            self._producer.close(timeout=10)

    def _take(self, most: int) -> list[_Waiting[T]]:
        taken: list[_Waiting[T]] = []
        taken_bytes = 0
        with self._lock:
            while len(taken) < most and (not taken or taken_bytes + self._waiting[0][2] <= MESSAGE_BYTES):
                taken.append(self._waiting.popleft())
                taken_bytes += taken[-1][2]
            self._held_bytes -= taken_bytes
        return taken

    def _write_fresh(self, taken: Sequence[_Waiting[T]]) -> None:
        """Write the items that have not expired. An item that cannot be written does not stop the others."""
        oldest_s = time.monotonic() - MOST_AGE_S
        fresh = [item for item, _, _, put_s in taken if put_s >= oldest_s]
        lost = len(taken) - len(fresh)
        try:
            if fresh:
                self._write(fresh)
        except Exception:
            logger.exception("%s: %s events cannot be written", self.name, len(fresh))
            lost = len(taken)
        if lost:
            _count_lost(taken[0][1], lost)

    def _send(self, message: Message, items: int) -> None:
        """Send a message of that many items, and count them as dropped when it does not arrive."""
        kind = type(message)
        try:
            sent = send(self._producer, encode(message, source=self._source))
        except kafka_errors.KafkaError as error:
            self._tell_lost(kind, items, error)
        else:
            sent.add_errback(self._tell_lost, kind, items)

    def _tell_lost(self, kind: type[Message], items: int, error: Exception) -> None:
        logger.warning("%s: %s events were lost: %r", self.name, items, error)
        _count_lost(kind, items)

    def stop(self) -> None:
        """Drain the queue, then close. Items that Kafka does not acknowledge in time are dropped."""
        self.stopping.set()
        self._arrived.set()
        if len(self._waiting) < MOST_WAITING:
            super().stop()
        if self._waiting:
            logger.warning("%s: giving up %s events", self.name, len(self._waiting))


class EventProducer(_Gathering[tuple[Message, otel_context.Context]]):
    """Publishes each event in its own message, with the trace context of its caller."""

    def __init__(self, settings: KafkaSettings, source: str) -> None:
        super().__init__(settings, source, GATHER_S, at_once=8)

    def publish(self, message: Message) -> None:
        """Queue a message for the topic of its class."""
        self._put((message, otel_context.get_current()), 0, type(message))

    def _write(self, items: Sequence[tuple[Message, otel_context.Context]]) -> None:
        for message, context in items:
            token = otel_context.attach(context)
            self._send(message, 1)
            otel_context.detach(token)


class BatchedEvents(_Gathering[T]):
    """Publishes many items in one message, for events that occur thousands of times a second.

    `pack` builds a message of the class `kind` from items when they are sent, off the caller's path. Each item is
    queued with the memory that it takes until then (bytes).
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
        self._send(self._pack(items), len(items))
