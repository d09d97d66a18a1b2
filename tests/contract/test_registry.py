"""The registry on a real broker: from an applied pipeline to a release, through restarts and a second registry."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.dataset_pb2 import DatasetFailed, DatasetFrozen, DatasetProgressed, DatasetRequested, SplitRows
from headrace.events.v1.model_pb2 import (
    CACHE_POLICY_REDIS,
    Evaluation,
    ModelCompressed,
    ModelRefused,
    ModelReleased,
    ModelTrained,
    Variant,
)
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
from headrace_model_registry.wiring import build
from headrace_runtime.errors import FailedPrecondition
from headrace_runtime.grpc_host import GrpcHost
from headrace_runtime.kafka import Admin, Fenced, LogReader
from headrace_runtime.messages import Record, decode, encode
from headrace_runtime.service import Service
from headrace_runtime.telemetry import extract, tracer
from headrace_runtime.topics import REGISTRY_LOG, clean_topic, dead_topic, raw_topic, topic_of
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from opentelemetry import trace

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

M = TypeVar("M", bound=Message)
TIMEOUT_S = 30.0
ROWS = 270

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: {name}}}
stream:
  topic: {name}
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: pixels, type: float32, shape: [8, 8], unit: intensity, role: feature, range: [0, 16]}}
    - {{name: digit, type: int64, role: label, range: [0, 9]}}
train:
  network: {{kind: mlp, hidden: [128, 64]}}
  seed: {seed}
compress:
  variants: [{{kind: int8-dynamic}}]
serve: {{cache: redis}}
"""


def document(name: str, seed: int = 7) -> bytes:
    return DOCUMENT.format(name=name, seed=seed).encode()


def artifact(name: str) -> Artifact:
    return Artifact(uri=f"memory://{name}", digest=f"sha256:{name}", size_bytes=100)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.02)


@dataclass
class Cluster:
    """The broker as the other services see it."""

    settings: Settings

    def publish(self, *messages: Message) -> None:
        producer = KafkaProducer(**self.settings.kafka_client())
        try:
            for message in messages:
                outgoing = encode(message, source="test")
                headers = list(outgoing.headers)
                producer.send(outgoing.topic, outgoing.value, key=outgoing.key, headers=headers).get(timeout=TIMEOUT_S)
        finally:
            producer.close()

    def records(self, message: type[Message]) -> list[Record]:
        """Return everything committed to the topic of a message."""
        with LogReader(self.settings, "test") as reader:
            places = reader.partitions(topic_of(message).name)
            reader.start_at(dict.fromkeys(places))
            return [record for records in reader.read_to(reader.ends(places)) for record in records]

    def find(self, message: type[M], pipeline: str) -> list[tuple[M, Record]]:
        """Return a pipeline's messages of one class, oldest first."""
        records = sorted(self.records(message), key=lambda record: record.timestamp_ms)
        decoded = [(decode(record, message), record) for record in records]
        return [(found, record) for found, record in decoded if found.pipeline == pipeline]  # type: ignore[attr-defined]

    def wait_for(self, message: type[M], pipeline: str, count: int = 1) -> M:
        """Return a pipeline's latest message of one class once there are so many."""
        found: list[tuple[M, Record]] = []

        def enough() -> bool:
            found[:] = self.find(message, pipeline)
            return len(found) >= count

        wait_until(enough)
        assert len(found) == count
        return found[-1][0]

    def log(self, pipeline: str) -> list[str]:
        """Return the names of the pipeline's entries in the registry's log."""
        with LogReader(self.settings, "test") as reader:
            places = reader.partitions(REGISTRY_LOG.name)
            reader.start_at(dict.fromkeys(places))
            records = [record for batch in reader.read_to(reader.ends(places)) for record in batch]
        entries: list[Any] = [decode(record, REGISTRY_LOG.message) for record in records]
        names = [(entry.WhichOneof("event"), entry) for entry in entries]
        return [name for name, entry in names if getattr(entry, name).pipeline == pipeline]


