"""Releases that other servers have: another replica's OpenAI port is one, with a tiny model of language."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from headrace import open_inference as oip
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.model_pb2 import CACHE_POLICY_OFF, ClassVariants, ModelReleased, ServedVariant
from headrace.events.v1.model_pb2 import Upstream as Told
from headrace_engines import upstream_generator
from headrace_inference.core import releases
from headrace_inference.core.generation import parameters_of
from headrace_inference.core.releases import CachePolicy, Graph, Release, Upstream
from headrace_inference.core.shelf import Shelf
from headrace_inference.settings import Settings
from headrace_inference.transport.converters import to_release
from headrace_inference.transport.pieces import request_of
from headrace_inference.wiring import build_host, build_loader
from headrace_runtime.errors import Unprocessable
from headrace_runtime.object_store import ObjectStore, digest_of
from opentelemetry.context import Context as Cause
from pydantic import ValidationError

MakeRelease = Callable[..., Release]
FILE = b"GGUF of a model that is too large for this machine"
GRAPH = Graph("", digest_of(FILE), len(FILE))


@pytest.fixture(scope="module")
def source(make_replica: Callable[..., Any]) -> Iterator[tuple[Any, int]]:
    """A replica that has version 1 of `words`, and its OpenAI port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    replica = make_replica(rest_address=f"127.0.0.1:{port}")
    yield replica, port
    replica.close()


class Front:
    """A replica that loads nothing itself."""

    def __init__(self, folder: Path, make_release: MakeRelease, **chosen: Any) -> None:
        settings = Settings(
            listen_address="127.0.0.1:0",
            store_url=str(folder / "store"),
            work_dir=folder / "work",
            redis_url="",
            drain_s=0.0,
            max_connection_age_s=0.0,
            resident_versions=1,
            **chosen,
        )
        self.store = ObjectStore(settings.store_url)
        self.store.put(FILE)
        self.shelf = Shelf(1)
        self.host = build_host(settings, self.shelf, _NoLog())
        self.loader = build_loader(settings, self.shelf, self.host)
        self._make_release, self._epoch = make_release, 0
        self.host.start()
        self.loader.start()
        self.loader.all_announced()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.host.port}")

    def release(self, ordinal: int, *urls: str, model: str = "{model}@{version}", **fields: Any) -> None:
        self._epoch += 1
        upstream = Upstream(urls, model, fields.pop("key", ""))
        wanted = {"graph": GRAPH, "model": "words", "cache": CachePolicy.OFF, **fields}
        version = f"sha256:{ordinal:064d}"
        self.loader.announce(
            self._make_release(epoch=self._epoch, ordinal=ordinal, version_id=version, upstream=upstream, **wanted),
            Cause(),
        )

    @property
    def ordinal(self) -> int:
        served = self.shelf.models.get("words")
        return served.aliases["champion"].release.ordinal if served else 0

    @property
    def reason(self) -> str:
        return self.shelf.failing[0].reason if self.shelf.failing else ""

    def infer(self, prompt: str, **sampling: Any) -> str:
        method: Any = self.channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
        answer = method(request_of("words", "", prompt, parameters_of(**sampling), streamed=False), timeout=30)
        return str(oip.ModelInferResponse.FromString(answer).raw_output_contents[0][4:].decode())

    def close(self) -> None:
        self.channel.close()
        self.loader.stop()
        self.host.stop()


class _NoLog:
    def add(self, _served: Any) -> None:
        """Nothing is kept."""

    async def record(self, _served: Any) -> None:
        """Nothing is kept."""


