"""Errors of an unreachable Kafka, as callers of an RPC may retry them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import KafkaError

from headrace_runtime.errors import Unavailable
from headrace_runtime.settings import KafkaSettings

CALL_BOOTSTRAP_MS = 5_000
"""Longest wait of an RPC for the first broker (ms); shorter than the deadlines of callers."""


@contextmanager
def kafka_answering(settings: KafkaSettings, doing: str) -> Iterator[None]:
    """Turn errors of Kafka into Unavailable. `doing` names the failure, such as "topics cannot be looked at"."""
    try:
        yield
    except KafkaError as error:
        raise Unavailable(
            f"{doing}: Kafka at {settings.kafka_bootstrap_servers} does not answer ({error}); try again once it does"
        ) from error
