from collections.abc import Iterator

import pytest
from headrace.events.v1 import model_pb2, record_pb2, run_pb2
from headrace_runtime import topics
from headrace_runtime.errors import Unprocessable
from headrace_runtime.kafka.envelopes import decode, encode, encode_with, new_id
from headrace_runtime.record_topics import record_topics
from headrace_runtime.records import Polled, Record, by_place, next_offsets
from headrace_runtime.telemetry.traces import extract, inject, links_to
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

PROVIDER = TracerProvider()
TRACER = PROVIDER.get_tracer("test")


@pytest.fixture
def span() -> Iterator[trace.Span]:
    with TRACER.start_as_current_span("cause") as current:
        yield current


def record(value: bytes | None, headers: list[tuple[str, bytes]] | None = None, offset: int = 7) -> Record:
    return Record("topic", 1, offset, b"key", value, headers or [])


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_bytes_of_a_field_are_put_together_of_parts(size: int) -> None:
    told = record_pb2.RecordBatch(pipeline="digits", rows=3, writer_schemas=["a"])
    value = encode_with(told, "arrow", [b"x" * size, memoryview(b"yz")])
    assert record_pb2.RecordBatch.FromString(value) == record_pb2.RecordBatch(
        pipeline="digits", rows=3, writer_schemas=["a"], arrow=b"x" * size + b"yz"
    )


def test_an_event_travels_with_its_envelope_and_trace(span: trace.Span) -> None:
    failed = run_pb2.RunFailed(run_id="train-1", pipeline="digits", reason="no rows")
    outgoing = encode(failed, source="trainer")
    headers = dict(outgoing.headers)
    assert outgoing.topic == "headrace.run.failed.v1"
    assert outgoing.key == b"train-1"
    assert headers["ce_type"] == b"headrace.events.v1.RunFailed"
    assert headers["ce_source"] == b"/trainer"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["content-type"] == b"application/protobuf"
    assert headers["ce_time"].endswith(b"Z")
    assert decode(record(outgoing.value), run_pb2.RunFailed) == failed
    carried = trace.get_current_span(extract(outgoing.headers)).get_span_context()
    assert carried.trace_id == span.get_span_context().trace_id


def test_an_alias_has_a_key_of_its_own() -> None:
    released = model_pb2.ModelReleased(model="digits", alias="champion")
    assert encode(released, source="model-registry").key == b"digits@champion"


def test_a_forwarded_message_gets_the_new_trace_only(span: trace.Span) -> None:
    old = [("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"), ("kept", b"1")]
    headers = inject(old)
    assert [name for name, _ in headers].count("traceparent") == 1
    assert ("kept", b"1") in headers
    assert f"{span.get_span_context().trace_id:032x}".encode() in dict(headers)["traceparent"]


def test_a_batch_links_to_each_distinct_context_once() -> None:
    headers = []
    for _ in range(40):
        with TRACER.start_as_current_span("producer"):
            headers += [inject([])] * 2
    links = links_to([*headers, [("unrelated", b"")]])
    assert len(links) == 32
    assert len({link.context.span_id for link in links}) == 32


@pytest.mark.parametrize("value", [None, b"\xff\xff\xff"])
def test_what_is_no_such_message_is_named_with_its_place(value: bytes | None) -> None:
    with pytest.raises(Unprocessable, match=r"topic:1:7: expected a headrace\.events\.v1\.RunFailed"):
        decode(record(value), run_pb2.RunFailed)


def test_the_next_offset_is_one_past_the_highest() -> None:
    records = [record(b"", offset=4), record(b"", offset=9), Record("other", 0, 2, None, b"")]
    assert next_offsets(records) == {("topic", 1): 10, ("other", 0): 3}


def test_ids_are_unique_and_in_order() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)


def test_topics_are_declared_once_and_well_named() -> None:
    names = [topic.name for topic in topics.CONTROL_TOPICS]
    assert len(set(names)) == len(names)
    for name in [*names, *record_topics("digits")]:
        assert name.startswith("headrace.")
        assert name.endswith((".v1", ".v2"))
        assert "_" not in name
    assert all(topics.topic_of(topic.message) is topic for topic in topics.CONTROL_TOPICS)
    assert topics.REGISTRY_LOG.config["retention.ms"] == "-1"
    assert topics.MODEL_RELEASED.config["cleanup.policy"] == "compact"


def test_records_are_told_apart_by_partition_in_their_order() -> None:
    records = [
        Record(topic, partition, offset, None, None) for offset in (7, 8) for topic in "ab" for partition in (0, 1)
    ]

    places = by_place(records)

    assert list(places) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert all([record.offset for record in found] == [7, 8] for found in places.values())


def test_a_poll_knows_the_places_of_its_records() -> None:
    first, second, other = Record("t", 1, 4, None, None), Record("t", 1, 5, None, None), Record("t", 0, 9, None, None)
    places = {("t", 1): [first, second], ("t", 0): [other]}
    polled = Polled(places)
    assert list(polled) == [*places["t", 1], *places["t", 0]]
    assert by_place(polled) == by_place(list(polled)) == places
    assert by_place(polled[1:]) == {("t", 1): places["t", 1][1:], ("t", 0): places["t", 0]}
    assert next_offsets(polled) == {("t", 1): 6, ("t", 0): 10}
