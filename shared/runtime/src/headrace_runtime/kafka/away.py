"""Kafka that does not answer, told to callers who can come again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import KafkaError

from headrace_runtime.errors import Unavailable
from headrace_runtime.settings import KafkaSettings

CALL_BOOTSTRAP_MS = 5_000
"""How long a caller of an RPC waits for a first broker: less than callers wait for an answer."""


@contextmanager
def kafka_answering(settings: KafkaSettings, doing: str) -> Iterator[None]:
    """Turn errors of Kafka into Unavailable; `doing` says what failed, such as "topics cannot be looked at"."""
    try:
        yield
    except KafkaError as error:
        raise Unavailable(
            f"{doing}: Kafka at {settings.kafka_bootstrap_servers} does not answer ({error}); try again once it does"
        ) from error
