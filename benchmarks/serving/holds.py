"""How long bodies of JSON hold up calls over gRPC: one caller asks a small network without a pause meanwhile."""

from __future__ import annotations

import http.client
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from headrace_local.launcher import Platform

from benchmarks import figures
from benchmarks.serving.comparison import environment, free_address, release, running
from benchmarks.serving.load import INFER, requests
from benchmarks.serving.network import MODEL

SECONDS = 4.0
ROWS = 4096
SIZE = 1024 * 1024 - 200


def _body(value: str) -> bytes:
    data = ",".join([value] * min(SIZE // (len(value) + 1), ROWS * 64))
    head = f'"name":"pixels","datatype":"FP32","shape":[{ROWS},8,8]'
    return f'{{"inputs":[{{{head},"data":[{data}]}}]}}'.encode()


BODIES = {
    "nothing": b"",
    "4,096 rows of 64 numbers, 1 MiB": _body("0.5"),
    "350,000 empty lists, 1 MiB": _body("[]"),
    "150,000 objects, 1 MiB": _body('{"a":0}'),
}


def run(platform: Platform, folder: Path, rounds: int) -> figures.Measured:
    """Return one table."""
    release(platform, folder / "store")
    address, rest = free_address(), free_address()
    with ExitStack() as stack:
        settings = {"rest_address": rest}
        chosen = environment(platform, folder, address, settings)
        stack.enter_context(running([sys.executable, "-m", "headrace_inference"], chosen))
        channel = stack.enter_context(grpc.insecure_channel(address))
        infer: Any = channel.unary_unary(INFER)
        sent = requests(MODEL, 1)
        infer(sent[0], timeout=60, wait_for_ready=True)
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in BODIES}
        for _ in range(rounds):
            for name, body in BODIES.items():
                found[name].append(_measure(infer, sent, rest, body))
    lines = [
        [name, *(figures.spread([each[place] for each in done], 1) for place in range(5))]
        for name, done in found.items()
    ]
    head = ["over REST meanwhile", "bodies/s", "calls/s", "p50 ms", "p99 ms", "longest ms"]
    return figures.Measured(figures.table(head, lines), {name: list(map(list, done)) for name, done in found.items()})


def _measure(infer: Any, sent: list[bytes], rest: str, body: bytes) -> tuple[float, ...]:
    """Return bodies and calls for each second, and the median, 99th percentile and longest of calls in ms."""
    over, bodies = threading.Event(), [0]

    def post() -> None:
        connection = http.client.HTTPConnection(rest, timeout=60)
        while not over.is_set():
            connection.request("POST", f"/v2/models/{MODEL}/infer", body)
            connection.getresponse().read()
            bodies[0] += 1
        connection.close()

    poster = threading.Thread(target=post) if body else None
    if poster is not None:
        poster.start()
    took_s: list[float] = []
    end_s = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end_s:
        infer(sent[len(took_s) % len(sent)], timeout=60)
        took_s.append(time.perf_counter() - began)
    over.set()
    if poster is not None:
        poster.join()
    took_ms = 1e3 * np.array(took_s)
    return bodies[0] / SECONDS, len(took_s) / SECONDS, *map(float, np.percentile(took_ms, [50, 99, 100]))
