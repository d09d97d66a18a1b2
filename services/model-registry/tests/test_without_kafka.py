"""What callers are told while no broker answers: it may work later, and nothing is a defect."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from headrace_model_registry.adapters import predictions, records, topics
from headrace_model_registry.adapters.predictions import KafkaPredictions
from headrace_model_registry.adapters.records import KafkaRecords
from headrace_model_registry.adapters.topics import KafkaTopics
from headrace_model_registry.core.fate import RecordPlace
from headrace_model_registry.core.served import PredictionServed
from headrace_model_registry.transport.converters import from_message
from headrace_runtime.errors import Unavailable
from headrace_runtime.rpc.errors import status_of
from headrace_runtime.settings import KafkaSettings

SERVED = partial(from_message, PredictionServed)
Ask = Callable[[KafkaSettings], Any]

ASKED: dict[str, Ask] = {
    "partitions of a topic": lambda at: KafkaTopics(at, 1).partitions_of("orders"),
    "create a topic": lambda at: KafkaTopics(at, 1).create("orders"),
    "create a pipeline's topics": lambda at: KafkaTopics(at, 1).create_record_topics("orders", 1),
    "lags": lambda at: KafkaTopics(at, 1).lags([]),
    "bounds of a partition": lambda at: KafkaRecords(at).bounds_of("orders", 0),
    "a rejection": lambda at: KafkaRecords(at).rejection_of("orders", RecordPlace("orders", 0, 7)),
    "predictions": lambda at: KafkaPredictions(at, SERVED).starting_with("0190", 0, 1),
}


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaSettings]:
    """An address that takes no connections while it is held."""
    for module in (topics, records, predictions):
        monkeypatch.setattr(module, "CALL_BOOTSTRAP_MS", 200)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield KafkaSettings(kafka_bootstrap_servers=f"127.0.0.1:{held.getsockname()[1]}")


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_callers_are_told_that_kafka_is_away(nowhere: KafkaSettings, ask: Ask) -> None:
    with pytest.raises(
        Unavailable, match=r"Kafka at 127\.0\.0\.1:\d+ does not answer .* try again once it does"
    ) as told:
        ask(nowhere)
    assert status_of(told.value) is grpc.StatusCode.UNAVAILABLE
