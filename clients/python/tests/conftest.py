"""A registry and an inference server with canned state on real sockets, and the `headrace` command against them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headrace import open_inference
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.dataset_pb2 import DatasetFrozen, DatasetProgressed, SplitRows
from headrace.events.v1.model_pb2 import CACHE_POLICY_REDIS, GateResult, ModelReleased, ModelTrained, Variant
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec, PipelineTroubled
from headrace.events.v1.record_pb2 import SourceRange
from headrace.events.v1.run_pb2 import RUN_KIND_COMPRESSION, RUN_KIND_TRAINING, RunProgressed
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace.registry.v1 import registry_service_pb2_grpc as services
from headrace_client.cli.app import app
from typer.testing import CliRunner, Result

from .answers import Answers, digest, word_by_word

SPEC = digest("5")
MOMENT = Timestamp(seconds=1_700_000_000, nanos=250_000_000)


class Canned:
    """Builders of the registry's messages, all about pipeline `digits`."""

    spec = SPEC
    old_spec = digest("4")

    digest = staticmethod(digest)

    @staticmethod
    def artifact(letter: str) -> Artifact:
        return Artifact(uri=f"file:///store/{letter}", digest=digest(letter), size_bytes=51_200)

    @staticmethod
    def pipeline(name: str = "digits", spec_digest: str = SPEC) -> PipelineApplied:
        document = {"metadata": {"name": name}, "stream": {"topic": "scans"}, "train": {"model": "digits"}}
        spec = PipelineSpec(json=json.dumps(document).encode(), digest=spec_digest)
        return PipelineApplied(pipeline=name, spec=spec, partitions=3)

    def dataset(self, letter: str = "d", spec_digest: str = SPEC, request_id: str = "") -> messages.Dataset:
        frozen = DatasetFrozen(
            pipeline="digits",
            dataset_id=digest(letter),
            spec_digest=spec_digest,
            manifest=self.artifact("a"),
            rows=SplitRows(train=1257, validation=270, test=265),
            sources=[SourceRange(partition=0, start=0, end=1800)],
            rejected={"range": 2, "type": 1},
            request_id=request_id,
        )
        return messages.Dataset(frozen=frozen, freeze_time=MOMENT)

    @staticmethod
    def filling(rows: int, wanted: int = 1797) -> DatasetProgressed:
        return DatasetProgressed(pipeline="digits", rows=rows, rows_wanted=wanted, rejected={"range": 2})

    @staticmethod
    def training(
        state: messages.RunState.ValueType, *, reason: str = "", epoch: int = 0, letter: str = "d"
    ) -> messages.Run:
        run = messages.Run(
            run_id=digest("1"),
            pipeline="digits",
            kind=RUN_KIND_TRAINING,
            state=state,
            subject=digest(letter),
            reason=reason,
            request_time=MOMENT,
        )
        if epoch:
            progress = RunProgressed(attempt=1, step=epoch, steps=40, eta_s=72.0)
            progress.metrics.update({"train_loss": 0.5 / epoch, "validation_loss": 0.6 / epoch})
            run.progress.CopyFrom(progress)
        if state != messages.RUN_STATE_RUNNING:
            run.end_time.CopyFrom(Timestamp(seconds=MOMENT.seconds + 12))
        return run

    @staticmethod
    def compression(state: messages.RunState.ValueType, *, reason: str = "") -> messages.Run:
        return messages.Run(
            run_id=digest("2"),
            pipeline="digits",
            kind=RUN_KIND_COMPRESSION,
            state=state,
            subject=digest("e"),
            reason=reason,
            request_time=MOMENT,
        )

    def version(
        self,
        state: messages.VersionState.ValueType,
        *,
        reason: str = "",
        measured: bool = True,
        letter: str = "e",
        dataset: str = "d",
    ) -> messages.Version:
        trained = ModelTrained(
            run_id=digest("1"),
            pipeline="digits",
            model="digits",
            version_id=digest(letter),
            dataset_id=digest(dataset),
            manifest=self.artifact("a"),
            graph=self.artifact("b"),
            weights=self.artifact("c"),
            metrics={"accuracy": 0.9811, "log_loss": 0.07},
            attempt=1,
            epochs=31,
            cpu_s=12.345,
            peak_memory_bytes=812_000_000,
        )
        version = messages.Version(trained=trained, ordinal=1, state=state, reason=reason)
        if measured:
            version.variants.extend([self.variant("fp32", 1.0), self.variant("int8", 0.3)])
            version.MergeFrom(messages.Version(gates=self.gates(), cpu_class="avx2", frontier=["fp32"]))
        return version

    def variant(self, name: str, scale: float) -> Variant:
        metrics = {
            "size_bytes": 102_400 * scale,
            "latency_ms_batch_1": 0.041 * scale,
            "latency_ms_batch_32": 0.21 * scale,
            "accuracy": 0.9811,
            "agreement": 0.9962,
        }
        return Variant(name=name, graph=self.artifact("b"), metrics=metrics)

    @staticmethod
    def gates() -> list[GateResult]:
        return [
            GateResult(variant="int8", gate="accuracyDrop", passed=True, limit=0.01, measured=0.0),
            GateResult(variant="int8", gate="agreement", passed=False, limit=0.998, measured=0.9962),
        ]

    def release(self, letter: str = "e", ordinal: int = 1) -> messages.Release:
        released = ModelReleased(
            model="digits",
            alias="champion",
            epoch=ordinal,
            version_id=digest(letter),
            ordinal=ordinal,
            variant="fp32",
            graph=self.artifact("b"),
            pipeline="digits",
            dataset_id=digest("d"),
            run_id=digest("1"),
            gates=self.gates(),
            cache=CACHE_POLICY_REDIS,
        )
        return messages.Release(released=released, release_time=MOMENT)

    def state(self, **parts: Any) -> messages.WatchPipelineResponse:
        return messages.WatchPipelineResponse(**parts)

    def released_state(self) -> messages.WatchPipelineResponse:
        return self.state(
            dataset=self.dataset(),
            runs=[self.training(messages.RUN_STATE_SUCCEEDED), self.compression(messages.RUN_STATE_SUCCEEDED)],
            version=self.version(messages.VERSION_STATE_RELEASED),
            release=self.release(),
        )


