"""Closed-loop clients: each calls, and calls again as soon as it has the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np
from headrace import open_inference as oip

from benchmarks import figures

CHANNELS = 4
CLIENTS = {1: 16, 32: 8}
"""Clients by rows in a call."""
REQUESTS = 64
"""Different requests that the clients send in turn."""
INFER = f"/{oip.SERVICE}/ModelInfer"


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did in one round."""

    calls_per_s: float
    cpu_us: float
    """CPU time of the server for one call, in microseconds."""
    p99_ms: float


def requests(model: str, rows: int) -> list[bytes]:
    """Return serialised calls, so that the clients themselves cost little."""
    random = np.random.default_rng(rows)
    made = []
    for _ in range(REQUESTS):
        pixels = random.uniform(0, 16, (rows, 8, 8)).astype(np.float32)
        request = oip.ModelInferRequest(model_name=model)
        request.inputs.add(name="pixels", datatype="FP32", shape=pixels.shape)
        request.raw_input_contents.append(pixels.tobytes())
        made.append(bytes(request.SerializeToString()))
    return made


def _method(channel: grpc.aio.Channel) -> Any:
    """Return ModelInfer as bytes in and bytes out."""
    return channel.unary_unary(INFER)


async def wait_answering(address: str, request: bytes, timeout_s: float = 120.0) -> None:
    """Wait until a server answers."""
    deadline_s = time.monotonic() + timeout_s
    async with grpc.aio.insecure_channel(address, [("grpc.max_reconnect_backoff_ms", 200)]) as channel:
        while True:
            try:
                await _method(channel)(request, timeout=5)
            except grpc.aio.AioRpcError:
                if time.monotonic() >= deadline_s:
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def measure(address: str, pid: int, sent: Sequence[bytes], clients: int, seconds: float) -> Round:
    """Call a server without a pause for some seconds, after a tenth of that to warm up."""
    channels = [grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(CHANNELS)]
    durations: list[float] = []
    try:
        await _call(channels, sent, clients, seconds / 10, [])
        cpu_before_s, began = figures.cpu_s(pid), time.perf_counter()
        await _call(channels, sent, clients, seconds, durations)
        took_s, cpu_s = time.perf_counter() - began, figures.cpu_s(pid) - cpu_before_s
    finally:
        for channel in channels:
            await channel.close()
    return Round(len(durations) / took_s, 1e6 * cpu_s / len(durations), 1e3 * float(np.percentile(durations, 99)))


async def _call(
    channels: Sequence[grpc.aio.Channel], sent: Sequence[bytes], clients: int, seconds: float, durations: list[float]
) -> None:
    end_s = time.perf_counter() + seconds

    async def client(number: int) -> None:
        infer = _method(channels[number % len(channels)])
        place = number
        while (started_s := time.perf_counter()) < end_s:
            await infer(sent[place % len(sent)], timeout=60)
            durations.append(time.perf_counter() - started_s)
            place += clients

    await asyncio.gather(*(client(number) for number in range(clients)))
