"""Versions change and replicas restart under clients that call without a pause, and no call fails."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace import open_inference as oip
from headrace.events.v1.model_pb2 import CACHE_POLICY_REDIS, ModelReleased
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.object_store import Artifact, ObjectStore
from kafka import KafkaProducer
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

SWAPS, WARM_UP = 100, 20
ROWS = [np.linspace(0, top, 64, dtype=np.float32).reshape(1, 8, 8) for top in range(16)]
SERVING = health_pb2.HealthCheckResponse.SERVING
INFER = f"/{oip.SERVICE}/ModelInfer"


@dataclass(frozen=True)
class Answer:
    """What a call was answered, as far as it matters here."""

    ordinal: int
    epoch: int
    offset: float
    """What the graph added to the mean of the row: version N adds N."""


class Releases:
    """Two versions of a model, released one after the other; the run id of a release tells its epoch."""

    def __init__(self, broker: Platform, store: str) -> None:
        self.model = f"digits-{uuid.uuid4()}"
        self.epoch = 0
        kept = ObjectStore(store)
        self._graphs = {ordinal: kept.put(brightness(float(ordinal))) for ordinal in (1, 2)}
        self._producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)

    def release(self, ordinal: int) -> float:
        """Release a version; return the seconds since an arbitrary point at which it was handed to Kafka."""
        self.epoch += 1
        outgoing = encode(self._event(ordinal, self._graphs[ordinal]), source="test")
        handed_s = time.perf_counter()
        sent = self._producer.send(outgoing.topic, outgoing.value, outgoing.key, headers=list(outgoing.headers))
        sent.get(timeout=30)
        return handed_s

    def close(self) -> None:
        self._producer.close()

    def _event(self, ordinal: int, graph: Artifact) -> ModelReleased:
        event = ModelReleased(
            model=self.model,
            alias="champion",
            epoch=self.epoch,
            version_id=f"sha256:{ordinal:064d}",
            ordinal=ordinal,
            variant="fp32",
            pipeline="digits",
            dataset_id="dataset",
            run_id=str(self.epoch),
            cache=CACHE_POLICY_REDIS,
        )
        event.graph.uri, event.graph.digest, event.graph.size_bytes = graph.uri, graph.digest, graph.size_bytes
        return event


def brightness(offset: float) -> bytes:
    """Return a graph that answers with the mean of the pixels plus an offset."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "offset"], ["probabilities"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch"])],
        [axes, helper.make_tensor("offset", TensorProto.FLOAT, [], [offset])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(made.SerializeToString())


class Replica:
    """An inference process of its own on a port that stays the same when it starts again."""

    def __init__(self, broker: Platform, folder: Path, name: str, ports: tuple[int, int], **settings: Any) -> None:
        self.port, self._metrics_port = ports
        self._log = folder / f"{name}.log"
        chosen = {
            "instance": name,
            "kafka_bootstrap_servers": broker.bootstrap_servers,
            "redis_url": broker.redis_url,
            "redis_timeout_ms": 5000,
            "store_url": folder / "store",
            "work_dir": folder / name,
            "listen_address": f"127.0.0.1:{self.port}",
            "metrics_address": f"127.0.0.1:{self._metrics_port}",
            # A client that never makes a call a second time may lose one when it is asked to connect anew.
            "max_connection_age_s": 0,
            **settings,
        }
        self._environment = os.environ | {f"HEADRACE_{key.upper()}": str(value) for key, value in chosen.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Replica:
        self.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "headrace_inference"], env=self._environment, stderr=log
            )

    def wait_serving(self, model: str) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.max_reconnect_backoff_ms", 200)]) as channel:
            asked = health_pb2.HealthCheckRequest(service=f"model/{model}")
            watch = health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=120, wait_for_ready=True)
            assert any(answer.status == SERVING for answer in watch), self._log.read_text()
            watch.cancel()

    def terminate(self) -> None:
        """Send SIGTERM and wait for a clean end, of every thread."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, self._log.read_text()
        assert "did not stop" not in self._log.read_text()

    @property
    def resident_bytes(self) -> int:
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    @property
    def answered(self) -> float:
        """Calls that this process has answered."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        counted = (line for line in lines if line.startswith("headrace_inference_requests_total"))
        return sum(float(line.rpartition(" ")[2]) for line in counted if 'outcome="ok"' in line)


