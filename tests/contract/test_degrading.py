"""A replica under more load than its best variant can carry: nothing fails, and the best one answers again after it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.releases import CachePolicy, CheaperVariant, Graph, Release
from headrace_inference.core.shelf import Shelf
from headrace_inference.settings import Settings
from headrace_inference.wiring import build_host, build_loader
from headrace_runtime.object_store import ObjectStore
from onnx import TensorProto, helper, numpy_helper
from opentelemetry.context import Context

MAX_WAIT_S = 1.0
"""Predicted wait from which on a replica refuses calls."""
DEADLINE_S = 60.0
"""Far beyond that: what is admitted is answered, however slow the machine has become meanwhile."""
THREADS = 2
WIDTH = 1024
LONGEST_S = 20.0
"""Nothing here takes so long, whatever else the machine does."""


def graph(layers: int) -> bytes:
    """Return a graph of so many products of 1,024 by 1,024."""
    weights = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "w")
    names = ["x", *(f"x{place}" for place in range(layers - 1)), "y"]
    nodes = [helper.make_node("MatMul", [names[place], "w"], [names[place + 1]]) for place in range(layers)]
    shape: list[str | int | None] = ["batch", WIDTH]
    inputs, outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    made = helper.make_graph(nodes, "products", [inputs], [outputs], [weights])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


class Replica:
    """A server over one model, whose cheaper variant takes a fortieth of the time."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(
            listen_address="127.0.0.1:0",
            store_url=str(folder / "store"),
            work_dir=folder / "work",
            redis_url="",
            metrics_address="",
            compute_threads=THREADS,
            max_wait_s=MAX_WAIT_S,
            drain_s=0.0,
            max_connection_age_s=0.0,
        )
        self.shelf = Shelf()
        self.host = build_host(settings, self.shelf, NoLog())
        self.loader = build_loader(settings, self.shelf, self.host)
        best, small = (self._stored(settings, graph(layers)) for layers in (40, 1))
        cheaper = (CheaperVariant("int8", small),)
        release = Release("m", "champion", 1, best.digest, 1, "fp32", best, "", "", CachePolicy.OFF, cheaper=cheaper)
        self.host.start()
        self.loader.start()
        self.loader.announce(release, Context())
        self.loader.all_announced()
        assert self.loader.wait_ready(60)

    @staticmethod
    def _stored(settings: Settings, content: bytes) -> Graph:
        kept = ObjectStore(settings.store_url).put(content)
        return Graph(kept.uri, kept.digest, kept.size_bytes)

    def stop(self) -> None:
        self.loader.stop()
        self.host.stop()


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    replica = Replica(tmp_path)
    yield replica
    replica.stop()


def test_overload_falls_to_the_cheaper_variant_and_back_without_a_failed_call(replica: Replica) -> None:
    best = replica.shelf.resolve("m", "")
    assert len(best.cheaper) == 1
    # So many that they would wait for half as long again as any may: with the best variant alone some are refused.
    callers = int(1.5 * MAX_WAIT_S * THREADS / best.speed.first_row_s)
    answered = asyncio.run(story(replica.host.port, callers))

    assert answered["calm"] == {"fp32": 3}
    assert set(answered["rush"]) == {"fp32", "int8"}
    assert answered["after"]["fp32"] == 1, "it went back"


async def story(port: int, callers: int) -> dict[str, Counter[str]]:
    """Return how many calls each variant answered; raises for a call that failed."""
    answered: dict[str, Counter[str]] = {name: Counter() for name in ("calm", "rush", "after")}
    request = oip.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1, WIDTH])
    request.raw_input_contents.append(np.ones((1, WIDTH), np.float32).tobytes())
    message = request.SerializeToString()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        async def ask(phase: str) -> str:
            answer = oip.ModelInferResponse.FromString(await infer(message, timeout=DEADLINE_S))
            variant = str(answer.parameters["variant"].string_param)
            answered[phase][variant] += 1
            return variant

        async def keep_asking(until_s: float) -> None:
            while time.monotonic() < until_s:
                await ask("rush")

        for _ in range(3):
            await ask("calm")
        until_s = time.monotonic() + 1.0
        await asyncio.gather(*(keep_asking(until_s) for _ in range(callers)))
        late_s = time.monotonic() + LONGEST_S
        while await ask("after") != "fp32":
            assert time.monotonic() < late_s, answered
    return answered