State = messages.WatchPipelineResponse | grpc.StatusCode


@dataclass
class FakeRegistry(Answers):
    """The registry's service over canned answers.

    `states` are streamed in order, then the stream stays open; a status code cuts it, and the next stream goes on
    behind it. As a dictionary they belong to the first stream, the second, and so on. `watched_s` are their time-outs.
    """

    pipelines: list[PipelineApplied] = field(default_factory=list)
    watched_s: list[float] = field(default_factory=list)
    datasets: list[messages.Dataset] = field(default_factory=list)
    runs: list[messages.Run] = field(default_factory=list)
    versions: list[messages.Version] = field(default_factory=list)
    releases: list[messages.Release] = field(default_factory=list)
    lags: list[messages.Lag] = field(default_factory=list)
    troubles: list[PipelineTroubled] = field(default_factory=list)
    lineage: messages.GetLineageResponse = field(default_factory=messages.GetLineageResponse)
    fates: list[messages.RecordFate] = field(default_factory=list)
    states: list[State] | dict[int, list[State]] = field(default_factory=list)
    watches: int = 0
    refusal: tuple[grpc.StatusCode, str] | None = None
    changed: bool = True
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    def _seen(self, request: Any, context: grpc.ServicerContext, answer: Any = None) -> Any:
        self.requests.append(request)
        self.metadata.append({str(key): str(value) for key, value in context.invocation_metadata()})
        if self.refusal:
            context.abort(*self.refusal)
        return answer

    def ApplyPipeline(self, request: Any, context: Any) -> messages.ApplyPipelineResponse:  # noqa: N802
        self._seen(request, context)
        return messages.ApplyPipelineResponse(applied=self.pipelines[0], changed=self.changed)

    def DeletePipeline(self, request: Any, context: Any) -> messages.DeletePipelineResponse:  # noqa: N802
        return self._seen(request, context, messages.DeletePipelineResponse(purged=request.purge))

    def DeleteLeftovers(self, request: Any, context: Any) -> messages.DeleteLeftoversResponse:  # noqa: N802
        return self._seen(request, context, messages.DeleteLeftoversResponse(topics=["penguins.raw"], in_force=True))

    def FreezeDataset(self, request: Any, context: Any) -> messages.FreezeDatasetResponse:  # noqa: N802
        return self._seen(request, context, messages.FreezeDatasetResponse(request_id="request-7"))

    def ListPipelines(self, request: Any, context: Any) -> messages.ListPipelinesResponse:  # noqa: N802
        found = [one for one in self.pipelines if request.pipeline in ("", one.pipeline)]
        return self._seen(request, context, messages.ListPipelinesResponse(pipelines=found))

    def ListDatasets(self, request: Any, context: Any) -> messages.ListDatasetsResponse:  # noqa: N802
        return self._seen(request, context, messages.ListDatasetsResponse(datasets=self.datasets))

    def ListRuns(self, request: Any, context: Any) -> messages.ListRunsResponse:  # noqa: N802
        return self._seen(request, context, messages.ListRunsResponse(runs=self.runs))

    def ListVersions(self, request: Any, context: Any) -> messages.ListVersionsResponse:  # noqa: N802
        return self._seen(request, context, messages.ListVersionsResponse(versions=self.versions))

    def ListReleases(self, request: Any, context: Any) -> messages.ListReleasesResponse:  # noqa: N802
        return self._seen(request, context, messages.ListReleasesResponse(releases=self.releases))

    def RollbackModel(self, request: Any, context: Any) -> messages.RollbackModelResponse:  # noqa: N802
        return self._seen(request, context, messages.RollbackModelResponse(release=next(iter(self.releases), None)))

    def GetLineage(self, request: Any, context: Any) -> messages.GetLineageResponse:  # noqa: N802
        return self._seen(request, context, self.lineage)

    def GetRecordFate(self, request: Any, context: Any) -> messages.GetRecordFateResponse:  # noqa: N802
        return self._seen(request, context, messages.GetRecordFateResponse(fates=self.fates))

    def ListLags(self, request: Any, context: Any) -> messages.ListLagsResponse:  # noqa: N802
        return self._seen(request, context, messages.ListLagsResponse(lags=self.lags))

    def ListTroubles(self, request: Any, context: Any) -> messages.ListTroublesResponse:  # noqa: N802
        return self._seen(request, context, messages.ListTroublesResponse(troubles=self.troubles))

    def WatchPipeline(self, request: Any, context: Any) -> Iterator[messages.WatchPipelineResponse]:  # noqa: N802
        self._seen(request, context)
        over = threading.Event()
        context.add_callback(over.set)
        states = self.states[self.watches] if isinstance(self.states, dict) else self.states
        self.watches, self.watched_s = self.watches + 1, [*self.watched_s, context.time_remaining()]
        while states:
            state = states.pop(0)
            if isinstance(state, grpc.StatusCode):
                context.abort(state, "the stream was cut")
            yield state  # type: ignore[misc]  # abort does not return
        over.wait(timeout=30)


