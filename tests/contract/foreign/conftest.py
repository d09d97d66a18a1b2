"""Inference as foreign clients meet it, and the environment that they live in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from headrace_data.spec import load_pipeline
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.shelf import Shelf
from headrace_inference.core.specs import Spec, Specs
from headrace_inference.settings import Settings
from headrace_inference.wiring import build_host, build_loader
from headrace_local.ports import find_free
from headrace_runtime.object_store import ObjectStore
from onnx import TensorProto, helper
from opentelemetry.context import Context

ROOT = Path(__file__).parents[3]
FOREIGN = ROOT / "tests" / "foreign"
ENVIRONMENT = ROOT / ".tools" / "foreign"

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


def graph(
    nodes: list[Any],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: tuple[Any, ...] = (),
    properties: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Return an ONNX model; tensors are given as (type, shape)."""
    given, made = (
        [helper.make_tensor_value_info(name, *spec) for name, spec in specs.items()] for specs in (inputs, outputs)
    )
    built = helper.make_graph(nodes, "test", given, made, list(constants))
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, dict(properties))
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
    labels = {"headrace.labels": json.dumps({"probabilities": [f"digit {number}" for number in range(10)]})}
    return graph(nodes, {"pixels": (TensorProto.FLOAT, ["batch", 8, 8])}, outputs, constants, labels)


def echo(types: Mapping[str, int]) -> bytes:
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

    def __init__(self, folder: Path, **chosen: Any) -> None:
        self.rest_address = f"127.0.0.1:{find_free(1)[0]}"
        settings = Settings(
            listen_address="127.0.0.1:0",
            rest_address=self.rest_address,
            store_url=str(folder / "store"),
            work_dir=folder / "work",
            redis_url="",
            max_rows=64,
            max_message_bytes=2_000_000,
            drain_s=0.0,
            **chosen,
        )
        self._store = ObjectStore(settings.store_url)
        self._shelf = Shelf()
        specs = Specs()
        pipeline = load_pipeline((ROOT / "examples" / "digits" / "pipeline.yaml").read_text())
        specs.put("digits", Spec(pipeline.digest, pipeline.canonical_json()))
        self.host = build_host(settings, self._shelf, NoLog(), specs=specs)
        self.loader = build_loader(settings, self._shelf, self.host)
        self.host.start()
        self.loader.start()
        self.address = f"127.0.0.1:{self.host.port}"

    def release(self, model: str, content: bytes, ordinal: int = 1, alias: str = "champion") -> None:
        stored = self._store.put(content)
        kept = Graph(stored.uri, stored.digest, stored.size_bytes)
        version_id = "sha256:" + f"{0xAB + 0x22 * (ordinal - 1):x}" * 32
        released = Release(
            model,
            alias,
            1,
            version_id,
            ordinal,
            "fp32",
            kept,
            "sha256:da",
            f"run-{ordinal}",
            CachePolicy.OFF,
            pipeline="digits",
        )
        self.loader.announce(released, Context())

    def wait_for(self, model: str) -> None:
        """Wait until a model is served."""
        for _ in range(600):
            if model in self._shelf.models:
                return
            time.sleep(0.1)
        raise AssertionError(self._shelf.failing)

    halves = staticmethod(halves)

    def stop(self) -> None:
        self.loader.stop()
        self.host.stop()


@pytest.fixture(scope="session")
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


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server of one test's own, with these settings and the model digits."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Server:
            server = Server(tmp_path, **settings)
            stack.callback(server.stop)
            server.release("digits", digits(1.0))
            server.loader.all_announced()
            assert server.loader.wait_ready(60)
            return server

        yield start


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
        python = str(Path(sys.executable).resolve())
        command = [
            setup.find_uv(),
            "sync",
            "--locked",
            "--quiet",
            "--python",
            python,
            "--project",
            str(FOREIGN),
            *wanted,
        ]
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


@pytest.fixture(scope="session")
def foreign_folder() -> Path:
    """The folder of that environment."""
    return ENVIRONMENT
