"""Under overload variants answer that take less time, before calls are refused, and the best ones after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.cache_key import cache_key
from headrace_inference.core.degrading import FIRST_REST_S, LAST_REST_S, PRESSED, STEP_S, Degrading
from headrace_inference.core.metrics import DEGRADED
from headrace_inference.core.releases import CheaperVariant, Graph, Release
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.errors import Overloaded
from headrace_runtime.rpc.admission import Admission, Capacity

MakeRelease = Callable[..., Release]
MakeGraph = Callable[..., bytes]


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_step_down_is_taken_before_calls_are_refused_and_one_at_a_time(clock: Clock) -> None:
    degrading = Degrading(clock)
    assert degrading.step(PRESSED - 0.01, 2) == 0
    assert [degrading.step(PRESSED, 2) for _ in range(2)] == [1, 1]
    clock.now_s += STEP_S
    assert [degrading.step(1.0, most) for most in (2, 1)] == [2, 1]
    clock.now_s += STEP_S
    assert degrading.step(9.0, 2) == 2


def test_it_goes_back_after_a_rest_and_waits_longer_where_that_was_too_early(clock: Clock) -> None:
    degrading = Degrading(clock)
    rest_s, rests = FIRST_REST_S, []
    for _ in range(8):
        clock.now_s += STEP_S
        assert degrading.step(1.0, 1) == 1
        clock.now_s += rest_s - 0.01
        assert degrading.step(0.0, 1) == 1
        clock.now_s += 0.02
        assert degrading.step(0.0, 1) == 0
        rests.append(rest_s)
        rest_s = min(2 * rest_s, LAST_REST_S)
    assert rests[-1] == LAST_REST_S
    clock.now_s += LAST_REST_S
    assert degrading.step(1.0, 1) == 1
    clock.now_s += FIRST_REST_S
    assert degrading.step(0.0, 1) == 0, "it held for long enough: the next rest is as the first"


def test_who_is_still_busy_stays_where_it_is(clock: Clock) -> None:
    degrading = Degrading(clock)
    degrading.step(1.0, 1)
    for _ in range(10):
        clock.now_s += FIRST_REST_S / 2
        assert degrading.step(0.2, 1) == 1


@pytest.mark.parametrize(
    ("waiting", "left_s", "strain"),
    [
        (1, 10.0, 0.0),  # a lane is free
        (2, None, 0.1),  # 2 of 20 calls
        (10, None, 0.5),
        (4, 4.1, 1.0),  # a wait of 2 s, of (4.1 * 0.5 - 0.05)
        (2, 0.06, float("inf")),  # no wait leaves it enough
        (4, 0.04, 0.0),  # it would be late alone: that says nothing about the load
    ],
)
def test_strain_is_the_share_of_what_is_refused(waiting: int, left_s: float | None, strain: float) -> None:
    admission = Admission(Capacity(calls=20, wait_s=100.0), lanes=2)
    for _ in range(waiting):
        admission.begin(1.0, 0, 0.0)
    assert admission.strain(0.05, left_s, 0.0) == pytest.approx(strain, rel=1e-3)
    if strain:
        assert (admission.refusal(0.05, 0, left_s, 0.0) is None) is (admission.strain(0.05, left_s, 0.0) <= 1.0)


class Context:
    def __init__(self, left_s: float | None = None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody reads it."""


class World:
    """A plane over one model that takes a second, and half of that in its variant int8."""

    def __init__(self, make_graph: MakeGraph, release: Release, clock: Clock) -> None:
        shelf, self.compute = Shelf(), Compute(1, Capacity(calls=100, wait_s=60.0))
        self.predictor = Predictor(shelf, HotPredictions(None), self.compute, NoLog(), Degrading(clock))
        self.plane = Plane(shelf, self.predictor)
        self.graphs = [make_graph(seed) for seed in (0, 1)]
        answered = release.answered_by(release.cheaper[0])
        int8 = LoadedVersion(
            answered, EngineModel(self.graphs[1], 64), Speed(0.5, 0.0), answer_prefix(answered), degraded=True
        )
        best = LoadedVersion(
            release, EngineModel(self.graphs[0], 64), Speed(1.0, 0.0), answer_prefix(release), cheaper=(int8,)
        )
        shelf.put(best)

    def ask(self, left_s: float | None = None) -> Any:
        request = oip.ModelInferRequest(model_name="digits")
        request.inputs.add(name="pixels", datatype="FP32", shape=[1, 8, 8])
        request.raw_input_contents.append(np.zeros((1, 8, 8), np.float32).tobytes())
        answer = asyncio.run(self.plane.call("ModelInfer", request.SerializeToString(), Context(left_s)))
        return oip.ModelInferResponse.FromString(answer).parameters["variant"].string_param

    def begin(self, calls: int) -> None:
        for _ in range(calls):
            self.compute._admission.begin(1.0, 0, 0.0)

    def end(self, calls: int) -> None:
        for _ in range(calls):
            self.compute._admission.end(1.0, 0)


@pytest.fixture
def release(make_release: MakeRelease) -> Release:
    return make_release(cheaper=(CheaperVariant("int8", Graph("memory://int8", "sha256:" + "8" * 64, 8)),))


@pytest.fixture
def world(make_graph: MakeGraph, release: Release, clock: Clock) -> Iterator[World]:
    world = World(make_graph, release, clock)
    yield world
    world.compute.close()


def test_under_overload_the_cheaper_variant_answers_and_the_best_again_after_it(world: World, clock: Clock) -> None:
    before = DEGRADED.labels("digits", "int8")._value.get()
    assert world.ask(left_s=100.0) == "fp32"
    world.begin(16)
    # 17 s of the 29 s that a call with a minute left may wait behind others.
    assert world.ask(left_s=60.0) == "int8"
    assert world.ask(left_s=1000.0) == "int8", "one level for all"
    world.end(16)
    assert world.ask(left_s=60.0) == "int8"
    clock.now_s += FIRST_REST_S + 0.1
    assert world.ask(left_s=60.0) == "fp32"
    assert DEGRADED.labels("digits", "int8")._value.get() == before + 3


def test_calls_that_wait_before_they_come_here_count_as_well(world: World) -> None:
    world.predictor.serving.line_strain = lambda left_s: PRESSED if left_s == 7.0 else 0.0
    assert [world.ask(left_s) for left_s in (8.0, 7.0, 8.0)] == ["fp32", "int8", "int8"]


def test_what_is_too_much_for_the_cheaper_variant_as_well_is_refused(world: World) -> None:
    world.begin(40)
    with pytest.raises(Overloaded):
        world.ask(left_s=60.0)


def test_answers_of_variants_are_kept_apart(release: Release) -> None:
    arrays = {"pixels": np.zeros((1, 8, 8), np.float32)}
    cheaper = release.answered_by(release.cheaper[0])
    keys = {cache_key(each.graph.digest, arrays, ["label"]) for each in (release, cheaper)}
    assert len(keys) == 2
    assert answer_prefix(release) != answer_prefix(cheaper)
