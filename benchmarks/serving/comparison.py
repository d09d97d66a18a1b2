"""Inference beside the floor, in one run: all servers are up, one is loaded at a time, round after round."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from headrace.events.v1.model_pb2 import CACHE_POLICY_OFF, CACHE_POLICY_REDIS, ModelReleased
from headrace_local.launcher import Platform
from headrace_local.ports import find_free
from headrace_runtime.kafka.envelopes import encode
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer

from benchmarks import figures, peers
from benchmarks.serving import overload
from benchmarks.serving.load import CLIENTS, Round, measure, requests, wait_answering
from benchmarks.serving.network import MODEL, SLOW, network, slow_network

SECONDS = 0.7
DEFAULT = "inference, default settings"
VARIANTS: dict[str, dict[str, str]] = {
    "inference without events": {"publish_predictions": "false"},
    DEFAULT: {},
    "inference, a twentieth of the calls traced to a file": {"telemetry_dir": "twentieth"},
    "inference, every call traced to a file": {"trace_sample_ratio": "1", "telemetry_dir": "every"},
}
"""Settings of inference beside those that it needs to run; folders are below that of the run."""
CACHED = f"{MODEL}-cached"
OTHERS = {"KServe": "kserve", "MLServer": "mlserver"}
"""Other servers of the protocol: their environments, see benchmarks/peers."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way of being served."""

    name: str
    model: str
    pid: int
    address: str


def run(platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return the tables, one for each number of rows in a call."""
    graph = folder / "network.onnx"
    graph.write_bytes(network())
    release(platform, folder / "store")
    with ExitStack() as stack:
        servers = [_floor(stack, graph, MODEL)]
        others, skipped = _others(stack, folder, graph)
        servers += others
        for name, settings in VARIANTS.items():
            address = free_address()
            chosen = environment(platform, folder, address, settings)
            pid = stack.enter_context(running([sys.executable, "-m", "headrace_inference"], chosen))
            servers.append(Server(name, MODEL, pid, address))
        default = next(server for server in servers if server.name == DEFAULT)
        servers.append(Server("inference, every answer from Valkey", CACHED, default.pid, default.address))
        found = uvloop.run(_measure(servers, rounds))
        (folder / "slow.onnx").write_bytes(slow_network())
        floors = {MODEL: servers[0], SLOW: _floor(stack, folder / "slow.onnx", SLOW)}
        overloaded = {
            case: {each.name: overload.measure(each.address, case, folder) for each in (floors[case.model], default)}
            for case in overload.CASES
        }
    overloads = [overload.table(case, each) for case, each in overloaded.items()]
    tables = "\n\n".join([*(_table(rows, servers, found[rows]) for rows in CLIENTS), *overloads, *skipped])
    raw: dict[str, Any] = {
        f"{rows} rows": {name: [figures.values(one) for one in done] for name, done in found[rows].items()}
        for rows in CLIENTS
    }
    for case, each in overloaded.items():
        raw[f"overload of {case.model}"] = {
            name: {times: figures.values(one) for times, one in done.outcomes.items()} for name, done in each.items()
        }
    return figures.Measured(tables, raw)


def _floor(stack: ExitStack, graph: Path, model: str) -> Server:
    address = free_address()
    command = [sys.executable, "-m", "benchmarks.serving.floor", address, str(graph)]
    pid = stack.enter_context(running(command, {}))
    return Server("floor: grpc.aio + onnxruntime", model, pid, address)


def _others(stack: ExitStack, folder: Path, graph: Path) -> tuple[list[Server], list[str]]:
    """Start the other servers. Returns them, and why some are not there."""
    servers, skipped = [], []
    for name, environment in OTHERS.items():
        address = free_address()
        try:
            python = str(peers.python(environment))
        except peers.Unavailable as reason:
            skipped.append(f"Skipped: {name}: {reason}")
            continue
        command = [python, "-m", f"benchmarks.serving.{environment}_peer", address, str(graph), MODEL]
        command += [str(folder / environment)] if environment == "mlserver" else []
        servers.append(Server(name, MODEL, stack.enter_context(running(command, {}, quiet=True)), address))
    return servers, skipped


def free_address() -> str:
    """Return an address of this machine that nobody listens on."""
    return f"127.0.0.1:{find_free(1)[0]}"


async def _measure(servers: list[Server], rounds: int) -> dict[int, dict[str, list[Round]]]:
    sent = {(server.model, rows): requests(server.model, rows) for server in servers for rows in CLIENTS}
    for server in servers:
        await wait_answering(server.address, sent[server.model, 1][0])
    found: dict[int, dict[str, list[Round]]] = {rows: {server.name: [] for server in servers} for rows in CLIENTS}
    for _ in range(rounds):
        for rows, clients in CLIENTS.items():
            for server in servers:
                done = await measure(server.address, server.pid, sent[server.model, rows], clients, SECONDS)
                found[rows][server.name].append(done)
    return found


def _table(rows: int, servers: list[Server], found: Mapping[str, list[Round]]) -> str:
    floor = found[servers[0].name]
    lines = []
    for server in servers:
        done = found[server.name]
        lines.append(
            [
                server.name,
                figures.spread([one.calls_per_s for one in done]),
                figures.share([one.calls_per_s for one in done], [one.calls_per_s for one in floor]),
                figures.spread([one.cpu_us for one in done]),
                figures.share([one.cpu_us for one in done], [one.cpu_us for one in floor]),
                figures.spread([one.p99_ms for one in done], 1),
            ]
        )
    head = [f"{rows} row{'s' * (rows > 1)} in a call", "calls/s", "of floor", "CPU us/call", "of floor", "p99 ms"]
    return figures.table(head, lines)


def release(platform: Platform, store: Path) -> None:
    """Release the small network twice, never cached and always, and the slow one."""
    objects = ObjectStore(str(store))
    small, slow = objects.put(network()), objects.put(slow_network())
    released = ((MODEL, CACHE_POLICY_OFF, small), (CACHED, CACHE_POLICY_REDIS, small), (SLOW, CACHE_POLICY_OFF, slow))
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for model, policy, artifact in released:
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


def environment(platform: Platform, folder: Path, address: str, settings: Mapping[str, str]) -> dict[str, str]:
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
def running(command: list[str], environment: Mapping[str, str], *, quiet: bool = False) -> Iterator[int]:
    """Run a server until the context is left; gives its process id."""
    said = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, env=os.environ | dict(environment), cwd=peers.ROOT, stdout=said, stderr=said)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