@pytest.fixture(scope="module")
def settings(broker: Platform) -> Settings:
    chosen = {
        "kafka_bootstrap_servers": broker.bootstrap_servers,
        "kafka_session_timeout_ms": 6_000,
        "listen_address": "127.0.0.1:0",
        "metrics_address": "",
    }
    return Settings.model_validate(chosen)


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Cluster:
    return Cluster(settings)


@contextmanager
def running(settings: Settings) -> Iterator[tuple[Service, RegistryServiceStub]]:
    """Run a registry in this process."""
    service = build(settings)
    service.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port_of(service)}") as channel:
            yield service, RegistryServiceStub(channel)
    finally:
        service.stop()


def port_of(service: Service) -> int:
    (host,) = (component for component in service._components if isinstance(component, GrpcHost))
    return host.port


@pytest.fixture
def registry(settings: Settings) -> Iterator[RegistryServiceStub]:
    with running(settings) as (_, stub):
        yield stub


def frozen(applied: PipelineApplied, number: int = 1, request_id: str = "") -> DatasetFrozen:
    return DatasetFrozen(
        pipeline=applied.pipeline,
        dataset_id=f"sha256:{applied.pipeline}-{number}",
        spec_digest=applied.spec.digest,
        manifest=artifact(f"{applied.pipeline}-manifest-{number}"),
        rows=SplitRows(train=1257, validation=270, test=ROWS),
        request_id=request_id,
    )


def trained(request: TrainingRequested) -> ModelTrained:
    return ModelTrained(
        run_id=request.run_id,
        pipeline=request.pipeline,
        model=request.pipeline,
        version_id=f"sha256:version-of-{request.run_id}",
        dataset_id=request.dataset.dataset_id,
        manifest=artifact("version"),
        graph=artifact(f"graph-{request.run_id}"),
        weights=artifact("weights"),
        metrics={"accuracy": 0.97},
        attempt=1,
        epochs=40,
    )


def compressed(request: CompressionRequested, right: int = 260, champion_right: int = 260) -> ModelCompressed:
    candidate, champion = request.candidate, request.champion
    figures = {"accuracy": right / ROWS, "agreement": 1.0, "relative_logit_error": 0.0, "size_bytes": 900.0}
    scores = {candidate.version_id: right} | ({champion.version_id: champion_right} if champion.version_id else {})
    datasets = {candidate.dataset.dataset_id, champion.dataset.dataset_id} - {""}
    return ModelCompressed(
        run_id=request.run_id,
        pipeline=request.pipeline,
        version_id=candidate.version_id,
        variants=[
            Variant(name="fp32", graph=candidate.graph, metrics=figures | {"latency_ms_batch_1": 0.2}),
            Variant(name="int8", graph=artifact("int8"), metrics=figures | {"latency_ms_batch_1": 0.1}),
        ],
        evaluations=[
            Evaluation(version_id=version, dataset_id=dataset, rows=ROWS, metrics={"accuracy": count / ROWS})
            for dataset in sorted(datasets)
            for version, count in scores.items()
        ],
        champion_id=champion.version_id,
        cpu_class="avx2",
        attempt=1,
    )


def apply(registry: RegistryServiceStub, name: str, **changes: int) -> pb.ApplyPipelineResponse:
    request = pb.ApplyPipelineRequest(document=document(name, **changes), create_topic=True)
    answer: pb.ApplyPipelineResponse = registry.ApplyPipeline(request, timeout=TIMEOUT_S)
    return answer


def release(cluster: Cluster, applied: PipelineApplied, number: int = 1) -> ModelReleased:
    """Play the other services from a dataset to a release."""
    name = applied.pipeline
    cluster.publish(frozen(applied, number))
    cluster.publish(trained(cluster.wait_for(TrainingRequested, name, number)))
    cluster.publish(compressed(cluster.wait_for(CompressionRequested, name, number)))
    return cluster.wait_for(ModelReleased, name, number)


