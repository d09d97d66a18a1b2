"""How commands reach Kafka: the settings that services read, or the embedded platform's own file.

Needs the extra `headrace-client[kafka]`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace_client.addresses import PLATFORM_FILE, home_folder
from headrace_client.errors import ExtraMissing, Rejected, SettingInvalid, TimedOut, Unreachable

if TYPE_CHECKING:
    from headrace_runtime.settings import KafkaSettings

BROKERS_SETTING = "HEADRACE_KAFKA_BOOTSTRAP_SERVERS"
CONNECT_TIMEOUT_MS = 5_000
"""Longest wait for a first broker."""


def kafka_settings(command: str) -> KafkaSettings:
    """Return how to reach Kafka. Raises ExtraMissing, naming the command, and SettingInvalid."""
    try:
        from headrace_runtime.errors import SettingsInvalid
        from headrace_runtime.settings import KafkaSettings, load_settings
    except ModuleNotFoundError as error:
        raise ExtraMissing(command, "kafka") from error
    try:
        settings = load_settings(KafkaSettings)
    except SettingsInvalid as error:
        raise SettingInvalid(str(error)) from error
    if os.environ.get(BROKERS_SETTING):
        return settings
    try:
        state = json.loads((home_folder() / PLATFORM_FILE).read_bytes())
    except (OSError, ValueError):
        return settings
    brokers = state.get("kafka_bootstrap_servers") if isinstance(state, dict) else None
    return settings.model_copy(update={"kafka_bootstrap_servers": brokers}) if brokers else settings


@contextmanager
def kafka_errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn what Kafka's client raises into the client's errors.

    Raises Unreachable, TimedOut when a broker was there and then silent, and Rejected when it refused, for example for
    want of a permission.
    """
    from kafka.errors import BrokerResponseError, KafkaError, KafkaTimeoutError

    brokers = settings.kafka_bootstrap_servers
    try:
        yield
    except KafkaTimeoutError as error:
        if "bootstrap" in str(error):
            raise Unreachable("Kafka", brokers, str(error)) from error
        raise TimedOut(f"Kafka at {brokers} did not answer in time: {error}") from error
    except BrokerResponseError as error:
        raise Rejected(f"Kafka at {brokers} refused: {error}", error.message) from error
    except (KafkaError, OSError) as error:
        raise Unreachable("Kafka", brokers, str(error)) from error