def free_ports(replicas: int = 1) -> list[tuple[int, int]]:
    """Return ports for some replicas, each for gRPC and metrics."""
    from headrace_local.ports import find_free

    found = iter(find_free(2 * replicas))
    return [(next(found), next(found)) for _ in range(replicas)]


@pytest.fixture
def releases(broker: Platform, tmp_path: Path) -> Iterator[Releases]:
    releases = Releases(broker, str(tmp_path / "store"))
    releases.release(1)
    yield releases
    releases.close()


def open_channel(target: str, *options: tuple[str, Any]) -> grpc.Channel:
    """Return a channel that never makes a call a second time."""
    return grpc.insecure_channel(target, [("grpc.enable_retries", 0), *options])


def caller(channel: grpc.Channel, model: str, version: str = "") -> Callable[[], Answer]:
    """Return a function that makes one call, each time with another row."""
    requests = [(request_of(model, row, version), float(row.mean())) for row in ROWS]
    method: Any = channel.unary_unary(INFER, response_deserializer=oip.ModelInferResponse.FromString)
    made = 0

    def call() -> Answer:
        nonlocal made
        made += 1
        request, mean = requests[made % len(requests)]
        answer = method(request, timeout=30)
        value = float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])
        return Answer(int(answer.model_version), int(answer.parameters["run_id"].string_param), value - mean)

    return call


def request_of(model: str, row: Any, version: str) -> bytes:
    request = oip.ModelInferRequest(model_name=model, model_version=version)
    request.inputs.add(name="pixels", datatype="FP32", shape=row.shape)
    request.raw_input_contents.append(row.tobytes())
    return bytes(request.SerializeToString())


def p99_ms(calls: Sequence[Any]) -> float:
    return statistics.quantiles([call.ended_s - call.started_s for call in calls], n=100)[-1] * 1e3


@pytest.mark.parametrize("resident", [2, 1], ids=["kept in memory", "loaded each time"])
def test_a_hundred_swaps_under_load(
    broker: Platform, tmp_path: Path, releases: Releases, closed_loop: Any, resident: int
) -> None:
    with Replica(broker, tmp_path, "0", free_ports()[0], resident_versions=resident) as replica, ExitStack() as stack:
        replica.wait_serving(releases.model)
        channel = stack.enter_context(open_channel(f"127.0.0.1:{replica.port}"))
        load = closed_loop(stack, lambda: caller(channel, releases.model))
        handed_s: dict[int, float] = {}

        def swap(times: int) -> None:
            for _ in range(times):
                handed = releases.release(1 + releases.epoch % 2)
                handed_s[releases.epoch] = handed
                load.wait(lambda answer: answer.epoch == releases.epoch)

        swap(WARM_UP)
        began = time.perf_counter()
        load.wait_calls(2000)
        resident_bytes = replica.resident_bytes
        changed = time.perf_counter()
        swap(SWAPS)
        ended = time.perf_counter()
        growth = replica.resident_bytes / resident_bytes - 1
    calls = load.calls()
    assert load.failed() == []
    assert all(call.answer.offset == pytest.approx(call.answer.ordinal, abs=1e-4) for call in calls)
    assert all(call.answer.ordinal == 2 - call.answer.epoch % 2 for call in calls)
    assert older_than_seen(calls) == []
    assert {call.answer.epoch for call in calls} >= set(range(2, SWAPS + WARM_UP + 2))
    assert growth <= 0.1
    steady = p99_ms([call for call in calls if began <= call.started_s and call.ended_s <= changed])
    swapping = p99_ms([call for call in calls if changed <= call.started_s and call.ended_s <= ended])
    first_ms = sorted(
        1e3 * (min(call.ended_s for call in calls if call.answer.epoch == epoch) - handed)
        for epoch, handed in handed_s.items()
        if handed >= changed
    )
    print(
        f"\n{len(calls)} calls, {SWAPS} swaps in {ended - changed:.1f} s: from release to first answer "
        f"{statistics.median(first_ms):.1f} ms (longest {first_ms[-1]:.1f} ms), p99 {swapping:.2f} ms against "
        f"{steady:.2f} ms steady ({swapping / steady:.2f} x), memory {growth:+.1%}"
    )