def everything(registry: RegistryServiceStub, name: str) -> list[Message]:
    """Return what the registry knows of a pipeline, without the progress, which is not recorded."""
    answers: list[Any] = [
        registry.ListPipelines(pb.ListPipelinesRequest(pipeline=name)),
        registry.ListDatasets(pb.ListDatasetsRequest(pipeline=name)),
        registry.ListRuns(pb.ListRunsRequest(pipeline=name)),
        registry.ListVersions(pb.ListVersionsRequest(model=name)),
        registry.ListReleases(pb.ListReleasesRequest(model=name)),
    ]
    for run in answers[2].runs:
        run.ClearField("progress")
    return answers


def test_from_an_applied_pipeline_to_a_release_and_through_a_restart(settings: Settings, cluster: Cluster) -> None:
    name = "registry-story"
    with running(settings) as (_, registry):
        answer = apply(registry, name)
        assert answer.changed
        applied = answer.applied
        assert cluster.wait_for(PipelineApplied, name) == applied
        with Admin(settings, "test") as admin:
            record_topics = [name, raw_topic(name), clean_topic(name), dead_topic(name)]
            assert [admin.partitions_of(topic) for topic in record_topics] == [applied.partitions] * 4

        again = apply(registry, name)
        assert not again.changed
        assert again.applied == applied

        released = release(cluster, applied)
        assert (released.epoch, released.ordinal, released.alias, released.variant) == (1, 1, "champion", "int8")
        assert released.cache == CACHE_POLICY_REDIS
        assert released.graph == artifact("int8")
        assert len(released.gates) == 10
        known = everything(registry, name)
        (version,) = known[3].versions  # type: ignore[attr-defined]
        assert version.state == pb.VERSION_STATE_RELEASED
        assert [run.state for run in known[2].runs] == [pb.RUN_STATE_SUCCEEDED] * 2  # type: ignore[attr-defined]

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
        assert everything(registry, name) == known
        assert cluster.log(name) == log
        request = cluster.wait_for(CompressionRequested, name)
        cluster.publish(
            compressed(request),
            RunFailed(run_id=request.run_id, pipeline=name, kind=RUN_KIND_COMPRESSION, reason="late"),
        )
        # A second dataset is decided after both, so they were seen and passed over.
        second = release(cluster, applied, 2)
        assert (second.epoch, second.ordinal) == (2, 2)
        assert cluster.log(name) == log + log[1:]


def test_a_worse_candidate_is_refused_and_the_champion_stays(registry: RegistryServiceStub, cluster: Cluster) -> None:
    name = "registry-worse"
    applied = apply(registry, name).applied
    champion = release(cluster, applied)
    cluster.publish(frozen(applied, 2))
    cluster.publish(trained(cluster.wait_for(TrainingRequested, name, 2)))
    request = cluster.wait_for(CompressionRequested, name, 2)
    assert request.champion.version_id == champion.version_id
    cluster.publish(compressed(request, right=259, champion_right=260))
    refused = cluster.wait_for(ModelRefused, name)
    assert "518 of 540 right" in refused.reason
    assert "520 of 540 right" in refused.reason
    versions = registry.ListVersions(pb.ListVersionsRequest(model=name)).versions
    assert [version.state for version in versions] == [pb.VERSION_STATE_RELEASED, pb.VERSION_STATE_REFUSED]
    assert versions[1].reason == refused.reason
    assert len(registry.ListReleases(pb.ListReleasesRequest(model=name)).releases) == 1


def test_a_watched_pipeline_shows_each_change(registry: RegistryServiceStub, cluster: Cluster) -> None:
    name = "registry-watched"
    applied = apply(registry, name).applied
    stream = registry.WatchPipeline(pb.WatchPipelineRequest(pipeline=name), timeout=TIMEOUT_S)

    def until(condition: Callable[[pb.WatchPipelineResponse], bool]) -> pb.WatchPipelineResponse:
        return next(status for status in stream if condition(status))

    try:
        assert next(stream) == pb.WatchPipelineResponse()
        cluster.publish(DatasetProgressed(pipeline=name, rows=12, rows_wanted=1797, rejected={"range": 1}))
        assert until(lambda status: status.HasField("filling")).filling.rows == 12
        cluster.publish(DatasetFailed(pipeline=name, reason="no rows in the test split"))
        assert until(lambda status: bool(status.failure)).failure == "no rows in the test split"
        cluster.publish(frozen(applied))
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