@pytest.fixture
def front(tmp_path: Path, make_release: MakeRelease, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Front]]:
    monkeypatch.setattr(releases, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(releases, "LAST_RETRY_OF_AWAITED_S", 0.05)
    monkeypatch.setattr(upstream_generator, "LOOK_S", 0.02)
    made: list[Front] = []

    def make(**chosen: Any) -> Front:
        made.append(Front(tmp_path, make_release, **chosen))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_another_replicas_answers_are_answered(source: tuple[Any, int], front: Callable[..., Front]) -> None:
    replica, port = source
    here = front(upstream_hosts=f"127.0.0.1:{port}")
    here.release(1, f"http://127.0.0.1:{port}")
    replica.until(lambda: here.ordinal == 1)
    sampling = {"max_tokens": 12, "temperature": 0.7, "seed": 5}
    assert here.infer("the river", **sampling) == replica.infer("the river", **sampling)
    (answer,) = _stream(here, "the river", max_tokens=6)
    assert answer.raw_output_contents[0][4:].decode() == replica.infer("the river", max_tokens=6)
    prompt, written = (struct.unpack("<I", answer.raw_output_contents[place])[0] for place in (2, 3))
    assert (prompt, written) == (replica.generator.count("the river"), 6)
    with pytest.raises(grpc.RpcError, match="expected a server with vLLM's /tokenize"):
        here.infer("the river", guided_json="{}")


def _stream(here: Front, prompt: str, **sampling: Any) -> list[Any]:
    """Return the whole answers to one call on a stream."""
    method: Any = here.channel.stream_stream(
        f"/{oip.SERVICE}/ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
    )
    sent = iter([request_of("words", "", prompt, parameters_of(**sampling), streamed=False)])
    return [each.infer_response for each in method(sent, timeout=30) if each.infer_response.raw_output_contents]


def test_the_next_version_waits_for_a_server_that_has_it(source: tuple[Any, int], front: Callable[..., Front]) -> None:
    replica, port = source
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    here = front(upstream_hosts=f"127.0.0.1:{port},127.0.0.1:{other}")
    urls = [f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}/v1"]
    here.release(1, *urls)
    replica.until(lambda: here.ordinal == 1)
    here.release(2, *urls)
    replica.until(lambda: "'words@2' among its models" in here.reason and "refused" in here.reason)
    before = here.infer("the river", max_tokens=4)  # the one before answers
    with _Vllm(other) as server:
        server.models.add("words@2")
        replica.until(lambda: here.ordinal == 2)
        assert here.infer("the river", max_tokens=4) == "second" != before
        here.release(1, *urls)  # a rollback goes where the older one is
        replica.until(lambda: here.ordinal == 1)
        assert here.infer("the river", max_tokens=4) == before


def test_a_server_that_goes_away_makes_the_model_unready(front: Callable[..., Front], source: tuple[Any, int]) -> None:
    replica, _ = source
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = front(upstream_hosts=f"127.0.0.1:{port}")
    told: queue.SimpleQueue[tuple[bool | None, str]] = queue.SimpleQueue()
    here.loader._set_health = lambda serving, name: told.put((serving, name))
    with _Vllm(port) as server:
        server.models.add("words@1")
        here.release(1, f"http://127.0.0.1:{port}")
        replica.until(lambda: here.ordinal == 1)
        while told.get(timeout=20) != (True, "model/words"):
            pass
    while told.get(timeout=20) != (False, "model/words"):
        pass
    with pytest.raises(grpc.RpcError) as caught:
        here.infer("the river", max_tokens=4)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with _Vllm(port) as server:
        server.models.add("words@1")
        while told.get(timeout=20) != (True, "model/words"):
            pass
        assert here.infer("the river", max_tokens=4) == "second"


def test_an_answer_that_breaks_off_is_an_error(source: tuple[Any, int], front: Callable[..., Front]) -> None:
    replica, port = source
    here = front(upstream_hosts=f"127.0.0.1:{port}")
    here.release(1, f"http://127.0.0.1:{port}")
    replica.until(lambda: here.ordinal == 1)
    method: Any = here.channel.stream_stream(
        f"/{oip.SERVICE}/ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
    )
    asked = request_of("words", "", "the river", parameters_of(max_tokens=1000), streamed=True)
    answers = method(iter([asked]), timeout=60)
    assert next(answers).infer_response.raw_output_contents
    os.kill(replica.generator.pid, signal.SIGKILL)  # as for want of memory
    *_, last = answers
    assert last.error_message
    assert "the answer ended with an error" in last.error_message


def test_an_adapter_is_loaded_and_unloaded(front: Callable[..., Front], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "vllm").write_text("secret\n")
    adapters = tmp_path / "adapters"
    hosts = f"127.0.0.1:{port}"
    here = front(upstream_hosts=hosts, upstream_keys_dir=keys, upstream_adapters_dir=adapters)
    url = f"http://{hosts}"

    def release(ordinal: int) -> None:
        kept = here.store.put(_adapter(ordinal))
        graph = Graph(kept.uri, kept.digest, kept.size_bytes, beside_bytes=10**12)
        here.release(ordinal, url, model="{model}-v{version}", key="vllm", graph=graph, variant="lora-adapter")

    with _Vllm(port, key="secret") as server:
        until = _until(server)
        release(1)
        until(lambda: here.ordinal == 1)
        assert server.models == {"base", "words-v1"}
        folder = Path(server.loaded["words-v1"])
        assert json.loads((folder / "adapter_config.json").read_text()) == {"r": 1, "peft_type": "LORA"}
        assert (folder / "adapter_model.safetensors").read_bytes() == _adapter(1)
        release(2)
        until(lambda: here.ordinal == 2)
        until(lambda: server.models == {"base", "words-v2"})
        server.models.discard("words-v2")  # as by its start
        until(lambda: "words-v2" in server.models)
        assert here.infer("the river", max_tokens=4) == "second"
        server.takes_adapters = False
        release(3)
        until(lambda: "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in here.reason)
        assert here.ordinal == 2


def _adapter(seed: int) -> bytes:
    told = json.dumps({"base": digest_of(b"base"), "baseBytes": 4, "config": {"r": 1, "peft_type": "LORA"}})
    plain = {"__metadata__": {"headrace.adapter": told}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = json.dumps(plain).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", seed)


def _until(server: _Vllm) -> Callable[[Callable[[], bool]], None]:
    def until(condition: Callable[[], bool]) -> None:
        for _ in range(2000):
            if condition():
                return
            server.pause.wait(0.01)
        raise AssertionError

    return until


@pytest.mark.parametrize(
    ("chosen", "fields", "expected"),
    [
        ({}, {}, r"expected a host of HEADRACE_UPSTREAM_HOSTS \(none\), got elsewhere:8000"),
        ({"upstream_hosts": "there:8000"}, {}, r"\(there:8000\), got elsewhere:8000"),
        ({"upstream_hosts": "elsewhere:8000"}, {"key": "vllm"}, "expected a file vllm in HEADRACE_UPSTREAM_KEYS_DIR"),
    ],
)
def test_what_the_operator_does_not_allow_is_not_asked(
    front: Callable[..., Front], chosen: Any, fields: Any, expected: str
) -> None:
    here = front(**chosen)
    here.release(1, "http://elsewhere:8000", **fields)
    with here.loader._changed:
        assert here.loader._changed.wait_for(lambda: here.reason != "", 20)
    assert re.search(expected, here.reason)
    assert here.loader.wait_ready(20)  # others are served all the same


def test_hosts_are_addresses() -> None:
    with pytest.raises(ValidationError, match="expected host:port"):
        Settings(upstream_hosts="vllm:8000, other")


def test_an_event_says_where_a_model_is_whatever_the_processor() -> None:
    graph = Artifact(uri="", digest=GRAPH.digest, size_bytes=5)
    message = ModelReleased(
        model="words",
        alias="champion",
        epoch=1,
        version_id=GRAPH.digest,
        ordinal=2,
        variant="gguf-q4",
        graph=graph,
        cache=CACHE_POLICY_OFF,
        classes=[ClassVariants(cpu_class="avx512", variants=[ServedVariant(variant="fp32", graph=graph)])],
        upstream=Told(urls=["http://vllm:8000"], model="{model}-v{version}", key="vllm"),
    )
    release = to_release(message, "avx2")
    assert (release.variant, release.upstream) == (
        "gguf-q4",
        Upstream(("http://vllm:8000",), "{model}-v{version}", "vllm"),
    )
    assert not release.withholds
    message.withholds = message.records = True
    told = to_release(message, "avx2")
    assert told.withholds
    assert told.records
    message.upstream.ClearField("urls")
    with pytest.raises(Unprocessable, match="expected servers"):
        to_release(message, "avx2")


class _Vllm:
    """The paths of vLLM by which a server is found and adapters are loaded, on a real port; answers `second`."""

    def __init__(self, port: int, key: str = "") -> None:
        self.models, self.loaded = {"base"}, dict[str, str]()
        self.takes_adapters = True
        self.pause = threading.Event()
        vllm = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                listed = {"data": [{"id": each} for each in sorted(vllm.models)]}
                self._tell({"/v1/models": listed, "/health": {}}.get(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._tell(getattr(self, self.path.rsplit("/", 1)[-1], lambda _: None)(body))

            def load_lora_adapter(self, body: dict[str, Any]) -> Any:
                if not vllm.takes_adapters:
                    return None
                vllm.models.add(body["lora_name"])
                vllm.loaded[body["lora_name"]] = body["lora_path"]
                return {}

            def unload_lora_adapter(self, body: dict[str, Any]) -> Any:
                vllm.models.discard(body["lora_name"])
                return {}

            def tokenize(self, body: dict[str, Any]) -> Any:
                return {"tokens": [5] * len(body["prompt"].split()), "max_model_len": 64}

            def completions(self, _body: dict[str, Any]) -> Any:
                choice = {"index": 0, "text": "second", "token_ids": [5], "finish_reason": "length"}
                return f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"

            def _tell(self, told: Any) -> None:
                allowed = not key or self.headers["Authorization"] == f"Bearer {key}"
                self.send_response(401 if not allowed else 404 if told is None else 200)
                self.end_headers()
                self.wfile.write((told if isinstance(told, str) else json.dumps(told)).encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> _Vllm:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
