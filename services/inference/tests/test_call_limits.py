"""What a call says about its own time, its priority and its version is kept or refused, never passed over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.releases import Release
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.errors import DeadlineExceeded, InvalidInput, Overloaded
from headrace_runtime.rpc.admission import Capacity

MakeRelease = Callable[..., Release]

ROW = np.linspace(0, 16, 64, dtype=np.float32).reshape(1, 8, 8)


class Context:
    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody reads it."""


class Waiting:
    """A model that answers when it is told to."""

    def __init__(self, model: EngineModel) -> None:
        self._model = model
        self.signature = model.signature
        self.go_on = threading.Event()

    def run(self, arrays: Any, outputs: Any) -> Any:
        self.go_on.wait(30)
        return self._model.run(arrays, outputs)


class World:
    """A plane over one model."""

    def __init__(self, graph: bytes, make_release: MakeRelease) -> None:
        self.shelf, self.compute, self._release = Shelf(), Compute(1, Capacity(calls=2, wait_s=60.0)), make_release()
        self.plane = Plane(self.shelf, Predictor(self.shelf, HotPredictions(None), self.compute, NoLog()))
        self.model = EngineModel(graph, max_rows=64)
        self.shelf.announce(["digits"], complete=True)
        self.serve(self.model, Speed(0.0, 0.0))

    def serve(self, model: Any, speed: Speed) -> None:
        self.shelf.put(LoadedVersion(self._release, model, speed, answer_prefix(self._release)))

    def request(self, version: str = "", **limits: dict[str, Any]) -> bytes:
        request = oip.ModelInferRequest(model_name="digits", model_version=version)
        request.inputs.add(name="pixels", datatype="FP32", shape=ROW.shape)
        request.raw_input_contents.append(ROW.tobytes())
        for name, value in limits.items():
            request.parameters[name].CopyFrom(oip.InferParameter(**value))
        return bytes(request.SerializeToString())

    def infer(self, version: str = "", **limits: dict[str, Any]) -> Any:
        sent = self.request(version, **limits)
        answer = self.plane.infer_now(sent, Context()) or asyncio.run(self.plane.call("ModelInfer", sent, Context()))
        return oip.ModelInferResponse.FromString(answer).parameters["variant"].string_param


@pytest.fixture
def world(graph: bytes, make_release: MakeRelease) -> Iterator[World]:
    world = World(graph, make_release)
    yield world
    world.compute.close()


def test_a_timeout_ends_a_call_that_waits(world: World) -> None:
    waiting = Waiting(world.model)
    world.serve(waiting, Speed(0.002, 0.0))
    with pytest.raises(DeadlineExceeded, match=r"model 'digits': the call's timeout of 0\.2 s is over"):
        world.infer(timeout={"int64_param": 200_000})
    waiting.go_on.set()
    assert world.infer(timeout={"int64_param": 600_000_000}) == "fp32"


def test_a_timeout_of_zero_is_none(world: World) -> None:
    assert world.infer(timeout={"uint64_param": 0}, priority={"uint64_param": 0}) == "fp32"


def test_an_urgent_call_passes_those_that_wait(world: World) -> None:
    """It is let in where a usual one would wait for too long, and computed before those that came earlier."""
    waiting = Waiting(world.model)
    world.serve(waiting, Speed(40.0, 0.0))  # of the 60 s that a call may wait
    world.compute._admission._capacity = Capacity(calls=9, wait_s=60.0)
    ended: list[int] = []

    async def call(priority: int) -> None:
        await world.plane.call("ModelInfer", world.request(priority={"uint64_param": priority}), Context())
        ended.append(priority)

    async def story() -> None:
        calls = [asyncio.create_task(call(each)) for each in (0, 5)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"2 calls wait already, one more would for 80\.00 s"):
            await call(5)
        calls.append(asyncio.create_task(call(1)))
        await asyncio.sleep(0)
        waiting.go_on.set()
        await asyncio.gather(*calls)

    asyncio.run(story())
    assert ended == [0, 1, 5]


def test_a_timeout_holds_for_calls_that_repeat_themselves(world: World) -> None:
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            world.infer(timeout={"int64_param": 1})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("priority", {"uint64_param": 6}, r"expected 1 \(first\) to 5 \(last\), or 0, got 6"),
        ("priority", {"string_param": "high"}, r"expected a number from 0 .* got string_param"),
        ("timeout", {"int64_param": -1}, "expected a number from 0"),
        ("timeout", {"double_param": 1.5}, r"expected a number from 0 .* got double_param"),
        ("timeout", {}, r"expected a number from 0 .* got nothing"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(world: World, name: str, value: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=f"parameter '{name}': {told}"):
        world.infer(**dict[str, Any]({name: value}))


def test_latest_is_not_guessed(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"version 'latest' may mean .* leave it empty"):
        world.infer(version="latest")
