"""A replica of inference in a process of its own, its releases over Kafka, and callers that never pause."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import psutil  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace import open_inference as oip
from headrace.events.v1.model_pb2 import CACHE_POLICY_OFF, CachePolicy, ModelReleased, Upstream
from headrace_engines import beside
from headrace_engines.beside import Graph
from headrace_inference.core.generation import parameters_of
from headrace_inference.transport.pieces import request_of
from headrace_local.ports import find_free
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

SERVING = health_pb2.HealthCheckResponse.SERVING
PROMPT = "the river turns the wheel and"


class Releases:
    """Versions of a model, by their ordinals from 1, released one after the other."""

    def __init__(
        self, broker: Platform, store: str, graphs: Sequence[Graph], cache: CachePolicy.ValueType = CACHE_POLICY_OFF
    ) -> None:
        self._cache = cache
        self.model = f"words-{uuid.uuid4()}"
        self.epoch = 0
        self.upstream: Upstream | None = None
        kept = ObjectStore(store)
        self._graphs = [(beside.put(graph, kept), beside.beside_bytes(graph)) for graph in graphs]
        self._producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)

    def release(self, ordinal: int) -> None:
        """Release a version."""
        self.epoch += 1
        event = ModelReleased(
            model=self.model,
            alias="champion",
            epoch=self.epoch,
            version_id=f"sha256:{ordinal:064d}",
            ordinal=ordinal,
            variant="q8",
            pipeline="words",
            dataset_id="dataset",
            run_id=str(self.epoch),
            cache=self._cache,
            upstream=self.upstream,
        )
        graph, event.graph.beside_bytes = self._graphs[ordinal - 1]
        event.graph.uri, event.graph.digest, event.graph.size_bytes = graph.uri, graph.digest, graph.size_bytes
        sent = encode(event, source="test")
        self._producer.send(sent.topic, sent.value, sent.key, headers=list(sent.headers)).get(timeout=30)

    def close(self) -> None:
        self._producer.close()


class Replica:
    """An inference process on a port that stays the same when it starts again."""

    def __init__(self, broker: Platform, folder: Path, **settings: Any) -> None:
        self.port, metrics = find_free(2)
        self._log = folder / "replica.log"
        chosen = {
            "kafka_bootstrap_servers": broker.bootstrap_servers,
            "redis_url": "",
            "store_url": folder / "store",
            "work_dir": folder / "work",
            "listen_address": f"127.0.0.1:{self.port}",
            "metrics_address": f"127.0.0.1:{metrics}",
            "max_connection_age_s": 0,
            **settings,
        }
        self._environment = os.environ | {f"HEADRACE_{key.upper()}": str(value) for key, value in chosen.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Replica:
        self.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self.kill()

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "headrace_inference"]
            self.process = subprocess.Popen(command, env=self._environment, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def engines(self) -> list[Any]:
        """The processes of its engines."""
        assert self.process is not None
        return [each for each in psutil.Process(self.process.pid).children() if is_engine(each)]

    def wait_serving(self, model: str) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.max_reconnect_backoff_ms", 200)]) as channel:
            asked = health_pb2.HealthCheckRequest(service=f"model/{model}")
            watch = health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=120, wait_for_ready=True)
            assert any(answer.status == SERVING for answer in watch), self._log.read_text()
            watch.cancel()


def is_engine(process: Any) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "openvino_child" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@dataclass
class Streamed:
    """One streamed answer; times are seconds of `time.perf_counter`."""

    began_s: float
    texts: list[str] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    ordinals: set[int] = field(default_factory=set)
    is_whole: bool = False
    error: str = ""

    @property
    def text(self) -> str:
        return "".join(self.texts)


def stream(
    channel: grpc.Channel,
    model: str,
    prompt: str = PROMPT,
    *,
    take: Callable[[Streamed], object] = lambda _: None,
    **sampling: Any,
) -> Streamed:
    """Return a streamed answer, whole or with the error that it ended with; `take` is called after each piece."""
    method: Any = channel.stream_stream(
        f"/{oip.SERVICE}/ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
    )
    sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    sent.put(request_of(model, "", prompt, parameters_of(**sampling), streamed=True))
    found = Streamed(time.perf_counter())
    try:
        for told in method(iter(sent.get, None), timeout=120):
            if told.error_message:
                found.error = told.error_message
                break
            response = told.infer_response
            found.times_s.append(time.perf_counter())
            found.texts.append(response.raw_output_contents[0][4:].decode())
            found.ordinals.add(int(response.model_version))
            take(found)
            if response.parameters["triton_final_response"].bool_param:
                found.is_whole = True
                break
    except grpc.RpcError as error:
        found.error = f"{error.code().name}: {error.details()}"
    finally:
        sent.put(None)
    return found


@contextmanager
def callers(number: int, call: Callable[[], Streamed]) -> Iterator[list[Streamed]]:
    """Call without a pause, so many at once, until the context is left. Gives the list that the answers go to."""
    stopping, found = threading.Event(), list[Streamed]()

    def run() -> None:
        while not stopping.is_set():
            found.append(call())

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def until(condition: Callable[[], bool], within_s: float = 120.0) -> None:
    """Wait until a condition holds."""
    ends_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def kill(process: Any) -> None:
    """End a process as a machine does that has no memory left."""
    os.kill(process.pid, signal.SIGKILL)