def older_than_seen(calls: Sequence[Any]) -> list[Any]:
    """Return the calls that began after a newer release had answered, and still got an older one."""
    found = []
    newest, ends = 0, sorted(calls, key=lambda call: call.ended_s)
    place = 0
    for call in sorted(calls, key=lambda call: call.started_s):
        while place < len(ends) and ends[place].ended_s < call.started_s:
            newest = max(newest, ends[place].answer.epoch)
            place += 1
        if call.answer.epoch < newest:
            found.append(call)
    return found


def test_a_replaced_version_answers_who_pins_it(broker: Platform, tmp_path: Path, releases: Releases) -> None:
    with (
        Replica(broker, tmp_path, "0", free_ports()[0]) as replica,
        open_channel(f"127.0.0.1:{replica.port}") as channel,
    ):
        replica.wait_serving(releases.model)
        newest, pinned = (caller(channel, releases.model, version) for version in ("", "1"))
        assert newest().ordinal == 1
        releases.release(2)
        while (answer := newest()).epoch < releases.epoch:
            assert answer.ordinal == 1
        assert newest().ordinal == 2
        assert [pinned().ordinal for _ in ROWS] == [1] * len(ROWS)


def round_robin(model: str) -> str:
    """Return the service config of a client that moves on as soon as a replica says that it no longer serves the model.

    The model's own health: the topic of releases may hold models of other tests, whose graphs are gone.
    """
    health = {"serviceName": f"model/{model}"}
    return json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": health})


WATCHING = {"drain_s": 1}
"""Settings of replicas whose clients watch health, and never make a call a second time."""
UNAWARE = {"drain_s": 0.2, "max_connection_age_s": 2}
"""Settings of replicas whose clients do as gRPC's clients do that nobody has configured."""


@pytest.mark.parametrize("settings", [WATCHING, UNAWARE], ids=["health is watched", "health is not watched"])
def test_replicas_restart_in_turn_under_load(
    broker: Platform, tmp_path: Path, releases: Releases, closed_loop: Any, settings: dict[str, Any]
) -> None:
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(Replica(broker, tmp_path, str(number), ports, **settings))
            for number, ports in enumerate(free_ports(2))
        ]
        for replica in replicas:
            replica.wait_serving(releases.model)
        target = "ipv4:" + ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
        reconnect = ("grpc.max_reconnect_backoff_ms", 200)
        if settings is WATCHING:
            channel = open_channel(target, ("grpc.service_config", round_robin(releases.model)), reconnect)
        else:
            config = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
            channel = grpc.insecure_channel(target, [("grpc.service_config", config), reconnect])
        load = closed_loop(stack, partial(caller, stack.enter_context(channel), releases.model))
        for replica in replicas:
            load.wait_until(lambda replica=replica: replica.answered > 100)
            replica.terminate()
            replica.start()
            replica.wait_serving(releases.model)
            load.wait_until(lambda replica=replica: replica.answered > 100)
    assert load.failed() == []
    assert {call.answer.ordinal for call in load.calls()} == {1}
    print(f"\n{len(load.calls())} calls across two restarts, none failed")
