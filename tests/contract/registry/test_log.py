"""The registry's log with messages in it that are no entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace.events.v1.dataset_pb2 import DatasetRequested
from headrace.registry.v1.registry_log_pb2 import LogEntry
from headrace_data.log_chain import Claim, LogChain
from headrace_model_registry.adapters.log import read_log
from headrace_model_registry.settings import Settings as RegistrySettings
from headrace_model_registry.transport.converters import from_log_entry
from headrace_preprocessing.settings import Settings
from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.topics import REGISTRY_LOG
from kafka import KafkaProducer

pytestmark = pytest.mark.contract

Write = Callable[..., int]
"""Writes a message, and returns its offset."""


@pytest.fixture
def write(lane_settings: Settings) -> Iterator[Write]:
    """A producer of the log's topic. No registry runs on this broker."""
    producer = KafkaProducer(**lane_settings.kafka_client())

    def written(value: bytes, **headers: bytes) -> int:
        return int(producer.send(REGISTRY_LOG.name, value, headers=list(headers.items())).get(timeout=30).offset)

    yield written
    producer.close()


def entry(request: str, seconds: int = 1, claim: Claim | None = None) -> bytes:
    requested = DatasetRequested(pipeline="p", request_id=request)
    message = LogEntry(occur_time=Timestamp(seconds=seconds), dataset_requested=requested)
    if claim:
        message.entries_before, message.root_before = claim
    return encode(message, source="test").value or b""


@pytest.fixture
def offsets(write: Write) -> list[int]:
    """An entry, four messages that are none, and an entry: their offsets."""
    return [
        write(entry("first")),
        write(b"\xff garbage", ce_source=b"/somebody"),
        write(LogEntry(occur_time=Timestamp(seconds=1)).SerializeToString()),
        write(entry("")[:-3]),
        write(entry("of no time", 2**62)),
        write(entry("last")),
    ]


def test_what_is_no_entry_is_named_and_only_that_can_be_passed_over_and_a_broken_chain_is_no_start(
    lane_settings: Settings, offsets: list[int], write: Write
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

    def chain(accepted: int = -1) -> LogChain:
        read = LogChain(accepted)
        list(read_log(lane_settings, from_log_entry, bad, read))
        return read

    def claim() -> Claim:
        tree = chain(2**40).tree
        return Claim(tree.leaves, tree.root())

    # What is passed over is no leaf. The first root covers all before it; what an older registry wrote is no break.
    begins = write(entry("chained", claim=claim()))
    write(entry("of an older registry"))
    write(entry("chained again", claim=claim()))
    found = chain()
    assert (found.tree.leaves, found.begins, found.unchained, found.first_break) == (5, begins, 1, None)
    broken = write(entry("wrong", claim=Claim(5, b"\0" * 32)))
    with pytest.raises(FailedPrecondition) as refused:
        chain()
    told = str(refused.value)
    expected = (
        f"is broken at offset {broken}: expected 5 entries before it with root {found.tree.root().hex()}, got 5 entries"
    )
    assert expected in told
    # The way out is what it says, and leads past this break alone.
    setting = f"HEADRACE_ACCEPT_LOG_BREAKS_UNTIL={broken}"
    assert told.endswith(setting)
    assert chain(RegistrySettings(accept_log_breaks_until=broken).accept_log_breaks_until).last_broken == broken
    write(entry("right", claim=claim()))
    later = write(entry("wrong again", claim=Claim(6, claim().root)))
    with pytest.raises(
        FailedPrecondition, match=f"broken at offset {later}: .* HEADRACE_ACCEPT_LOG_BREAKS_UNTIL={later}"
    ):
        chain(broken)
