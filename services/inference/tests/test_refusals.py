"""Calls that are refused by their names and their size, before anything else of them is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

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
from headrace_runtime.errors import DeadlineExceeded, Overloaded, TooLarge
from headrace_runtime.rpc.admission import Capacity

MakeRelease = Callable[..., Release]

NO_TENSOR = oip.ModelInferRequest(model_name="digits", model_version="1").SerializeToString() + b"\xff"
"""A call that cannot be read beyond its names: only who reads no further can say anything else about it."""


class Context:
    def __init__(self, left_s: float | None = None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody reads it."""


class World:
    """A plane over one slow model."""

    def __init__(self, graph: bytes, release: Release, *, at_once: bool) -> None:
        self._at_once = at_once
        shelf, self.compute = Shelf(), Compute(1, Capacity(calls=2, wait_s=60.0))
        self.plane = Plane(shelf, Predictor(shelf, HotPredictions(None), self.compute, NoLog()))
        self.model = EngineModel(graph, max_rows=64)
        shelf.put(LoadedVersion(release, self.model, Speed(1.0, 0.0), answer_prefix(release)))

    def ask(self, request: bytes, left_s: float | None = None) -> Any:
        if self._at_once:
            return self.plane.infer_now(request, Context(left_s))
        return asyncio.run(self.plane.call("ModelInfer", request, Context(left_s)))


@pytest.fixture(params=[True, False], ids=["at once", "in the loop"])
def world(graph: bytes, make_release: MakeRelease, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(graph, make_release(), at_once=request.param)
    yield world
    world.compute.close()


def test_an_overloaded_server_refuses_a_call_by_its_name(world: World) -> None:
    for _ in range(2):
        world.compute._admission.begin(1.0, 0, 0.0)
    with pytest.raises(Overloaded, match=r"model 'digits': 2 calls wait already, one more would for 2\.00 s") as caught:
        world.ask(NO_TENSOR)
    assert caught.value.wait_s == 2.0
    with pytest.raises(DeadlineExceeded):
        world.ask(NO_TENSOR, left_s=0.0)


def test_a_message_that_no_call_of_the_model_needs_is_refused_by_its_size(world: World) -> None:
    largest = world.model.signature.largest_bytes
    assert largest == 64 * 64 * 10 + 1024 * 1024
    with pytest.raises(TooLarge, match=f"expected at most {largest} bytes, .* 64 rows, got {largest + 1}"):
        world.ask(NO_TENSOR + bytes(largest + 1 - len(NO_TENSOR)))
