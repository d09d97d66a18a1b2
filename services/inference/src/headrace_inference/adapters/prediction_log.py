"""The log of predictions: what was served, as events in Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from headrace.events.v1.prediction_pb2 import PredictionsServed
from headrace_runtime.kafka import BatchedEvents
from headrace_runtime.kafka.recorded import RecordedEvents
from headrace_runtime.settings import KafkaSettings

from headrace_inference.core.served import MAX_EVENT_PART_BYTES, Served

GATHER_S = 0.2
"""How long predictions gather before they are written: fewer, larger writes leave more of the processor to calls."""
IN_A_MESSAGE = 64
"""Predictions in one message at most: making it takes a quarter of a millisecond, in which calls may have to wait."""


class PredictionLog:
    """Publishes what was served, many calls in a message; loses it, counted, when Kafka does not keep up."""

    def __init__(
        self, settings: KafkaSettings, source: str, to_event: Callable[[Iterable[Served]], PredictionsServed]
    ) -> None:
        """`to_event` returns the event of some answered calls."""
        self._events = BatchedEvents(settings, source, PredictionsServed, to_event, GATHER_S, IN_A_MESSAGE)
        self._recorded = RecordedEvents(settings, source)
        self._to_event = to_event

    def start(self) -> None:
        """Begin to write."""
        self._events.start()

    def stop(self) -> None:
        """Write what is left."""
        self._events.stop()
        self._recorded.close()

    def add(self, served: Served) -> None:
        """Take note of an answered call."""
        served = _told(served)
        self._events.add(served, served.held_bytes)

    async def record(self, served: Served) -> None:
        """Return once Kafka has an answered call. Raises Unavailable when it does not say so in time."""
        await self._recorded.publish(partial(self._to_event, [_told(served)]))


class NoLog:
    """Forgets what was served."""

    def add(self, served: Served) -> None:
        """Do nothing."""

    async def record(self, served: Served) -> None:
        """Do nothing."""


def _told(served: Served) -> Served:
    served = served.without_what_is_withheld()
    return served.without_large_parts() if served.held_bytes > MAX_EVENT_PART_BYTES else served