def test_a_dataset_is_asked_for_on_command(registry: RegistryServiceStub, cluster: Cluster) -> None:
    name = "registry-command"
    apply(registry, name)
    request_id = registry.FreezeDataset(pb.FreezeDatasetRequest(pipeline=name)).request_id
    assert cluster.wait_for(DatasetRequested, name) == DatasetRequested(pipeline=name, request_id=request_id)


def test_decisions_carry_the_trace_of_the_fact_that_caused_them(
    registry: RegistryServiceStub, cluster: Cluster
) -> None:
    name = "registry-trace"
    applied = apply(registry, name).applied
    parent = trace.SpanContext(0xFACE, 0xCAFE, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(parent)), tracer.start_as_current_span("freeze"):
        cluster.publish(frozen(applied))
    cluster.wait_for(TrainingRequested, name)
    ((_, record),) = cluster.find(TrainingRequested, name)
    assert trace.get_current_span(extract(record.headers)).get_span_context().trace_id == 0xFACE
    assert str(record.header("ce_source")).startswith("/model-registry/")


def test_messages_that_nobody_can_read_are_passed_over(registry: RegistryServiceStub, cluster: Cluster) -> None:
    name = "registry-unreadable"
    applied = apply(registry, name).applied
    producer = KafkaProducer(**cluster.settings.kafka_client())
    for value in (b"\xff no protobuf", None):
        producer.send(topic_of(DatasetFrozen).name, value, key=name.encode()).get(timeout=TIMEOUT_S)
    producer.close()
    incomplete, unknown = frozen(applied), frozen(applied)
    incomplete.ClearField("manifest")
    unknown.pipeline = "registry-never-applied"
    cluster.publish(incomplete, unknown, frozen(applied))
    assert cluster.wait_for(TrainingRequested, name).dataset.dataset_id == "sha256:registry-unreadable-1"
    assert cluster.log("registry-never-applied") == []


def test_errors_reach_the_caller_with_what_to_do(registry: RegistryServiceStub, cluster: Cluster) -> None:
    def failure(call: Callable[[], object]) -> Any:
        with pytest.raises(grpc.RpcError) as raised:
            call()
        return raised.value

    missing = failure(lambda: registry.ApplyPipeline(pb.ApplyPipelineRequest(document=document("registry-none"))))
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


def test_a_producers_topic_that_grew_is_refused(registry: RegistryServiceStub, cluster: Cluster) -> None:
    name = "registry-grown"
    applied = apply(registry, name).applied
    admin = KafkaAdminClient(**cluster.settings.kafka_client())
    admin.create_partitions({name: applied.partitions + 2})
    with Admin(cluster.settings, "test") as reader:
        wait_until(lambda: reader.partitions_of(name) == applied.partitions + 2)
    admin.close()
    with pytest.raises(grpc.RpcError, match="has 5 partitions now, and the pipeline was made for 3") as raised:
        apply(registry, name)
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert cluster.log(name) == ["pipeline_applied"]


def test_a_killed_registry_decides_everything_once(settings: Settings, cluster: Cluster) -> None:
    name = "registry-killed"
    with running(settings) as (_, registry):
        applied = apply(registry, name).applied
    datasets = [frozen(applied, number) for number in range(30)]
    with started(settings) as process:
        cluster.publish(*datasets[:10])
        process.kill()
        process.wait(TIMEOUT_S)
    cluster.publish(*datasets[10:])
    with running(settings) as (_, registry):
        wait_until(lambda: len(registry.ListRuns(pb.ListRunsRequest(pipeline=name)).runs) == len(datasets))
    requests = [request.dataset.dataset_id for request, _ in cluster.find(TrainingRequested, name)]
    assert sorted(requests) == sorted(dataset.dataset_id for dataset in datasets)
    assert cluster.log(name).count("dataset_frozen") == len(datasets)


