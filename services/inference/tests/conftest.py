from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.language import Language
from headrace_inference.core.generation import parameters_of
from headrace_inference.core.releases import CachePolicy, Graph, Release
from headrace_inference.core.served import Served
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.core.specs import Specs
from headrace_inference.settings import Settings
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.pieces import request_of
from headrace_inference.wiring import build_host, build_loader
from headrace_runtime.object_store import ObjectStore, digest_of
from onnx import TensorProto, checker, helper, numpy_helper
from opentelemetry.context import Context as Cause

MakeGraph = Callable[..., bytes]
MakeRelease = Callable[..., Release]


@pytest.fixture(scope="session")
def make_graph() -> MakeGraph:
    """Makes ONNX graphs: pixels [batch, 8, 8] in; probabilities [batch, 10] and label [batch] out."""
    return digits_graph


@pytest.fixture(scope="session")
def graph() -> bytes:
    return digits_graph()


@pytest.fixture(scope="session")
def make_release(graph: bytes) -> MakeRelease:
    """Makes releases of the graph `graph`; every field can be given."""
    release = Release(
        model="digits",
        alias="champion",
        epoch=1,
        version_id="sha256:" + "ab" * 32,
        ordinal=1,
        variant="fp32",
        graph=Graph("memory://graph", digest_of(graph), len(graph)),
        dataset_id="sha256:" + "da" * 32,
        run_id="run-1",
        cache=CachePolicy.OFF,
    )

    def make(**fields: Any) -> Release:
        return replace(release, **fields)

    return make


