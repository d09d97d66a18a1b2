"""From an applied pipeline to a release, through a restart, and everything that may go wrong on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from headrace.events.v1.dataset_pb2 import DatasetFailed, DatasetFrozen, DatasetProgressed, DatasetRequested
from headrace.events.v1.model_pb2 import CACHE_POLICY_REDIS, ModelRefused
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.events.v1.run_pb2 import (
    RUN_KIND_COMPRESSION,
    RUN_KIND_TRAINING,
    CompressionRequested,
    RunFailed,
    RunProgressed,
    TrainingRequested,
)
from headrace.registry.v1 import registry_service_pb2 as pb
from headrace.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from headrace_model_registry.settings import Settings
from headrace_runtime.kafka import Admin
from headrace_runtime.record_topics import clean_topic, dead_topic, raw_topic, scored_topic
from headrace_runtime.telemetry.traces import extract, tracer
from headrace_runtime.topics import topic_of
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from opentelemetry import trace

pytestmark = pytest.mark.contract


def test_from_an_applied_pipeline_to_a_release_and_through_a_restart(
    settings: Settings, cluster: Any, running: Any, cast: Any
) -> None:
    name = "registry-story"
    with running(settings) as (_, registry):
        answer = cast.apply(registry, name)
        assert answer.changed
        applied = answer.applied
        assert cluster.wait_for(PipelineApplied, name) == applied
        with Admin(settings, "test") as admin:
            record_topics = [name, raw_topic(name), clean_topic(name), dead_topic(name)]
            assert [admin.partitions_of(topic) for topic in record_topics] == [applied.partitions] * 4

        again = cast.apply(registry, name)
        assert not again.changed
        assert again.applied == applied

        released = cast.release(cluster, applied)
        assert (released.epoch, released.ordinal, released.alias, released.variant) == (1, 1, "champion", "int8")
        assert (released.cache, released.cache_ttl_s, released.reason) == (CACHE_POLICY_REDIS, 3600, "")
        assert released.graph == cast.artifact("int8")
        assert len(released.gates) == 16
        known = cast.everything(registry, name)
        (version,) = known[3].versions
        assert version.state == pb.VERSION_STATE_RELEASED
        assert [run.state for run in known[2].runs] == [pb.RUN_STATE_SUCCEEDED] * 2

    log = cluster.log(name)
    assert log == [
        "pipeline_applied",
        "dataset_frozen",
        "training_requested",
        "model_trained",
        "compression_requested",
        "model_compressed",
        "model_released",
    ]
    with running(settings) as (_, registry):
        assert cast.everything(registry, name) == known
        assert cluster.log(name) == log
        request = cluster.wait_for(CompressionRequested, name)
        cluster.publish(
            cast.compressed(request),
            RunFailed(run_id=request.run_id, pipeline=name, kind=RUN_KIND_COMPRESSION, reason="late"),
        )
        # A second dataset is decided after both, so they were seen and passed over.
        second = cast.release(cluster, applied, 2)
        assert (second.epoch, second.ordinal) == (2, 2)
        assert cluster.log(name) == log + log[1:]


def test_a_worse_candidate_is_refused_and_the_champion_stays(
    registry: RegistryServiceStub, cluster: Any, cast: Any
) -> None:
    name = "registry-worse"
    applied = cast.apply(registry, name).applied
    champion = cast.release(cluster, applied)
    cluster.publish(cast.frozen(applied, 2))
    cluster.publish(cast.trained(cluster.wait_for(TrainingRequested, name, 2)))
    request = cluster.wait_for(CompressionRequested, name, 2)
    assert request.champion.version_id == champion.version_id
    cluster.publish(cast.compressed(request, right=259, champion_right=260))
    refused = cluster.wait_for(ModelRefused, name)
    assert "518 of 540 right" in refused.reason
    assert "520 of 540 right" in refused.reason
    versions = registry.ListVersions(pb.ListVersionsRequest(model=name)).versions
    assert [version.state for version in versions] == [pb.VERSION_STATE_RELEASED, pb.VERSION_STATE_REFUSED]
    assert versions[1].reason == refused.reason
    assert len(registry.ListReleases(pb.ListReleasesRequest(model=name)).releases) == 1


def test_a_watched_pipeline_shows_each_change(registry: RegistryServiceStub, cluster: Any, cast: Any) -> None:
    name = "registry-watched"
    applied = cast.apply(registry, name).applied
    stream = registry.WatchPipeline(pb.WatchPipelineRequest(pipeline=name), timeout=cast.timeout_s)

    def until(condition: Callable[[pb.WatchPipelineResponse], bool]) -> pb.WatchPipelineResponse:
        return next(status for status in stream if condition(status))

    try:
        assert next(stream) == pb.WatchPipelineResponse()
        cluster.publish(DatasetProgressed(pipeline=name, rows=12, rows_wanted=1797, rejected={"range": 1}))
        assert until(lambda status: status.HasField("filling")).filling.rows == 12
        cluster.publish(DatasetFailed(pipeline=name, reason="no rows in the test split"))
        assert until(lambda status: bool(status.failure)).failure == "no rows in the test split"
        cluster.publish(cast.frozen(applied))
        request = cluster.wait_for(TrainingRequested, name)
        cluster.publish(
            RunProgressed(run_id=request.run_id, pipeline=name, kind=RUN_KIND_TRAINING, attempt=1, step=3, steps=40)
        )
        status = until(lambda status: bool(status.runs) and status.runs[0].HasField("progress"))
        assert (status.runs[0].progress.step, status.failure) == (3, "")
        cluster.publish(
            RunFailed(run_id=request.run_id, pipeline=name, kind=RUN_KIND_TRAINING, reason="loss is not a number")
        )
        status = until(lambda status: status.runs[0].state == pb.RUN_STATE_FAILED)
        assert status.runs[0].reason == "loss is not a number"
    finally:
        stream.cancel()


def test_a_dataset_is_asked_for_on_command(registry: RegistryServiceStub, cluster: Any, cast: Any) -> None:
    name = "registry-command"
    cast.apply(registry, name)
    request_id = registry.FreezeDataset(pb.FreezeDatasetRequest(pipeline=name)).request_id
    assert cluster.wait_for(DatasetRequested, name) == DatasetRequested(pipeline=name, request_id=request_id)


def test_decisions_carry_the_trace_of_the_fact_that_caused_them(
    registry: RegistryServiceStub, cluster: Any, cast: Any
) -> None:
    name = "registry-trace"
    applied = cast.apply(registry, name).applied
    parent = trace.SpanContext(0xFACE, 0xCAFE, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(parent)), tracer.start_as_current_span("freeze"):
        cluster.publish(cast.frozen(applied))
    cluster.wait_for(TrainingRequested, name)
    ((_, record),) = cluster.find(TrainingRequested, name)
    assert trace.get_current_span(extract(record.headers)).get_span_context().trace_id == 0xFACE
    assert str(record.header("ce_source")).startswith("/model-registry/")


def test_messages_that_nobody_can_read_are_passed_over(registry: RegistryServiceStub, cluster: Any, cast: Any) -> None:
    name = "registry-unreadable"
    applied = cast.apply(registry, name).applied
    producer = KafkaProducer(**cluster.settings.kafka_client())
    for value in (b"\xff no protobuf", None):
        producer.send(topic_of(DatasetFrozen).name, value, key=name.encode()).get(timeout=cast.timeout_s)
    producer.close()
    incomplete, unknown = cast.frozen(applied), cast.frozen(applied)
    incomplete.ClearField("manifest")
    unknown.pipeline = "registry-never-applied"
    cluster.publish(incomplete, unknown, cast.frozen(applied))
    assert cluster.wait_for(TrainingRequested, name).dataset.dataset_id == "sha256:registry-unreadable-1"
    assert cluster.log("registry-never-applied") == []


def test_errors_reach_the_caller_with_what_to_do(registry: RegistryServiceStub, cluster: Any, cast: Any) -> None:
    def failure(call: Callable[[], object]) -> Any:
        with pytest.raises(grpc.RpcError) as raised:
            call()
        return raised.value

    missing = failure(lambda: registry.ApplyPipeline(pb.ApplyPipelineRequest(document=cast.document("registry-none"))))
    assert missing.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "'registry-none'" in missing.details()
    assert "--create-topic" in missing.details()
    wrong = failure(lambda: registry.ApplyPipeline(pb.ApplyPipelineRequest(document=b"kind: Pipeline\nmetdata: {}\n")))
    assert wrong.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "line 2: metdata: " in wrong.details()
    unknown = failure(lambda: registry.FreezeDataset(pb.FreezeDatasetRequest(pipeline="registry-none")))
    assert unknown.code() == grpc.StatusCode.NOT_FOUND
    watched = failure(lambda: next(registry.WatchPipeline(pb.WatchPipelineRequest(pipeline="registry-none"))))
    assert watched.code() == grpc.StatusCode.NOT_FOUND
    assert cluster.log("registry-none") == []


def test_a_pipeline_grows_with_its_producers_topic(registry: RegistryServiceStub, cluster: Any, cast: Any) -> None:
    name = "registry-grown"
    applied = cast.apply(registry, name).applied
    admin = KafkaAdminClient(**cluster.settings.kafka_client())
    admin.create_partitions({name: applied.partitions + 2})
    with Admin(cluster.settings, "test") as reader:
        cast.wait_until(lambda: reader.partitions_of(name) == applied.partitions + 2)
    admin.close()
    # By this, or by the registry's own look at the topics, whichever comes first.
    assert cast.apply(registry, name).applied.partitions == applied.partitions + 2
    with Admin(cluster.settings, "test") as reader:
        cast.wait_until(lambda: reader.partitions_of(raw_topic(name)) == applied.partitions + 2)
    assert cluster.log(name) == ["pipeline_applied"] * 2


def test_records_that_are_scored_begin_where_they_were_when_that_was_applied(
    registry: RegistryServiceStub, cluster: Any, cast: Any
) -> None:
    name, client = "registry-scored", cluster.settings.kafka_client()
    cast.apply(registry, name)
    producer, admin = KafkaProducer(**client), KafkaAdminClient(**client)
    topics = [f"{name}-asked", f"{name}-others"]
    for topic in topics:
        with Admin(cluster.settings, "test") as maker:
            maker.ensure_topic(topic, 2)
        for future in [producer.send(topic, b"{}", partition=0) for _ in range(3)]:
            future.get(timeout=30)

    def begins(topic: str) -> list[int]:
        document = cast.document(name).replace(b"cache: redis", f"scoring: {{topic: {topic}}}".encode())
        registry.ApplyPipeline(pb.ApplyPipelineRequest(document=document), timeout=60)
        found = admin.list_group_offsets([f"inference.{name}"])[f"inference.{name}"]
        return [found[TopicPartition(topic, number)].offset for number in range(2)]

    assert begins(topics[0]) == [3, 0]
    producer.send(topics[0], b"{}", partition=0).get(timeout=30)
    assert begins(topics[0]) == [3, 0], "what came since is to be answered"
    # Somebody reads the one topic, and the pipeline has another scored from now on.
    # Of a topic that it knows nothing of when it joins, it gets partitions once it has asked again.
    member = KafkaConsumer(topics[0], group_id=f"inference.{name}", metadata_max_age_ms=500, **client)
    cast.wait_until(lambda: bool(member.poll(timeout_ms=100)))
    assert begins(topics[1]) == [3, 0]
    member.close(autocommit=False)
    lags = {(lag.group, lag.topic) for lag in registry.ListLags(pb.ListLagsRequest(), timeout=60).lags}
    assert (f"inference.{name}", topics[1]) in lags
    admin.create_partitions({topics[1]: 3})
    with Admin(cluster.settings, "test") as reader:
        assert reader.partitions_of(scored_topic(name)) >= 2
        cast.wait_until(lambda: reader.partitions_of(scored_topic(name)) == 3)
    producer.close()
    admin.close()


def test_lags_of_every_group_are_listed(registry: RegistryServiceStub, cluster: Any, cast: Any) -> None:
    name = "registry-lags"
    applied = cast.apply(registry, name).applied
    cluster.publish(cast.frozen(applied))
    cluster.wait_for(TrainingRequested, name)
    lags = registry.ListLags(pb.ListLagsRequest()).lags
    frozen_topic = topic_of(DatasetFrozen).name
    assert [lag.messages for lag in lags if (lag.group, lag.topic) == ("registry", frozen_topic)] == [0]
