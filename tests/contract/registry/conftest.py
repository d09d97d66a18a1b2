"""A registry on a real broker, and a cast that plays the other services."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.dataset_pb2 import DatasetFrozen, SplitRows
from headrace.events.v1.model_pb2 import Evaluation, ModelCompressed, ModelReleased, ModelTrained, Variant
from headrace.events.v1.pipeline_pb2 import PipelineApplied
from headrace.events.v1.run_pb2 import CompressionRequested, TrainingRequested
from headrace.registry.v1 import registry_service_pb2 as pb
from headrace.registry.v1.registry_service_pb2_grpc import RegistryServiceStub
from headrace_model_registry.settings import Settings
from headrace_model_registry.wiring import build
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.process.service import Service
from headrace_runtime.records import Outgoing, Record
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import REGISTRY_LOG, topic_of
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

M = TypeVar("M", bound=Message)
TIMEOUT_S = 60.0
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


@pytest.fixture(scope="module", autouse=True)
def _no_pipeline_stays(broker: Platform, forget_pipelines: Callable[[KafkaSettings], None]) -> Iterator[None]:
    yield
    forget_pipelines(KafkaSettings(kafka_bootstrap_servers=broker.bootstrap_servers))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        began = time.monotonic()
        if condition():
            return
        assert time.monotonic() < deadline, "the condition did not come about"
        # Looking takes processor time from those that are waited for: a quarter of it at most.
        time.sleep(max(0.02, 3 * (time.monotonic() - began)))


@dataclass
class Cluster:
    """The broker as the other services see it."""

    settings: Settings

    def publish(self, *messages: Message) -> None:
        self.send(*(encode(message, source="test") for message in messages))

    def send(self, *messages: Outgoing) -> None:
        producer = KafkaProducer(**self.settings.kafka_client())
        try:
            for message in messages:
                producer.send(
                    message.topic,
                    message.value,
                    key=message.key,
                    headers=list(message.headers),
                    partition=message.partition,
                ).get(timeout=TIMEOUT_S)
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
        decoded = [(decode(record, message), record) for record in records if record.value is not None]
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


class Cast:
    """What callers and the other services do and say."""

    timeout_s = TIMEOUT_S
    wait_until = staticmethod(wait_until)

    def document(self, name: str, seed: int = 7) -> bytes:
        return DOCUMENT.format(name=name, seed=seed).encode()

    def artifact(self, name: str) -> Artifact:
        return Artifact(uri=f"memory://{name}", digest=f"sha256:{name}", size_bytes=100)

    def frozen(self, applied: PipelineApplied, number: int = 1, request_id: str = "") -> DatasetFrozen:
        return DatasetFrozen(
            pipeline=applied.pipeline,
            dataset_id=f"sha256:{applied.pipeline}-{number}",
            spec_digest=applied.spec.digest,
            manifest=self.artifact(f"{applied.pipeline}-manifest-{number}"),
            rows=SplitRows(train=1257, validation=270, test=ROWS),
            request_id=request_id,
        )

    def trained(self, request: TrainingRequested) -> ModelTrained:
        return ModelTrained(
            run_id=request.run_id,
            pipeline=request.pipeline,
            model=request.pipeline,
            version_id=f"sha256:version-of-{request.run_id}",
            dataset_id=request.dataset.dataset_id,
            manifest=self.artifact("version"),
            graph=self.artifact(f"graph-{request.run_id}"),
            weights=self.artifact("weights"),
            metrics={"accuracy": 0.97},
            attempt=1,
            epochs=40,
        )

    def compressed(self, request: CompressionRequested, right: int = 260, champion_right: int = 260) -> ModelCompressed:
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
                Variant(name="int8", graph=self.artifact("int8"), metrics=figures | {"latency_ms_batch_1": 0.1}),
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

    def apply(self, registry: RegistryServiceStub, name: str, **changes: int) -> pb.ApplyPipelineResponse:
        request = pb.ApplyPipelineRequest(document=self.document(name, **changes), create_topic=True)
        answer: pb.ApplyPipelineResponse = registry.ApplyPipeline(request, timeout=TIMEOUT_S)
        return answer

    def release(self, cluster: Cluster, applied: PipelineApplied, number: int = 1) -> ModelReleased:
        """Play the other services from a dataset to a release."""
        name = applied.pipeline
        cluster.publish(self.frozen(applied, number))
        cluster.publish(self.trained(cluster.wait_for(TrainingRequested, name, number)))
        cluster.publish(self.compressed(cluster.wait_for(CompressionRequested, name, number)))
        return cluster.wait_for(ModelReleased, name, number)

    def everything(self, registry: RegistryServiceStub, name: str, as_of: datetime | None = None) -> list[Message]:
        """Return what the registry knows or knew of a pipeline, without the progress, which is not recorded."""
        requests: list[Any] = [
            pb.ListPipelinesRequest(pipeline=name),
            pb.ListDatasetsRequest(pipeline=name),
            pb.ListRunsRequest(pipeline=name),
            pb.ListVersionsRequest(model=name),
            pb.ListReleasesRequest(model=name),
        ]
        for request in requests:
            if as_of is not None:
                request.as_of.FromDatetime(as_of)
        calls = ("ListPipelines", "ListDatasets", "ListRuns", "ListVersions", "ListReleases")
        answers = [getattr(registry, call)(request) for call, request in zip(calls, requests, strict=True)]
        for run in answers[2].runs:
            run.ClearField("progress")
        return answers

    def port_of(self, service: Service) -> int:
        (host,) = (component for component in service._components if isinstance(component, GrpcHost))
        return host.port


Running = Callable[[Settings], AbstractContextManager[tuple[Service, RegistryServiceStub]]]


@pytest.fixture(scope="session")
def cast() -> Cast:
    return Cast()


@pytest.fixture(scope="module")
def settings(broker: Platform, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    chosen = {
        "kafka_bootstrap_servers": broker.bootstrap_servers,
        "kafka_session_timeout_ms": 6_000,
        "listen_address": "127.0.0.1:0",
        "metrics_address": "",
        "store_url": str(tmp_path_factory.mktemp("objects")),
    }
    return Settings.model_validate(chosen)


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Cluster:
    return Cluster(settings)


@pytest.fixture(scope="session")
def running(cast: Cast) -> Running:
    """Run a registry in this process."""

    @contextmanager
    def run(settings: Settings) -> Iterator[tuple[Service, RegistryServiceStub]]:
        service = build(settings)
        service.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{cast.port_of(service)}") as channel:
                yield service, RegistryServiceStub(channel)
        finally:
            service.stop()

    return run


@pytest.fixture
def registry(settings: Settings, running: Running) -> Iterator[RegistryServiceStub]:
    with running(settings) as (_, stub):
        yield stub


@pytest.fixture(scope="session")
def started() -> Callable[[Settings], AbstractContextManager[subprocess.Popen[str]]]:
    """Run a registry in a process of its own."""
    return _started


@contextmanager
def _started(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    environment = {
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "HEADRACE_KAFKA_SESSION_TIMEOUT_MS": str(settings.kafka_session_timeout_ms),
        "HEADRACE_LISTEN_ADDRESS": "127.0.0.1:0",
        "HEADRACE_METRICS_ADDRESS": "",
        "HEADRACE_STORE_URL": settings.store_url,
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
