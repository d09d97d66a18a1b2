"""Clients of Triton, unmodified and in an environment of their own, call inference as they call Triton."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.shelf import Shelf
from headrace_inference.settings import Settings
from headrace_inference.transport.predictor import NoEvents
from headrace_inference.wiring import build_host, build_loader
from headrace_runtime.object_store import ObjectStore
from onnx import TensorProto, helper
from opentelemetry.context import Context

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
FOREIGN = ROOT / "tests" / "foreign"
ENVIRONMENT = ROOT / ".tools" / "foreign"
HEALTH = health_pb2.HealthCheckResponse

TYPES = {
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "float16": TensorProto.FLOAT16,
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "string": TensorProto.STRING,
}


def graph(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], constants: tuple[Any, ...] = ()) -> bytes:
    """Return an ONNX model; tensors are given as (type, shape)."""
    given, made = (
        [helper.make_tensor_value_info(name, *spec) for name, spec in specs.items()] for specs in (inputs, outputs)
    )
    built = helper.make_graph(nodes, "test", given, made, list(constants))
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def digits(scale: float) -> bytes:
    """Return a graph from pixels [rows, 8, 8] to the softmax of the first ten, scaled, and the place of the largest."""
    constants = (
        helper.make_tensor("flat", TensorProto.INT64, [2], [-1, 64]),
        helper.make_tensor("start", TensorProto.INT64, [1], [0]),
        helper.make_tensor("end", TensorProto.INT64, [1], [10]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
    )
    nodes = [
        helper.make_node("Reshape", ["pixels", "flat"], ["row"]),
        helper.make_node("Slice", ["row", "start", "end", "axis"], ["ten"]),
        helper.make_node("Mul", ["ten", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    outputs = {
        "probabilities": (TensorProto.FLOAT, ["batch", 10]),
        "label": (TensorProto.INT64, ["batch"]),
    }
    return graph(nodes, {"pixels": (TensorProto.FLOAT, ["batch", 8, 8])}, outputs, constants)


def echo(types: dict[str, int]) -> bytes:
    """Return a graph that gives back a tensor of each type."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in types]
    inputs = {name: (code, ["batch", 1]) for name, code in types.items()}
    return graph(nodes, inputs, {f"{name}_out": spec for name, spec in inputs.items()})


def halves() -> bytes:
    """Return a graph that turns floats into half floats."""
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)
    return graph([cast], {"x": (TensorProto.FLOAT, ["n", 1])}, {"y": (TensorProto.FLOAT16, ["n", 1])})


class Server:
    """Inference as it is built, without Kafka: releases are handed to its loader."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(
            listen_address="127.0.0.1:0",
            store_url=str(folder / "store"),
            work_dir=folder / "work",
            redis_url="",
            max_rows=64,
            max_message_bytes=2_000_000,
            drain_s=0.0,
        )
        self._store = ObjectStore(settings.store_url)
        shelf = Shelf()
        self.host = build_host(settings, shelf, NoEvents())
        self.loader = build_loader(settings, shelf, self.host)
        self.host.start()
        self.loader.start()
        self.address = f"127.0.0.1:{self.host.port}"

    def release(self, model: str, content: bytes, ordinal: int = 1, alias: str = "champion") -> None:
        stored = self._store.put(content)
        kept = Graph(stored.uri, stored.digest, stored.size_bytes)
        version_id = "sha256:" + f"{0xAB + 0x22 * (ordinal - 1):x}" * 32
        released = Release(
            model, alias, 1, version_id, ordinal, "fp32", kept, "sha256:da", f"run-{ordinal}", CachePolicy.OFF
        )
        self.loader.announce(released, Context())

    def stop(self) -> None:
        self.loader.stop()
        self.host.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("inference"))
    server.release("digits", digits(1.0))
    server.release("digits", digits(0.5), 2, "candidate")
    server.release("types", echo(TYPES))
    server.release("typed", echo({name: code for name, code in TYPES.items() if name != "float16"}))
    server.release("halves", halves())
    server.loader.all_announced()
    assert server.loader.wait_ready(60)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def sync_foreign() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Bring the foreign environment to its lock, with the groups named."""
    location = spec_from_file_location("setup", ROOT / "scripts" / "setup.py")
    assert location is not None
    assert location.loader is not None
    setup = module_from_spec(location)
    location.loader.exec_module(setup)

    def sync(*groups: str) -> subprocess.CompletedProcess[str]:
        wanted = [argument for group in groups for argument in ("--group", group)]
        command = [setup.find_uv(), "sync", "--locked", "--quiet", "--project", str(FOREIGN), *wanted]
        environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        environment["UV_PROJECT_ENVIRONMENT"] = str(ENVIRONMENT)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)

    return sync


@pytest.fixture(scope="session")
def foreign_python(sync_foreign: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    """The Python of an environment that holds Triton's clients and nothing of Headrace."""
    done = sync_foreign()
    assert done.returncode == 0, done.stderr
    return str(ENVIRONMENT / "bin" / "python")


@pytest.fixture(scope="module")
def results(server: Server, foreign_python: str) -> Callable[[str], dict[str, str | None]]:
    """Run a foreign program once against the server; return what came of its checks."""
    known: dict[str, dict[str, str | None]] = {}

    def run(program: str) -> dict[str, str | None]:
        if program not in known:
            command = [foreign_python, str(FOREIGN / program), server.address]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
            known[program] = json.loads(done.stdout.splitlines()[-1])
        return known[program]

    return run


def checks() -> list[Any]:
    """Return program and name of every check."""
    found = [
        (program, name)
        for program in ("triton_unary.py", "triton_aio.py", "perf_sequence.py")
        for name in re.findall(r"^(?:async )?def (check_\w+)", (FOREIGN / program).read_text(), re.MULTILINE)
    ]
    return [pytest.param(*each, id=f"{each[0].removesuffix('.py')}-{each[1].removeprefix('check_')}") for each in found]


@pytest.mark.parametrize(("program", "name"), checks())
def test_a_client_of_triton(results: Callable[[str], dict[str, str | None]], program: str, name: str) -> None:
    problem = results(program)[name]
    assert problem is None, problem


def test_perf_analyzer_itself(
    server: Server, sync_foreign: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    program = shutil.which("perf_analyzer")
    if program is None:
        done = sync_foreign("perf-analyzer")
        if done.returncode:
            pytest.skip(f"perf_analyzer cannot be installed here: {done.stderr.strip().splitlines()[0]}")
        program = str(ENVIRONMENT / "bin" / "perf_analyzer")
    report = tmp_path / "report.csv"
    command = [program, "-m", "digits", "-x", "1", "-u", server.address, "-i", "grpc", "-b", "8", "-f", str(report)]
    command += ["--concurrency-range", "2", "--measurement-mode", "count_windows", "--measurement-request-count", "50"]
    command += ["--stability-percentage", "999"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (columns, values) = report.read_text().splitlines()[:2]
    row = dict(zip(columns.split(","), values.split(","), strict=True))
    assert float(row["Inferences/Second"]) > 0
    assert float(row["Server Compute Infer"]) > 0


def test_health_knows_the_server_its_service_and_its_models(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService", "model/digits", "model/types"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == HEALTH.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="model/late"), timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="model/late"), timeout=60)
        statuses = (answer.status for answer in watch)
        assert next(statuses) == HEALTH.SERVICE_UNKNOWN
        server.release("late", halves())
        assert HEALTH.SERVING in statuses
        server.loader.withdraw(("late", "champion"))
        assert next(statuses) == HEALTH.SERVICE_UNKNOWN
        watch.cancel()
