"""REST of the Open Inference Protocol: inference beside KServe and MLServer, one network, the same bodies."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from headrace_local.launcher import Platform

from benchmarks import figures, peers
from benchmarks.serving.comparison import OTHERS, environment, free_address, release, running
from benchmarks.serving.load import Round
from benchmarks.serving.network import MODEL, network

SECONDS = 1.0
CONNECTIONS = 8
BODIES = 16
"""Different bodies that are sent in turn."""
ROWS = (1, 32)
DEFAULT = "inference, default settings"
OURS = {DEFAULT: {}, "inference, no events": {"publish_predictions": "false"}}
"""What it is measured with: the others record no prediction."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way of being served."""

    name: str
    pid: int
    address: str


def bodies(rows: int) -> list[bytes]:
    """Return whole requests, JSON in and JSON out, so that the clients themselves cost little."""
    random = np.random.default_rng(rows)
    made = []
    for _ in range(BODIES):
        data = random.uniform(0, 16, rows * 64).astype(np.float32).round(3).tolist()
        tensor = {
            "name": "pixels",
            "datatype": "FP32",
            "shape": [rows, 8, 8],
            "data": [float(f"{each:.3f}") for each in data],
        }
        body = json.dumps({"id": "1", "inputs": [tensor]}).encode()
        head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        made.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return made


def run(platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return the tables, one for each number of rows in a call."""
    graph = folder / "network.onnx"
    graph.write_bytes(network())
    release(platform, folder / "store")
    with ExitStack() as stack:
        servers, skipped = list[Server](), []
        for name, changes in OURS.items():
            rest = free_address()
            settings = environment(platform, folder, free_address(), {"rest_address": rest} | changes)
            pid = stack.enter_context(running([sys.executable, "-m", "headrace_inference"], settings))
            servers.append(Server(name, pid, rest))
        for name, kind in OTHERS.items():
            try:
                python = str(peers.python(kind))
            except peers.Unavailable as reason:
                skipped.append(f"Skipped: {name}: {reason}")
                continue
            address = free_address()
            command = [python, "-m", f"benchmarks.serving.{kind}_peer", free_address(), str(graph), MODEL]
            command += [str(folder / f"{kind}-rest")] if kind == "mlserver" else []
            started = running([*command, address], {}, quiet=True)
            servers.append(Server(name, stack.enter_context(started), address))
        found = uvloop.run(_measure(servers, rounds))
    raw: dict[str, Any] = {
        f"{rows} rows": {name: [figures.values(one) for one in done] for name, done in found[rows].items()}
        for rows in ROWS
    }
    return figures.Measured("\n\n".join([*(_table(rows, found[rows]) for rows in ROWS), *skipped]), raw)


async def _measure(servers: list[Server], rounds: int) -> dict[int, dict[str, list[Round]]]:
    sent = {rows: bodies(rows) for rows in ROWS}
    for server in servers:
        await _answering(server.address, sent[1][0])
    found: dict[int, dict[str, list[Round]]] = {rows: {each.name: [] for each in servers} for rows in ROWS}
    for _ in range(rounds):
        for rows in ROWS:
            for server in servers:
                await _load(server.address, sent[rows], SECONDS / 10)
                cpu_s, began_s = figures.cpu_s(server.pid), time.perf_counter()
                took_s = await _load(server.address, sent[rows], SECONDS)
                passed_s, cpu_s = time.perf_counter() - began_s, figures.cpu_s(server.pid) - cpu_s
                calls = len(took_s)
                p99_ms = 1e3 * float(np.percentile(took_s, 99))
                found[rows][server.name].append(Round(calls / passed_s, 1e6 * cpu_s / calls, p99_ms))
    return found


async def _answering(address: str, request: bytes) -> None:
    """Wait until a server answers a call as it should."""
    deadline_s = time.monotonic() + 120
    while True:
        try:
            status, body = await _Caller(address).ask(request, close=True)
        except OSError as error:
            status, body = 0, repr(error).encode()
        if status == 200:
            names = {each["name"]: each["data"] for each in json.loads(body)["outputs"]}
            if len(names["probabilities"]) in {1, 10} and len(names["label"]) == 1:
                return
        if time.monotonic() >= deadline_s:
            raise RuntimeError(f"{address} answers {status}: {body[:300]!r}")
        await asyncio.sleep(0.2)


class _Caller:
    """One connection that is kept open."""

    def __init__(self, address: str) -> None:
        self._at = address.rpartition(":")
        self._streams: Any = None

    async def ask(self, request: bytes, *, close: bool = False) -> tuple[int, bytes]:
        """Send a request, and return the status and the body of its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._at[0], int(self._at[2]))
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(length)
        if close:
            writer.close()
        return int(head[9:12]), body


async def _load(address: str, sent: list[bytes], seconds: float) -> list[float]:
    end_s, took_s = time.perf_counter() + seconds, list[float]()

    async def client(place: int) -> None:
        caller = _Caller(address)
        while (began_s := time.perf_counter()) < end_s:
            status, body = await caller.ask(sent[place % len(sent)])
            if status != 200:
                raise RuntimeError(f"{address} answers {status}: {body[:300]!r}")
            took_s.append(time.perf_counter() - began_s)
            place += CONNECTIONS
        caller._streams[1].close()  # noqa: SLF001 - its own

    await asyncio.gather(*(client(place) for place in range(CONNECTIONS)))
    return took_s


def _table(rows: int, found: dict[str, list[Round]]) -> str:
    ours = found[DEFAULT]
    lines = [
        [
            name,
            figures.spread([one.calls_per_s for one in done]),
            figures.share([one.calls_per_s for one in ours], [one.calls_per_s for one in done]),
            figures.spread([one.cpu_us for one in done]),
            figures.share([one.cpu_us for one in ours], [one.cpu_us for one in done]),
            figures.spread([one.p99_ms for one in done], 1),
        ]
        for name, done in found.items()
    ]
    head = [
        f"{rows} row{'s' * (rows > 1)} of JSON",
        "calls/s",
        "inference to it",
        "CPU us/call",
        "inference to it",
        "p99 ms",
    ]
    return figures.table(head, lines)
