"""Inference over a real socket, as clients see it; everything but Kafka and Redis is there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace import open_inference as oip
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.releases import Graph, Release
from headrace_inference.core.shelf import Shelf
from headrace_inference.settings import Settings
from headrace_inference.transport.predictor import PREDICTION_ID
from headrace_inference.wiring import build_host, build_loader
from headrace_runtime.object_store import ObjectStore
from onnx import TensorProto, helper
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

MakeGraph = Callable[..., bytes]
MakeRelease = Callable[..., Release]

HEALTH = health_pb2.HealthCheckResponse
ROW = np.linspace(0, 16, 64, dtype=np.float32).reshape(1, 8, 8)


class Server:
    """A running server and what to release with."""

    def __init__(self, folder: Path, make_release: MakeRelease) -> None:
        settings = Settings(
            listen_address="127.0.0.1:0",
            store_url=str(folder / "store"),
            work_dir=folder / "work",
            redis_url="",
            max_message_bytes=100_000,
            run_timeout_s=3.0,
            drain_s=0.0,
        )
        self._store = ObjectStore(settings.store_url)
        self._make_release = make_release
        self.shelf = Shelf()
        self.host = build_host(settings, self.shelf, NoLog())
        self.loader = build_loader(settings, self.shelf, self.host)
        self.host.start()
        self.loader.start()
        self.channel: Any = grpc.insecure_channel(f"127.0.0.1:{self.host.port}")

    def release(self, graph: bytes, **fields: Any) -> None:
        artifact = self._store.put(graph)
        kept = Graph(artifact.uri, artifact.digest, artifact.size_bytes)
        self.loader.announce(self._make_release(graph=kept, **fields), Context())

    def call(self, method: str, request: Any, **options: Any) -> Any:
        return self.future(method, request, **options).result()

    def future(self, method: str, request: Any, **options: Any) -> Any:
        request_class, answer_class = oip.METHODS[method]
        stub = self.channel.unary_unary(
            f"/{oip.SERVICE}/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=answer_class.FromString,
        )
        return stub.future(request, **{"timeout": 30} | options)

    def failure(self, method: str, request: Any) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request)
        return caught.value

    def health(self, name: str) -> Any:
        return health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest(service=name), timeout=30)

    def wait_healthy(self, name: str) -> None:
        watch = self.health(name)
        assert any(answer.status == HEALTH.SERVING for answer in watch)
        watch.cancel()

    def stop(self) -> None:
        self.channel.close()
        self.loader.stop()
        self.host.stop()


@pytest.fixture
def server(tmp_path: Path, make_release: MakeRelease) -> Iterator[Server]:
    server = Server(tmp_path, make_release)
    yield server
    server.stop()


@pytest.fixture
def serving(server: Server, graph: bytes) -> Server:
    server.release(graph)
    server.loader.all_announced()
    server.wait_healthy("")
    return server


def request(pixels: Any = ROW, **fields: Any) -> Any:
    message = oip.ModelInferRequest(**{"model_name": "digits"} | fields)
    message.inputs.add(name="pixels", datatype="FP32", shape=pixels.shape)
    message.raw_input_contents.append(pixels.tobytes())
    return message


def test_a_prediction_comes_with_its_id_in_the_metadata(serving: Server) -> None:
    call = serving.future("ModelInfer", request())
    answer = call.result()
    assert len(answer.raw_output_contents) == 2
    assert dict(call.trailing_metadata())[PREDICTION_ID] == answer.parameters["prediction_id"].string_param


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (request(model_name="nope"), "NOT_FOUND", "model 'nope' is not released; released models: ['digits']"),
        (request(model_version="7"), "NOT_FOUND", "model 'digits' has no version '7' here; served: 1 (champion)"),
        (
            request(model_version="?"),
            "INVALID_ARGUMENT",
            "expected an ordinal, a digest or an alias as version, got '?'",
        ),
        (
            request(ROW.astype(np.float64)),
            "INVALID_ARGUMENT",
            "input 'pixels': expected 256 bytes of raw contents for FP32 [1, 8, 8], got 512",
        ),
        (
            request(ROW.reshape(1, 64)),
            "INVALID_ARGUMENT",
            "input 'pixels': expected 3 dimensions [-1, 8, 8], got 2: [1, 64]",
        ),
        (request(np.zeros((400, 8, 8), np.float32)), "RESOURCE_EXHAUSTED", "larger than max (102434 vs. 100000)"),
    ],
)
def test_wrong_calls_have_their_status(serving: Server, wrong: Any, code: str, message: str) -> None:
    failed = serving.failure("ModelInfer", wrong)
    assert failed.code().name == code
    assert message in failed.details()


def test_before_the_releases_are_read_callers_are_asked_to_wait(server: Server) -> None:
    failed = server.failure("ModelInfer", request())
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    assert ("grpc-retry-pushback-ms", "1000") in failed.trailing_metadata()
    assert server.call("ServerLive", oip.ServerLiveRequest()).live
    assert not server.call("ServerReady", oip.ServerReadyRequest()).ready


def test_health_follows_server_and_models(server: Server, graph: bytes) -> None:
    watch, model = server.health(""), server.health("model/digits")
    assert next(watch).status == HEALTH.NOT_SERVING
    assert next(model).status == HEALTH.SERVICE_UNKNOWN
    server.release(graph)
    while next(model).status != HEALTH.SERVING:
        pass
    server.loader.all_announced()
    assert next(watch).status == HEALTH.SERVING
    assert server.call("ServerReady", oip.ServerReadyRequest()).ready
    server.loader.withdraw(("digits", "champion"))
    assert next(model).status == HEALTH.SERVICE_UNKNOWN
    assert server.failure("ModelInfer", request()).code() is grpc.StatusCode.NOT_FOUND


def test_an_internal_error_says_nothing_but_the_trace(serving: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = serving.shelf.resolve("digits", "").model
    monkeypatch.setattr(type(model), "run", lambda *_: 1 / 0)
    failed = serving.failure("ModelInfer", request())
    assert failed.code() is grpc.StatusCode.INTERNAL
    assert re.fullmatch("internal error, (trace|reference) [0-9a-f]{32}", failed.details())
    assert "division" not in failed.details()


def test_no_call_fails_while_versions_change(serving: Server, make_graph: MakeGraph) -> None:
    graphs = [make_graph(seed=seed) for seed in range(4)]
    last = 12
    ended = threading.Event()
    versions: list[int] = []

    def ask() -> None:
        while not ended.is_set():
            versions.append(int(serving.call("ModelInfer", request()).model_version))

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    for ordinal in range(2, last + 1):
        serving.release(graphs[ordinal % len(graphs)], epoch=ordinal, ordinal=ordinal)
    pause = threading.Event()
    while serving.shelf.resolve("digits", "").release.ordinal != last:
        assert not pause.wait(0.005)
    assert int(serving.call("ModelInfer", request()).model_version) == last
    ended.set()
    for caller in callers:
        caller.join()
    assert versions
    assert set(versions) <= set(range(1, last + 1))


def test_a_call_that_loops_on_its_values_holds_up_no_other_model(serving: Server, counting_loop: Any) -> None:
    times = helper.make_tensor_value_info("times", TensorProto.INT64, [])
    counted = helper.make_tensor_value_info("counted", TensorProto.FLOAT, [])
    start = helper.make_tensor("start", TensorProto.FLOAT, [], [0.0])
    made = helper.make_model(
        helper.make_graph([counting_loop], "counts", [times], [counted], [start]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    made.ir_version = 10
    serving.release(made.SerializeToString(), model="counts")
    serving.wait_healthy("model/counts")
    counting = oip.ModelInferRequest(model_name="counts", raw_input_contents=[(2**50).to_bytes(8, "little")])
    counting.inputs.add(name="times", datatype="INT64", shape=[])
    looping = serving.future("ModelInfer", counting)
    until_it_runs = threading.Event()
    while not serving.loader._run_limit._running:
        until_it_runs.wait(0.005)
    serving.call("ModelInfer", request())
    assert not looping.done()
    with pytest.raises(grpc.RpcError, match="the model computed for more than 3 s and was ended"):
        looping.result()


def test_a_call_is_one_trace(serving: Server) -> None:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = serving.call("ModelInfer", request(), metadata=(("traceparent", parent),))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    infer, called = spans["infer"], spans["inference.GRPCInferenceService/ModelInfer"]
    assert infer.parent is not None
    assert called.parent is not None
    assert (infer.parent.span_id, called.parent.span_id) == (called.context.span_id, 0xB7AD6B7169203331)
    assert (called.attributes or {})["headrace.prediction.id"] == answer.parameters["prediction_id"].string_param
    assert (called.attributes or {})["headrace.model"] == "digits"


@pytest.mark.parametrize("which", ["inputs", "outputs"])
def test_more_tensors_than_can_be_meant_are_refused_unread(serving: Server, which: str) -> None:
    sent = request()
    for number in range(100):
        getattr(sent, which).add(name=f"stranger {number}")
    failure = serving.failure("ModelInfer", sent)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.fullmatch(rf"expected \d {which}, got 10[01]", str(failure.details()))
