"""The log of predictions: what was served, as events in Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headrace.events.v1.prediction_pb2 import PredictionsServed
from headrace_runtime.kafka import BatchedEvents
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

    def start(self) -> None:
        """Begin to write."""
        self._events.start()

    def stop(self) -> None:
        """Write what is left."""
        self._events.stop()

    def add(self, served: Served) -> None:
        """Take note of an answered call."""
        served = served.without_what_is_withheld()
        if served.held_bytes > MAX_EVENT_PART_BYTES:
            served = served.without_large_parts()
        self._events.add(served, served.held_bytes)


class NoLog:
    """Forgets what was served."""

    def add(self, served: Served) -> None:
        """Do nothing."""
