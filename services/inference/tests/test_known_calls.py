"""The shortcut for calls that repeat themselves gives the answers of the long way, whatever comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from headrace import open_inference as oip
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.core.releases import Release
from headrace_inference.core.served import Served
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport import converters, known_calls, wire
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.known_calls import KnownCalls
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.errors import DeadlineExceeded, HeadraceError, InvalidInput
from headrace_runtime.rpc.admission import Capacity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MakeGraph = Callable[..., bytes]
MakeRelease = Callable[..., Release]


class Log:
    def __init__(self) -> None:
        self.seen: list[Served] = []

    async def record(self, served: Served) -> None:
        self.add(served)

    def add(self, served: Served) -> None:
        self.seen.append(served)


class Context:
    left_s: float | None = None

    def time_remaining(self) -> float | None:
        return self.left_s

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody asks for it here."""


class World:
    """A predictor over one model, and how many calls it read the long way."""

    def __init__(self, graph: bytes, make_release: MakeRelease) -> None:
        self.shelf, self.log, self.context = Shelf(), Log(), Context()
        self.compute = Compute(1, Capacity(calls=2, wait_s=60.0))
        self.predictor = Predictor(self.shelf, HotPredictions(None), self.compute, self.log)
        self._make_release = make_release
        self.release(graph)
        self.shelf.announce(["digits"], complete=True)

    def release(self, graph: bytes, **fields: Any) -> None:
        release = self._make_release(**fields)
        self.shelf.put(LoadedVersion(release, EngineModel(graph, 64), Speed(0.0, 0.0), answer_prefix(release)))

    def infer(self, request: bytes) -> Any:
        """Return the answer without what differs from call to call, or the error."""
        try:
            answer = oip.ModelInferResponse.FromString(self.predictor.infer_now(request, self.context) or b"")
        except HeadraceError as error:
            return type(error), str(error)
        assert answer.parameters["prediction_id"].string_param
        del answer.parameters["prediction_id"]
        return answer.SerializeToString(deterministic=True)


@pytest.fixture
def world(graph: bytes, make_release: MakeRelease) -> Iterator[World]:
    world = World(graph, make_release)
    yield world
    world.compute.close()


@pytest.fixture
def read_long_way(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the requests that were parsed."""
    parsed: list[bytes] = []
    parse = converters.parse

    def spy(method: str, request: bytes) -> Any:
        parsed.append(request)
        return parse(method, request)

    monkeypatch.setattr(converters, "parse", spy)
    return parsed


def request(rows: Any, **fields: Any) -> bytes:
    made = oip.ModelInferRequest(**{"model_name": "digits"} | fields)
    made.inputs.add(name="pixels", datatype="FP32", shape=rows.shape)
    made.raw_input_contents.append(rows.tobytes())
    return bytes(made.SerializeToString())


def pixels(seed: int, rows: int = 1) -> Any:
    return np.random.default_rng(seed).uniform(0, 16, (rows, 8, 8)).astype(np.float32)


def test_a_call_is_read_once_and_then_only_its_values(world: World, read_long_way: list[bytes]) -> None:
    first, second, third = (world.infer(request(pixels(seed))) for seed in (1, 2, 1))

    # Once when it came, and once to see that the values can be told apart.
    assert len(read_long_way) == 2
    assert first == third != second
    assert [event.rows for event in world.log.seen] == [1, 1, 1]
    assert world.log.seen[1].request == request(pixels(2))
    assert len({event.prediction_id for event in world.log.seen}) == 3


def test_statistics_count_both_ways_alike(world: World) -> None:
    for seed in range(5):
        world.infer(request(pixels(seed, rows=3)))

    counted = world.predictor.statistics.of(world.shelf.resolve("digits", "").release)
    assert (counted.success.count, counted.queue.count, counted.by_rows[3].count) == (5, 5, 5)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(["", "a", "another id"]),
            st.sampled_from([(), ("label",), ("label", "probabilities"), ("label", "label")]),
            st.sampled_from([0.0, 16.0, float("nan"), float("inf"), -0.0, 3e38]),
        ),
        max_size=8,
    )
)
def test_both_ways_answer_alike(graph: bytes, make_release: MakeRelease, calls: list[Any]) -> None:
    quick = World(graph, make_release)
    for rows, call_id, outputs, value in calls:
        values = pixels(rows, rows)
        values[-1, 3, 4] = value
        sent = oip.ModelInferRequest.FromString(request(values, id=call_id))
        for name in outputs:
            sent.outputs.add(name=name)
        slow = World(graph, make_release)  # which knows no call
        assert quick.infer(sent.SerializeToString()) == slow.infer(sent.SerializeToString())
        slow.compute.close()
    quick.compute.close()


def test_a_gap_and_a_passed_deadline_are_told_as_ever(world: World) -> None:
    values = pixels(1)
    world.infer(request(values))
    values[0, 0, 0] = np.nan
    assert world.infer(request(values))[0] is InvalidInput
    world.context.left_s = 0.0
    assert world.infer(request(pixels(1)))[0] is DeadlineExceeded


def test_another_version_answers_as_soon_as_it_is_released(world: World, make_graph: MakeGraph) -> None:
    before = world.infer(request(pixels(1)))
    world.release(make_graph(seed=5), version_id="sha256:" + "cd" * 32, ordinal=2, epoch=2)

    after, again = world.infer(request(pixels(1))), world.infer(request(pixels(1)))

    assert before != after == again
    assert oip.ModelInferResponse.FromString(after).model_version == "2"


def test_texts_go_the_long_way(make_graph: MakeGraph, make_release: MakeRelease, read_long_way: list[bytes]) -> None:
    world = World(make_graph(classes=["a", "bb"] * 5), make_release)
    answers = [world.infer(request(pixels(1))) for _ in range(3)]
    assert len(read_long_way) == 3
    assert len(set(answers)) == 1
    world.compute.close()


def test_contents_that_are_not_the_last_field_are_not_taken_for_it(world: World) -> None:
    contents = pixels(1).tobytes()
    tail = wire.head(known_calls._RAW_INPUT, len(contents)) + contents
    # Field 15, which nobody knows, ends with what looks like the contents.
    hostile = request(pixels(1)) + wire.head(15, len(tail)) + tail
    other = hostile[: -len(contents)] + pixels(2).tobytes()

    assert world.infer(hostile) == world.infer(other)


def test_what_is_known_is_bounded(graph: bytes, make_release: MakeRelease) -> None:
    release = make_release()
    version = LoadedVersion(release, EngineModel(graph, 64), Speed(0.0, 0.0), answer_prefix(release))
    known = KnownCalls()
    for number in range(3 * known_calls.MOST):
        sent = request(pixels(1), parameters={f"p{number}": oip.InferParameter(bool_param=True)})
        call = converters.to_call(converters.parse("ModelInfer", sent))
        known.learn(sent, call, version, ("label",))
        assert known.find(sent) is not None
        assert len(known._calls) <= known_calls.MOST