@pytest.fixture
def counting_loop() -> Any:
    """A node that counts to `times`, from `start`, and calls the result `counted`."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["again"]), helper.make_node("Add", ["sum", "one"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    return helper.make_node("Loop", ["times", "", "start"], ["counted"], body=body)


def digits_graph(seed: int = 0, *, classes: list[str] | None = None, work: int = 0) -> bytes:
    """Return a linear model of random weights; `work` more layers of 2048 make it slow."""
    rng = np.random.default_rng(seed)
    label = TensorProto.STRING if classes else TensorProto.INT64
    names = (
        helper.make_tensor("classes", label, [10], [name.encode() for name in classes])  # type: ignore[misc]
        if classes
        else numpy_helper.from_array(np.arange(10), "classes")
    )
    initializers = [names, numpy_helper.from_array(np.array([-1, 64]), "flat")]
    nodes = [helper.make_node("Reshape", ["pixels", "flat"], ["x"])]
    last = "x"
    sizes = [64, *([2048] * work), 10]
    for place, (size_in, size_out) in enumerate(pairwise(sizes)):
        weights = rng.normal(0, 0.05, (size_in, size_out)).astype(np.float32)
        initializers.append(numpy_helper.from_array(weights, f"weights{place}"))
        nodes.append(helper.make_node("MatMul", [last, f"weights{place}"], [f"x{place}"]))
        last = f"x{place}"
    nodes += [
        helper.make_node("Softmax", [last], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["place"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "place"], ["label"], axis=0),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "digits",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 8, 8])],
            [
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
                helper.make_tensor_value_info("label", label, ["batch"]),
            ],
            initializers,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())


class _Log:
    def __init__(self) -> None:
        self.seen: list[Served] = []

    async def record(self, served: Served) -> None:
        self.add(served)

    def add(self, served: Served) -> None:
        self.seen.append(served)


class RestServer:
    """Inference with one model, at two ports."""

    def __init__(self, graph: bytes, folder: Path, make_release: Callable[..., Release], **chosen: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = Settings(
            listen_address="127.0.0.1:0",
            rest_address=f"127.0.0.1:{self.port}",
            redis_url="",
            work_dir=folder,
            max_message_bytes=100_000,
            drain_s=0.0,
            max_connection_age_s=0.0,
            **chosen,
        )
        self.shelf, self.log, self.specs = Shelf(), _Log(), Specs()
        self._model, self._make_release = EngineModel(graph, max_rows=64), make_release
        self.release()
        self.shelf.announce(["digits"], complete=True)
        self.shelf.ready = True
        self.host = build_host(settings, self.shelf, self.log, specs=self.specs)
        self.host.start()

    def release(self, model: Any = None, speed: Speed | None = None, **fields: Any) -> None:
        release = self._make_release(**fields)
        speed = speed or Speed(0.0, 0.0)
        self.shelf.put(LoadedVersion(release, model or self._model, speed, answer_prefix(release)))

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """Return status, headers and what the body says, JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, sent, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        told = json.loads(content) if "json" in (answer.headers["content-type"] or "") else content
        return answer.status, answer.headers, told

    def infer(self, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
        return self.ask("POST", "/v2/models/digits/infer", body, headers)

    def over_grpc(self, request: Any) -> Any:
        with grpc.insecure_channel(f"127.0.0.1:{self.host.port}") as channel:
            call: Any = channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
            return oip.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=20))

    def raw(self, sent: bytes) -> bytes:
        """Send bytes, and return all that comes until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="session")
def rest_server(graph: bytes, make_release: MakeRelease) -> Callable[..., RestServer]:
    """Starts inference with one model, at a gRPC and a REST port; folder and further settings are given."""
    return lambda folder, **chosen: RestServer(graph, folder, make_release, **chosen)


class Replica:
    """Inference with the model `words`."""

    def __init__(self, folder: Path, write: Callable[..., bytes], make_release: MakeRelease, **chosen: Any) -> None:
        settings = Settings(
            listen_address="127.0.0.1:0",
            store_url=str(folder / "store"),
            work_dir=folder / "work",
            redis_url="",
            drain_s=0.0,
            max_connection_age_s=0.0,
            answer_threads=1,
            resident_versions=1,
            keys_and_values_bytes=16 * 1024 * 1024,
            **chosen,
        )
        self.shelf, self.log = Shelf(settings.resident_versions), _Log()
        self.host = build_host(settings, self.shelf, self.log)
        self.loader = build_loader(settings, self.shelf, self.host)
        self._store, self._write, self._make_release = ObjectStore(settings.store_url), write, make_release
        self.epoch = 0
        self.host.start()
        self.loader.start()
        self.release(0)
        self.loader.all_announced()
        assert self.loader.wait_ready(60)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.host.port}")

    def release(self, seed: int) -> None:
        """Release a version of other weights, and return when it is served."""
        self.epoch += 1
        kept = self._store.put(self._write(seed=seed, **{"llama.context_length": 2048}))
        graph = Graph(kept.uri, kept.digest, kept.size_bytes)
        ordinal, version = seed + 1, f"sha256:{seed + 1:064d}"
        release = self._make_release(
            model="words", epoch=self.epoch, graph=graph, ordinal=ordinal, version_id=version, cache=CachePolicy.OFF
        )
        self.loader.announce(release, Cause())
        self.until(lambda: self.loaded.release.epoch == self.epoch if self.shelf.models else False)

    @property
    def loaded(self) -> LoadedVersion:
        return self.shelf.resolve("words", "")

    @property
    def generator(self) -> Any:
        assert isinstance(self.loaded.language, Language)
        return self.loaded.language.generator

    def infer(self, prompt: str, **sampling: Any) -> str:
        method: Any = self.channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
        answer = method(request_of("words", "", prompt, parameters_of(**sampling), streamed=False), timeout=30)
        return str(oip.ModelInferResponse.FromString(answer).raw_output_contents[0][4:].decode())

    def stream(self, *requests: bytes, timeout: float = 60) -> Any:
        """Return an iteration over the answers to requests on one stream."""
        method: Any = self.channel.stream_stream(
            f"/{oip.SERVICE}/ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
        )
        sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for each in requests:
            sent.put(each)
        call = method(iter(sent.get, None), timeout=timeout)
        call.add_callback(lambda: sent.put(None))
        return call

    def close(self) -> None:
        self.channel.close()
        self.loader.stop()
        self.host.stop()

    @staticmethod
    def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait until a condition holds."""
        waiting, ends = threading.Event(), within_s / 0.01
        while not condition():
            ends -= 1
            assert ends > 0
            waiting.wait(0.01)


@pytest.fixture(scope="session")
def make_replica(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Callable[..., bytes], make_release: MakeRelease
) -> Callable[..., Replica]:
    """Starts inference with a tiny model of language; settings are given."""
    return lambda **chosen: Replica(tmp_path_factory.mktemp("words"), tiny_gguf, make_release, **chosen)


@pytest.fixture(scope="module")
def replica(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Callable[..., bytes], make_release: MakeRelease
) -> Iterator[Replica]:
    """Inference with a tiny model of language."""
    replica = Replica(tmp_path_factory.mktemp("words"), tiny_gguf, make_release)
    yield replica
    replica.close()