@dataclass
class FakeInference(grpc.GenericRpcHandler):
    """The Open Inference Protocol over one model `digits` that answers the number of lit pixels modulo ten."""

    model: str = "digits"
    is_ready: bool = True
    not_ready: int = 0  # calls of ModelMetadata that are still answered like those for a model that loads
    inputs: list[tuple[str, str, list[int]]] = field(default_factory=lambda: [("pixels", "FP32", [-1, 2, 2])])
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    answer: Callable[[Any], Any] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    optional: dict[str, bool] | None = None  # None when the server has no ModelConfig
    keeps: bool = False
    address: str = ""
    words: list[Any] = field(default_factory=lambda: ["the ", "river"])  # of ModelStreamInfer: see word_by_word

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, _, name = details.method[1:].partition("/")
        if name == "ModelStreamInfer":
            return word_by_word(self.words, self.requests)
        if service != open_inference.SERVICE or not hasattr(self, name):
            return None
        request, answer = open_inference.METHODS[name]
        self.metadata.append({str(key): str(value) for key, value in details.invocation_metadata})
        return grpc.unary_unary_rpc_method_handler(
            getattr(self, name), request_deserializer=request.FromString, response_serializer=answer.SerializeToString
        )

    def ServerReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return open_inference.ServerReadyResponse(ready=self.is_ready)

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if self.not_ready:
            self.not_ready -= 1
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1000"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
        if request.name != self.model:
            context.abort(grpc.StatusCode.NOT_FOUND, f"model '{request.name}' is not served; served are: {self.model}")
        answer = open_inference.ModelMetadataResponse(name=self.model, versions=["1", "2"], platform="onnxruntime")
        for name, datatype, shape in self.inputs:
            answer.inputs.add(name=name, datatype=datatype, shape=shape)
        answer.outputs.add(name="label", datatype="INT64", shape=[-1])
        for name, labels in {"probabilities": "", **self.labels}.items():
            answer.outputs.add(name=name, datatype="FP32", shape=[-1, 2]).parameters["labels"].string_param = labels
        return answer

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if self.optional is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "method not implemented")
        inputs = [{"name": name, "optional": told} for name, told in (self.optional or {}).items()]
        return open_inference.ModelConfigResponse(config={"input": inputs, "response_cache": {"enable": self.keeps}})

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        import numpy as np

        repeated = any(seen.raw_input_contents == request.raw_input_contents for seen in self.requests)
        self.requests.append(request)
        if self.answer:
            return self.answer(request)
        rows = request.inputs[0].shape[0]
        lit = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(rows, -1).sum(axis=1)
        answer = open_inference.ModelInferResponse(model_name=self.model, model_version="2")
        answer.parameters["cached"].bool_param = repeated
        answer.parameters["variant"].string_param = "int8"
        answer.parameters["prediction_id"].string_param = f"prediction-{len(self.requests)}"
        answer.outputs.add(name="label", datatype="INT64", shape=[rows])
        answer.outputs.add(name="probabilities", datatype="FP32", shape=[rows, 2])
        answer.raw_output_contents.append((lit.astype("<i8") % 10).tobytes())
        answer.raw_output_contents.append(np.tile(np.array([0.25, 0.75], "<f4"), (rows, 1)).tobytes())
        return answer


@contextmanager
def served(register: Callable[[grpc.Server], None]) -> Iterator[str]:
    """Run a gRPC server on a free port and yield its address."""
    server = grpc.server(ThreadPoolExecutor(8))
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no platform of this machine be found; addresses nobody listens at."""
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_REGISTRY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_INFERENCE_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def canned() -> Canned:
    return Canned()


@pytest.fixture
def registry(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    fake = FakeRegistry(pipelines=[canned.pipeline()])
    with served(lambda server: services.add_RegistryServiceServicer_to_server(fake, server)) as fake.address:
        monkeypatch.setenv("HEADRACE_REGISTRY_ADDRESS", fake.address)
        yield fake


@pytest.fixture
def inference(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeInference]:
    fake = FakeInference()
    with served(lambda server: server.add_generic_rpc_handlers((fake,))) as fake.address:
        monkeypatch.setenv("HEADRACE_INFERENCE_ADDRESS", fake.address)
        yield fake


@pytest.fixture
def headrace() -> Callable[..., Result]:
    """Run the `headrace` command and return its result."""
    runner = CliRunner()

    def run(*arguments: str, stdin: str | None = None) -> Result:
        result = runner.invoke(app, list(arguments), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run
