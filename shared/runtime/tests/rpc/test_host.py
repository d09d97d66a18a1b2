from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from headrace.ingestion.v1 import ingestion_service_pb2 as ingestion
from headrace.ingestion.v1 import ingestion_service_pb2_grpc as ingestion_grpc
from headrace.open_inference import POOL, SERVICE
from headrace_runtime import errors
from headrace_runtime.rpc.host import LIVE, GrpcHost
from headrace_runtime.rpc.leaving import stop_listening
from headrace_runtime.tls_files import Listening
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

PUSH = "headrace.ingestion.v1.IngestionService"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Ingestion(ingestion_grpc.IngestionServiceServicer):
    """Raises the error that it is told to, by the name of the pipeline."""

    async def Push(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.pipeline == "abort":
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "by its own hand")
        if request.pipeline == "metadata":
            context.set_trailing_metadata((("batch", "b1"),))
            raise errors.NotFound("no such pipeline")
        if request.pipeline == "bug":
            raise KeyError("a secret")
        raised = getattr(errors, request.pipeline, None)
        if raised is not None:
            raise raised("said to the caller")
        return ingestion.PushResponse()


class Gate:
    """Generic methods, bytes in and bytes out; `Wait` answers when the gate opens."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = asyncio.Event()
        self.lived: list[str] = []

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.lived.append(threading.current_thread().name)
        yield
        self.lived.append("left")

    async def echo(self, request: bytes, _context: Any) -> bytes:
        return request

    async def wait(self, request: bytes, _context: Any) -> bytes:
        self.entered.set()
        await self.opened.wait()
        return request

    async def count(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request
        raise errors.TooLarge("one is enough")

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "test.Gate",
            {
                "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
                "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
                "Count": grpc.unary_stream_rpc_method_handler(self.count),
            },
        )


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def host(gate: Gate) -> Iterator[GrpcHost]:
    host = GrpcHost(
        "127.0.0.1:0",
        [partial(ingestion_grpc.add_IngestionServiceServicer_to_server, Ingestion()), gate.handler()],  # type: ignore[abstract]
        [PUSH, SERVICE, "test.Gate"],
        max_message_bytes=100_000,
        descriptor_pool=POOL,
        lifespan=gate.lifespan,
    )
    host.start()
    yield host
    host.stop()


@pytest.fixture
def channel(host: GrpcHost) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


def push(channel: Any, pipeline: str, metadata: Any = ()) -> Any:
    return ingestion_grpc.IngestionServiceStub(channel).Push(
        ingestion.PushRequest(pipeline=pipeline), timeout=10, metadata=metadata
    )


def failure_of(channel: Any, pipeline: str, metadata: Any = ()) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        push(channel, pipeline, metadata)
    return caught.value


def test_a_servicer_and_a_generic_handler_answer(channel: Any) -> None:
    assert push(channel, "none") == ingestion.PushResponse()
    assert channel.unary_unary("/test.Gate/Echo")(b"\xff\x00raw", timeout=10) == b"\xff\x00raw"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("InvalidInput", grpc.StatusCode.INVALID_ARGUMENT),
        ("NotFound", grpc.StatusCode.NOT_FOUND),
        ("FailedPrecondition", grpc.StatusCode.FAILED_PRECONDITION),
        ("TooLarge", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("Unavailable", grpc.StatusCode.UNAVAILABLE),
        ("DeadlineExceeded", grpc.StatusCode.DEADLINE_EXCEEDED),
        ("Unprocessable", grpc.StatusCode.INVALID_ARGUMENT),
        ("Corrupt", grpc.StatusCode.DATA_LOSS),
    ],
)
def test_each_error_has_its_status(channel: Any, error: str, code: grpc.StatusCode) -> None:
    failed = failure_of(channel, error)
    assert (failed.code(), failed.details()) == (code, "said to the caller")
    asked_to_wait = ("grpc-retry-pushback-ms", "1000") in failed.trailing_metadata()
    assert asked_to_wait == (code is grpc.StatusCode.UNAVAILABLE)


def test_an_unknown_error_tells_only_the_trace(channel: Any, spans: InMemorySpanExporter) -> None:
    failed = failure_of(channel, "bug", (("traceparent", TRACEPARENT),))
    assert (failed.code(), failed.details()) == (grpc.StatusCode.INTERNAL, f"internal error, trace {TRACE_ID}")


def test_an_abort_and_metadata_of_the_method_pass(channel: Any) -> None:
    assert failure_of(channel, "abort").code() is grpc.StatusCode.ALREADY_EXISTS
    assert ("batch", "b1") in failure_of(channel, "metadata").trailing_metadata()


def test_a_stream_ends_with_its_error(channel: Any) -> None:
    answers = channel.unary_stream("/test.Gate/Count")(b"1", timeout=10)
    assert next(answers) == b"1"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Gate/Other")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_oversized_message_is_told_the_limit(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Gate/Echo")(bytes(100_001), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "100001 vs. 100000" in str(caught.value.details())


def test_a_span_continues_the_callers_trace(channel: Any, spans: InMemorySpanExporter) -> None:
    push(channel, "none", (("traceparent", TRACEPARENT),))
    (span,) = spans.get_finished_spans()
    assert span.name == f"{PUSH}/Push"
    assert span.kind is trace.SpanKind.SERVER
    assert span.parent is not None
    assert f"00-{span.parent.trace_id:032x}-{span.parent.span_id:016x}-01" == TRACEPARENT
    assert span.attributes == {
        "rpc.system": "grpc",
        "rpc.service": PUSH,
        "rpc.method": "Push",
        "rpc.grpc.status_code": 0,
    }


@pytest.mark.parametrize(("error", "is_fault"), [("NotFound", False), ("Unavailable", True), ("bug", True)])
def test_only_the_servers_faults_are_span_errors(
    host: GrpcHost, channel: Any, spans: InMemorySpanExporter, error: str, is_fault: bool
) -> None:
    failed = failure_of(channel, error)
    host.stop()  # a failed call's span ends after its status went out
    (span,) = spans.get_finished_spans()
    assert (span.status.status_code is trace.StatusCode.ERROR) == is_fault
    assert (span.attributes or {})["rpc.grpc.status_code"] == failed.code().value[0]


def test_durations_are_counted_by_status(host: GrpcHost, channel: Any) -> None:
    def count(code: str) -> float:
        labels = {"rpc_service": PUSH, "rpc_method": "Push", "rpc_status_code": code}
        return REGISTRY.get_sample_value("headrace_rpc_server_call_duration_seconds_count", labels) or 0.0

    ok, missing = count("OK"), count("NOT_FOUND")
    push(channel, "none")
    failure_of(channel, "NotFound")
    host.stop()
    assert (count("OK"), count("NOT_FOUND")) == (ok + 1, missing + 1)


def check(channel: Any, name: str) -> Any:
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status


def test_health_knows_the_server_and_its_services(channel: Any, spans: InMemorySpanExporter) -> None:
    assert [check(channel, name) for name in ("", PUSH, SERVICE)] == [health_pb2.HealthCheckResponse.SERVING] * 3
    with pytest.raises(grpc.RpcError) as caught:
        check(channel, "model/none")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert not spans.get_finished_spans()


def test_watch_tells_every_change_and_ends_at_stop(host: GrpcHost, channel: Any) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    statuses = (answer.status for answer in stub.Watch(health_pb2.HealthCheckRequest(service="model/m"), timeout=10))
    health = health_pb2.HealthCheckResponse
    assert next(statuses) == health.SERVICE_UNKNOWN
    host.set_serving(True, "model/m")
    assert next(statuses) == health.SERVING
    host.set_serving(False, "model/m")
    assert next(statuses) == health.NOT_SERVING
    host.set_serving(None, "model/m")
    assert next(statuses) == health.SERVICE_UNKNOWN
    host.set_serving(True, "model/m")
    assert next(statuses) == health.SERVING
    host.stop()
    assert list(statuses) == [health.NOT_SERVING]


def test_the_servers_health_is_that_of_its_services(host: GrpcHost, channel: Any) -> None:
    host.set_serving(True, "model/m")
    host.set_serving(False)
    health = health_pb2.HealthCheckResponse
    assert [check(channel, name) for name in ("", PUSH)] == [health.NOT_SERVING] * 2
    assert check(channel, "model/m") == health.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_public_and_private_services(channel: Any, version: str) -> None:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    symbols = [PUSH, SERVICE, "grpc.health.v1.Health", "no.Such"]
    requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    listed, *files, unknown = ask(iter(requests), timeout=10)
    assert {service.name for service in listed.list_services_response.service} >= {PUSH, SERVICE, "test.Gate"}
    packages = [
        {descriptor_pb2.FileDescriptorProto.FromString(data).package for data in _protos(answer)} for answer in files
    ]
    assert [package <= found for package, found in zip(_packages(symbols), packages, strict=True)] == [True] * 3
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def _protos(answer: Any) -> Any:
    return answer.file_descriptor_response.file_descriptor_proto


def _packages(symbols: list[str]) -> list[set[str]]:
    return [{symbol.rpartition(".")[0]} for symbol in symbols[:-1]]


def test_a_taken_address_is_named(host: GrpcHost) -> None:
    address = f"127.0.0.1:{host.port}"
    second = GrpcHost(address, [], [])
    with pytest.raises(errors.Unavailable, match=f"gRPC cannot listen on {address}"):
        second.start()
    second.stop()


def test_stop_lets_calls_in_flight_end(host: GrpcHost, gate: Gate, channel: Any) -> None:
    answer = channel.unary_unary("/test.Gate/Wait").future(b"still answered", timeout=10)
    assert gate.entered.wait(10)
    stopping = threading.Thread(target=host.stop)
    stopping.start()
    host._in_loop(gate.opened.set)
    assert answer.result() == b"still answered"
    stopping.join()
    assert gate.lived == [f"grpc {host._at.address}", "left"]


@pytest.mark.slow
def test_calls_are_taken_while_callers_move_on(gate: Gate) -> None:
    host = GrpcHost("127.0.0.1:0", [gate.handler()], ["test.Gate"], drain_s=2.0)
    host.start()
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{host.port}")
    with dial as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=30)
        statuses = (answer.status for answer in watch)
        assert next(statuses) == health_pb2.HealthCheckResponse.SERVING
        stopping = threading.Thread(target=host.stop)
        stopping.start()
        assert next(statuses) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert channel.unary_unary("/test.Gate/Echo")(b"late", timeout=10) == b"late"
        assert list(statuses) == []
        stopping.join()


def test_a_method_must_be_asynchronous() -> None:
    handler = grpc.method_handlers_generic_handler(
        "test.Sync", {"Echo": grpc.unary_unary_rpc_method_handler(lambda request, _context: request)}
    )
    host = GrpcHost("127.0.0.1:0", [handler], [])
    host.start()
    try:
        dial: Any = grpc.insecure_channel(f"127.0.0.1:{host.port}")
        with dial as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/test.Sync/Echo")(b"", timeout=10)
    finally:
        host.stop()


def test_a_server_that_is_not_ready_is_alive(host: GrpcHost, channel: Any) -> None:
    host.set_serving(False)
    health = health_pb2.HealthCheckResponse
    assert [check(channel, name) for name in ("", LIVE)] == [health.NOT_SERVING, health.SERVING]


@pytest.mark.slow
def test_callers_that_do_not_watch_health_lose_no_call(gate: Gate) -> None:
    hosts = [
        GrpcHost(Listening("127.0.0.1:0", max_connection_age_s=0.5), [gate.handler()], ["test.Gate"], drain_s=0.1)
        for _ in range(2)
    ]
    for host in hosts:
        host.start()
    target = "ipv4:" + ",".join(f"127.0.0.1:{host.port}" for host in hosts)
    spread = '{"loadBalancingConfig": [{"round_robin": {}}]}'
    stopping = threading.Thread(target=hosts[0].stop)
    dial: Any = grpc.insecure_channel(target, [("grpc.service_config", spread)])
    with dial as channel:
        echo = channel.unary_unary("/test.Gate/Echo")
        while not all(host._telemetry.calls for host in hosts):
            assert echo(b"early", timeout=10) == b"early"
        stopping.start()
        while stopping.is_alive():
            assert echo(b"late", timeout=10) == b"late"
        left = hosts[1]._telemetry.calls
        assert echo(b"after", timeout=10) == b"after"
        assert hosts[1]._telemetry.calls == left + 1
    hosts[1].stop()


def test_a_listener_that_is_shut_down_refuses_connections_and_keeps_those_it_has(host: GrpcHost, channel: Any) -> None:
    echo = channel.unary_unary("/test.Gate/Echo")
    assert echo(b"before", timeout=10) == b"before"
    assert stop_listening(host.port)
    assert echo(b"after", timeout=10) == b"after"
    dial: Any = grpc.insecure_channel(f"127.0.0.1:{host.port}", [("grpc.use_local_subchannel_pool", 1)])
    with dial as late, pytest.raises(grpc.RpcError) as caught:
        late.unary_unary("/test.Gate/Echo")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not stop_listening(host.port)