def test_lags_of_every_group_are_listed(registry: RegistryServiceStub, cluster: Cluster) -> None:
    name = "registry-lags"
    applied = apply(registry, name).applied
    cluster.publish(frozen(applied))
    cluster.wait_for(TrainingRequested, name)
    lags = registry.ListLags(pb.ListLagsRequest()).lags
    frozen_topic = topic_of(DatasetFrozen).name
    assert [lag.messages for lag in lags if (lag.group, lag.topic) == ("registry", frozen_topic)] == [0]


@pytest.mark.parametrize("by", ["a write", "an entry of the other"])
def test_a_second_registry_takes_over_and_the_first_one_ends(settings: Settings, cluster: Cluster, by: str) -> None:
    name = f"registry-fenced-by-{by.replace(' ', '-')}"
    first = build(settings)
    failed: list[BaseException] = []
    first.fail = failed.append  # type: ignore[assignment,method-assign]
    first.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port_of(first)}") as channel:
            applied = apply(RegistryServiceStub(channel), name).applied
            with running(settings) as (_, second):
                assert everything(second, name)[0].pipelines == [applied]  # type: ignore[attr-defined]
                if by == "a write":
                    with pytest.raises(grpc.RpcError) as raised:
                        apply(RegistryServiceStub(channel), name, seed=8)
                    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
                else:
                    apply(second, f"{name}-elsewhere")
                wait_until(lambda: bool(failed))
                assert isinstance(failed[0], Fenced)
                assert release(cluster, applied).epoch == 1
                assert cluster.log(name).count("pipeline_applied") == 1
    finally:
        first.stop()


def test_a_stopped_registry_ends_its_streams_at_once(settings: Settings) -> None:
    with running(settings) as (service, registry):
        apply(registry, "registry-stopped")
        stream = registry.WatchPipeline(pb.WatchPipelineRequest(pipeline="registry-stopped"), timeout=TIMEOUT_S)
        next(stream)
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 8.0
        with pytest.raises(grpc.RpcError) as raised:
            next(stream)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [("cleanup.policy", "compact", "delete"), ("retention.ms", "86400000", "-1"), ("retention.bytes", "1000000", "-1")],
)
def test_a_log_that_would_be_forgotten_stops_the_start(
    settings: Settings, setting: str, value: str, expected: str
) -> None:
    with log_setting(settings, setting, value, expected):
        service = build(settings)
        with pytest.raises(FailedPrecondition, match=f"{setting} is {value}, expected {expected}"):
            service.start()


@contextmanager
def log_setting(settings: Settings, name: str, value: str, usual: str) -> Iterator[None]:
    admin = KafkaAdminClient(**settings.kafka_client())

    def change(to: str) -> None:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, REGISTRY_LOG.name, configs={name: to})])
        with Admin(settings, "test") as reader:
            wait_until(lambda: reader.topic_config(REGISTRY_LOG.name)[name] == to)

    try:
        change(value)
        yield
    finally:
        change(usual)
        admin.close()


def test_the_process_starts_and_stops_by_signal(settings: Settings) -> None:
    with started(settings) as process:
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert any("model-registry is down" in line for line in process.stderr)


@contextmanager
def started(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Run a registry in a process of its own."""
    environment = {
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "HEADRACE_KAFKA_SESSION_TIMEOUT_MS": str(settings.kafka_session_timeout_ms),
        "HEADRACE_LISTEN_ADDRESS": "127.0.0.1:0",
        "HEADRACE_METRICS_ADDRESS": "",
    }
    command = [sys.executable, "-m", "headrace_model_registry"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any("model-registry is up" in line for line in iter(process.stderr.readline, ""))
        yield process
    finally:
        process.kill()
        process.communicate()
