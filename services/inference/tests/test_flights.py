from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.adapters.prediction_log import NoLog
from headrace_inference.core.flights import Flights, Left
from headrace_inference.core.releases import CachePolicy, Release
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.errors import Overloaded
from headrace_runtime.rpc.admission import Capacity

LARGE = 10**6


class Computation:
    """Counts how often it is begun and given up; waits until it may go on."""

    def __init__(self) -> None:
        self.begun = self.given_up = 0
        self.go_on = asyncio.Event()
        self.left_s: Left = lambda: math.nan
        self.error: Exception | None = None

    async def __call__(self, left_s: Left) -> int:
        self.begun += 1
        self.left_s = left_s
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.error is not None:
            raise self.error
        return self.begun


def run(story: Callable[[Flights[int], Computation], Coroutine[Any, Any, None]], most: int = LARGE) -> None:
    async def told() -> None:
        await asyncio.wait_for(story(Flights(most, LARGE), Computation()), 20)

    asyncio.run(told())


def join(flights: Flights[int], compute: Any, key: bytes = b"k", left_s: float | None = None, size: int = 1) -> Any:
    return asyncio.create_task(flights.join(key, size, lambda: left_s, compute))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_equal_calls_are_computed_once() -> None:
    async def story(flights: Flights[int], compute: Computation) -> None:
        calls = [join(flights, compute) for _ in range(50)]
        await settle()
        compute.go_on.set()
        assert list(await asyncio.gather(*calls)) == [(1, False)] + [(1, True)] * 49
        assert await join(flights, compute) == (2, False), "what has ended is not kept"

    run(story)


def test_other_calls_are_apart() -> None:
    async def story(flights: Flights[int], compute: Computation) -> None:
        compute.go_on.set()
        await asyncio.gather(*(join(flights, compute, key) for key in (b"a", b"b", b"a")))
        assert compute.begun == 2

    run(story)


def test_who_began_may_leave() -> None:
    async def story(flights: Flights[int], compute: Computation) -> None:
        first, second = join(flights, compute), join(flights, compute)
        await settle()
        first.cancel()
        await settle()
        third = join(flights, compute)
        await settle()
        compute.go_on.set()
        assert list(await asyncio.gather(second, third)) == [(1, True), (1, True)]
        assert first.cancelled()
        assert (compute.begun, compute.given_up) == (1, 0)

    run(story)


def test_a_computation_that_nobody_waits_for_ends() -> None:
    async def story(flights: Flights[int], compute: Computation) -> None:
        calls = [join(flights, compute) for _ in range(3)]
        await settle()
        for call in calls:
            call.cancel()
        await settle()
        assert compute.given_up == 1
        compute.go_on.set()
        assert await join(flights, compute) == (2, False), "nobody joins what was given up"

    run(story)


def test_a_failure_is_that_of_everyone_who_waits_and_of_nobody_later() -> None:
    async def story(flights: Flights[int], compute: Computation) -> None:
        calls = [join(flights, compute) for _ in range(3)]
        await settle()
        compute.error = Overloaded("too much", 1.0)
        compute.go_on.set()
        assert await asyncio.gather(*calls, return_exceptions=True) == [compute.error] * 3
        compute.error = None
        assert await join(flights, compute) == (2, False)

    run(story)


def test_the_most_patient_caller_decides_on_the_time() -> None:
    async def story(flights: Flights[int], compute: Computation) -> None:
        calls = [join(flights, compute, left_s=5.0)]
        await settle()
        assert compute.left_s() == pytest.approx(5.0, abs=1.0)
        calls.append(join(flights, compute, left_s=60.0))
        await settle()
        calls.append(join(flights, compute, left_s=1.0))
        await settle()
        assert compute.left_s() == pytest.approx(60.0, abs=1.0)
        calls.append(join(flights, compute))
        await settle()
        assert compute.left_s() is None
        compute.go_on.set()
        await asyncio.gather(*calls)

    run(story)


@pytest.mark.parametrize(("most", "size"), [(2, 1), (LARGE, LARGE // 2)])
def test_so_many_wait_and_others_compute_for_themselves(most: int, size: int) -> None:
    async def story(flights: Flights[int], compute: Computation) -> None:
        calls = [join(flights, compute, size=size) for _ in range(4)]
        await settle()
        assert compute.begun == 2, "one for itself and two who wait; one for itself alone"
        compute.go_on.set()
        assert [joined for _, joined in await asyncio.gather(*calls)] == [False, True, True, False]
        again = [join(flights, compute, size=size) for _ in range(3)]
        assert [joined for _, joined in await asyncio.gather(*again)] == [False, True, True]

    run(story, most)


class Gated:
    """A model that counts its runs, and answers once it may."""

    def __init__(self, model: EngineModel) -> None:
        self._model, self.signature = model, model.signature
        self.sample, self.tokens = model.sample, model.tokens
        self.runs, self.go_on = 0, threading.Event()

    def run(self, arrays: Any, outputs: Any) -> Any:
        self.runs += 1
        assert self.go_on.wait(20)
        return self._model.run(arrays, outputs)


class Caller:
    """A context of a call that waits for ever."""

    def time_remaining(self) -> None:
        return None

    def set_trailing_metadata(self, metadata: Any, /) -> None:
        pass


@pytest.mark.parametrize(
    ("policy", "runs"), [(CachePolicy.REDIS, 1), (CachePolicy.AUTO, 1), (CachePolicy.OFF, 2)], ids=str
)
def test_callers_share_an_answer_where_answers_are_kept(
    graph: bytes, make_release: Callable[..., Release], policy: CachePolicy, runs: int
) -> None:
    model, shelf, release = Gated(EngineModel(graph, max_rows=64)), Shelf(), make_release(cache=policy)
    shelf.put(LoadedVersion(release, model, Speed(1.0, 0.0), answer_prefix(release)))
    compute = Compute(2, Capacity(calls=10, wait_s=60.0))
    plane = Plane(shelf, Predictor(shelf, HotPredictions(None), compute, NoLog()))

    def request(call_id: str) -> bytes:
        sent = oip.ModelInferRequest(model_name="digits", id=call_id)
        sent.inputs.add(name="pixels", datatype="FP32", shape=[1, 8, 8])
        sent.raw_input_contents.append(bytes(256))
        return bytes(sent.SerializeToString())

    async def story() -> list[bytes]:
        calls = [asyncio.create_task(plane.call("ModelInfer", request(each), Caller())) for each in "ab"]
        await settle()
        model.go_on.set()
        return list(await asyncio.gather(*calls))

    answers = [oip.ModelInferResponse.FromString(each) for each in asyncio.run(story())]
    compute.close()
    assert model.runs == runs
    assert [each.id for each in answers] == ["a", "b"]
    assert answers[0].raw_output_contents == answers[1].raw_output_contents
    assert [each.parameters["cached"].bool_param for each in answers] == [False, runs == 1]
    assert len({each.parameters["prediction_id"].string_param for each in answers}) == 2
