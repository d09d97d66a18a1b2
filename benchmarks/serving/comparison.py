"""Inference beside the floor, in one run: all servers are up, one is loaded at a time, round after round."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from headrace.events.v1.model_pb2 import CACHE_POLICY_OFF, CACHE_POLICY_REDIS, ModelReleased
from headrace_local.launcher import Platform
from headrace_local.ports import find_free
from headrace_runtime.messages import encode
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer

from benchmarks import figures
from benchmarks.serving.load import CLIENTS, Round, measure, requests, wait_answering
from benchmarks.serving.network import MODEL, network

SECONDS = 0.7
DEFAULT = "inference, default settings"
VARIANTS: dict[str, dict[str, str]] = {
    "inference without traces and events": {"trace_sample_ratio": "0", "publish_predictions": "false"},
    "inference without traces": {"trace_sample_ratio": "0"},
    DEFAULT: {},
    "inference, every call traced to a file": {"trace_sample_ratio": "1", "telemetry_dir": "telemetry"},
}
"""Settings of inference beside those that it needs to run; folders are below that of the run."""
CACHED = f"{MODEL}-cached"


@dataclass(frozen=True, slots=True)
class Peer:
    """One way of being served."""

    name: str
    model: str
    pid: int
    address: str


def run(platform: Platform, folder: Path, rounds: int) -> str:
    """Return the tables, one for each number of rows in a call."""
    graph = folder / "network.onnx"
    graph.write_bytes(network())
    _release(platform, folder / "store")
    with ExitStack() as stack:
        addresses = [f"127.0.0.1:{port}" for port in find_free(1 + len(VARIANTS))]
        floor = [sys.executable, "-m", "benchmarks.serving.floor", addresses[0], str(graph)]
        peers = [Peer("floor: grpc.aio + onnxruntime", MODEL, stack.enter_context(_running(floor, {})), addresses[0])]
        for address, (name, settings) in zip(addresses[1:], VARIANTS.items(), strict=True):
            environment = _environment(platform, folder, address, settings)
            pid = stack.enter_context(_running([sys.executable, "-m", "headrace_inference"], environment))
            peers.append(Peer(name, MODEL, pid, address))
        default = next(peer for peer in peers if peer.name == DEFAULT)
        peers.append(Peer("inference, every answer from Valkey", CACHED, default.pid, default.address))
        found = uvloop.run(_measure(peers, rounds))
    return "\n\n".join(_table(rows, peers, found[rows]) for rows in CLIENTS)


async def _measure(peers: list[Peer], rounds: int) -> dict[int, dict[str, list[Round]]]:
    sent = {(peer.model, rows): requests(peer.model, rows) for peer in peers for rows in CLIENTS}
    for peer in peers:
        await wait_answering(peer.address, sent[peer.model, 1][0])
    found: dict[int, dict[str, list[Round]]] = {rows: {peer.name: [] for peer in peers} for rows in CLIENTS}
    for _ in range(rounds):
        for rows, clients in CLIENTS.items():
            for peer in peers:
                done = await measure(peer.address, peer.pid, sent[peer.model, rows], clients, SECONDS)
                found[rows][peer.name].append(done)
    return found


def _table(rows: int, peers: list[Peer], found: Mapping[str, list[Round]]) -> str:
    floor = found[peers[0].name]
    lines = []
    for peer in peers:
        done = found[peer.name]
        of_floor = [one.calls_per_s / other.calls_per_s for one, other in zip(done, floor, strict=True)]
        of_cpu = [one.cpu_us / other.cpu_us for one, other in zip(done, floor, strict=True)]
        lines.append(
            [
                peer.name,
                figures.spread([one.calls_per_s for one in done]),
                f"{statistics.median(of_floor):.2f}",
                figures.spread([one.cpu_us for one in done]),
                f"{statistics.median(of_cpu):.2f}",
                figures.spread([one.p99_ms for one in done], 1),
            ]
        )
    head = [f"{rows} row{'s' * (rows > 1)} in a call", "calls/s", "of floor", "CPU us/call", "of floor", "p99 ms"]
    return figures.table(head, lines)


def _release(platform: Platform, store: Path) -> None:
    """Release the network twice: never cached, and always."""
    artifact = ObjectStore(str(store)).put(network())
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for model, policy in ((MODEL, CACHE_POLICY_OFF), (CACHED, CACHE_POLICY_REDIS)):
        event = ModelReleased(model=model, alias="champion", epoch=1, ordinal=1, variant="fp32", cache=policy)
        event.version_id = artifact.digest
        event.dataset_id, event.run_id = "sha256:" + "d" * 64, "sha256:" + "e" * 64
        event.graph.uri, event.graph.digest, event.graph.size_bytes = (
            artifact.uri,
            artifact.digest,
            artifact.size_bytes,
        )
        outgoing = encode(event, source="benchmarks")
        producer.send(outgoing.topic, outgoing.value, outgoing.key, headers=list(outgoing.headers)).get(timeout=30)
    producer.close()


def _environment(platform: Platform, folder: Path, address: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an inference with its default settings, but for addresses, folders and those given."""
    port = address.rpartition(":")[2]
    chosen = {
        "instance": port,
        "kafka_bootstrap_servers": platform.bootstrap_servers,
        "redis_url": platform.redis_url,
        # Clients, servers and Valkey share this machine: a busy moment must not turn the cache off for two seconds.
        "redis_timeout_ms": "1000",
        "store_url": str(folder / "store"),
        "work_dir": str(folder / port),
        "listen_address": address,
        "metrics_address": "",
        "log_level": "WARNING",
        "drain_s": "0",
        **{key: str(folder / value) if key.endswith("_dir") else value for key, value in settings.items()},
    }
    return {f"HEADRACE_{key.upper()}": value for key, value in chosen.items()}


@contextmanager
def _running(command: list[str], environment: Mapping[str, str]) -> Iterator[int]:
    process = subprocess.Popen(command, env=os.environ | dict(environment))
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
