"""The registry's log with messages in it that are no entries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.dataset_pb2 import DatasetRequested
from headrace.registry.v1.registry_log_pb2 import LogEntry
from headrace_model_registry.adapters.log import read_log
from headrace_model_registry.settings import Settings as RegistrySettings
from headrace_model_registry.transport.converters import from_log_entry
from headrace_preprocessing.settings import Settings
from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.topics import REGISTRY_LOG
from kafka import KafkaProducer

pytestmark = pytest.mark.contract


@pytest.fixture
def offsets(lane_settings: Settings) -> Iterator[list[int]]:
    """An entry, four messages that are none, and an entry: their offsets. No registry runs on this broker."""
    producer = KafkaProducer(**lane_settings.kafka_client())

    def written(value: bytes, **headers: bytes) -> int:
        return int(producer.send(REGISTRY_LOG.name, value, headers=list(headers.items())).get(timeout=30).offset)

    def entry(request: str, seconds: int = 1) -> bytes:
        requested = DatasetRequested(pipeline="p", request_id=request)
        message = LogEntry(occur_time=Timestamp(seconds=seconds), dataset_requested=requested)
        return encode(message, source="test").value or b""

    yield [
        written(entry("first")),
        written(b"\xff garbage", ce_source=b"/somebody"),
        written(LogEntry(occur_time=Timestamp(seconds=1)).SerializeToString()),
        written(entry("")[:-3]),
        written(entry("of no time", 2**62)),
        written(entry("last")),
    ]
    producer.close()


def test_what_is_no_entry_is_named_and_only_that_can_be_passed_over(
    lane_settings: Settings, offsets: list[int]
) -> None:
    first, *bad, _ = offsets
    with pytest.raises(FailedPrecondition) as refused:
        list(read_log(lane_settings, from_log_entry))
    told = str(refused.value)
    assert f"{REGISTRY_LOG.name}:0:{bad[0]} (written 20" in told
    assert "by /somebody, 9 bytes)" in told
    assert "one of a newer registry" in told
    assert "LogEntry.occur_time: expected a time between the years 1 and 9999" in told
    # The way out is what it says.
    setting = f"HEADRACE_SKIP_LOG_OFFSETS={','.join(map(str, bad))}"
    assert setting in told
    settings = RegistrySettings(skip_log_offsets=setting.partition("=")[2])
    read = [entry.event.request_id for entry in read_log(lane_settings, from_log_entry, settings.skipped())]
    assert read == ["first", "last"]
    with pytest.raises(FailedPrecondition, match=f":{bad[2]} "):
        list(read_log(lane_settings, from_log_entry, bad[:2]))
    with pytest.raises(FailedPrecondition, match=f":{first} holds an entry: take it out of HEADRACE_SKIP_LOG_OFFSETS"):
        list(read_log(lane_settings, from_log_entry, offsets))
