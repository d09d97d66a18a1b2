from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
import pytest
from headrace import open_inference as oip
from headrace.events.v1.prediction_pb2 import PredictionServed
from headrace_inference.adapters import metrics
from headrace_inference.adapters.engine_model import EngineModel
from headrace_inference.adapters.hot_predictions import HotPredictions
from headrace_inference.core import metrics as call_metrics
from headrace_inference.core.releases import CachePolicy, Release
from headrace_inference.core.served import MAX_EVENT_PART_BYTES, Served
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix, to_served
from headrace_inference.transport.plane import EXTENSIONS, Plane
from headrace_inference.transport.predictor import PREDICTION_ID, Predictor
from headrace_runtime.cache.redis_cache import Lookup, Outcome
from headrace_runtime.errors import DeadlineExceeded, HeadraceError, InvalidInput, NotFound, Unavailable
from headrace_runtime.rpc.admission import Capacity
from onnx import helper

MakeGraph = Callable[..., bytes]
MakeRelease = Callable[..., Release]

ROW = np.linspace(0, 16, 64, dtype=np.float32).reshape(1, 8, 8)
QUICK, SLOW = Speed(0.0, 0.0), Speed(1.0, 0.0)


class Log:
    def __init__(self) -> None:
        self.seen: list[PredictionServed] = []

    async def record(self, served: Served) -> None:
        self.add(served)

    def add(self, served: Served) -> None:
        self.seen += to_served([served.without_large_parts()]).predictions


class Context:
    """What a transport would tell of a call."""

    def __init__(self, left_s: float | None = None) -> None:
        self._left_s = left_s
        self.metadata: dict[str, str] = {}
        self.sent: tuple[tuple[str, str], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self.sent

    def time_remaining(self) -> float | None:
        return self._left_s

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        self.metadata = dict(metadata)


class Memory:
    """A cache as the adapter of Redis behaves, in a dictionary; `broken` says how every look-up ends."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.ttls_s: list[float | None] = []
        self.broken: Outcome | None = None

    async def get(self, key: bytes) -> Lookup:
        if self.broken is not None:
            return Lookup(self.broken)
        value = self.values.get(key)
        return Lookup(Outcome.MISS if value is None else Outcome.HIT, value)

    def put(self, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        self.values[key] = value
        self.ttls_s.append(ttl_s)


class World:
    """A plane over one model, digits, with everything around it in sight.

    Calls are answered as they arrive where that can be (`at_once`), or all of them in the event loop.
    """

    def __init__(self, graph: bytes, make_release: MakeRelease, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.shelf, self.log, self.memory = Shelf(), Log(), Memory()
        self.compute = Compute(1, Capacity(calls=2, wait_s=60.0))
        hot: Any = HotPredictions(self.memory)  # type: ignore[arg-type]
        self.plane = Plane(self.shelf, Predictor(self.shelf, hot, self.compute, self.log))
        self.model = EngineModel(graph, max_rows=64)
        self._make_release = make_release
        self.release()
        self.shelf.announce(["digits", "late"], complete=True)

    def release(self, speed: Speed = QUICK, model: Any = None, **fields: Any) -> LoadedVersion:
        release = self._make_release(**fields)
        loaded = LoadedVersion(release, model or self.model, speed, answer_prefix(release))
        self.shelf.put(loaded)
        return loaded

    def call(self, method: str, request: Any, context: Context | None = None) -> Any:
        sent, context = request.SerializeToString(), context or Context()
        answer = self.plane.infer_now(sent, context) if self.at_once and method == "ModelInfer" else None
        if answer is None:
            answer = asyncio.run(self.plane.call(method, sent, context))
        return oip.METHODS[method][1].FromString(answer)

    def infer(self, request: Any, context: Context | None = None) -> Any:
        return self.call("ModelInfer", request, context)


@pytest.fixture(params=[True, False], ids=["at once", "in the loop"])
def world(graph: bytes, make_release: MakeRelease, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(graph, make_release, at_once=request.param)
    yield world
    world.compute.close()


def raw_request(pixels: Any = ROW, **fields: Any) -> Any:
    request = oip.ModelInferRequest(**{"model_name": "digits", "raw_input_contents": [pixels.tobytes()]} | fields)
    request.inputs.add(name="pixels", datatype="FP32", shape=pixels.shape)
    return request


def typed_request(pixels: Any = ROW, **fields: Any) -> Any:
    request = oip.ModelInferRequest(**{"model_name": "digits"} | fields)
    tensor = request.inputs.add(name="pixels", datatype="FP32", shape=pixels.shape)
    tensor.contents.fp32_contents.extend(pixels.ravel().tolist())
    return request


def parameters(answer: Any) -> dict[str, Any]:
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in answer.parameters.items()}


def test_raw_contents_are_answered_raw(world: World) -> None:
    context = Context()
    answer = world.infer(raw_request(id="call-7"), context)
    probabilities, label = world.model.run({"pixels": ROW}, ["probabilities", "label"])
    assert (answer.model_name, answer.model_version, answer.id) == ("digits", "1", "call-7")
    assert [(output.name, output.datatype, list(output.shape)) for output in answer.outputs] == [
        ("probabilities", "FP32", [1, 10]),
        ("label", "INT64", [1]),
    ]
    assert list(answer.raw_output_contents) == [probabilities.tobytes(), label.tobytes()]
    assert not any(output.HasField("contents") for output in answer.outputs)
    told = parameters(answer)
    prediction_id = told.pop("prediction_id")
    assert prediction_id == context.metadata[PREDICTION_ID]
    assert prediction_id[14] == "7"
    assert told == {
        "version_id": "sha256:" + "ab" * 32,
        "variant": "fp32",
        "cached": False,
        "dataset_id": "sha256:" + "da" * 32,
        "run_id": "run-1",
    }


def test_typed_contents_are_answered_typed(world: World) -> None:
    answer, raw = world.infer(typed_request()), world.infer(raw_request())
    assert not answer.raw_output_contents
    probabilities, label = answer.outputs
    np.testing.assert_array_equal(
        np.array(probabilities.contents.fp32_contents, np.float32),
        np.frombuffer(raw.raw_output_contents[0], np.float32),
    )
    assert list(label.contents.int64_contents) == np.frombuffer(raw.raw_output_contents[1], np.int64).tolist()


def test_strings_are_bytes(make_graph: MakeGraph, make_release: MakeRelease) -> None:
    world = World(make_graph(classes=[f"n°{number}" for number in range(10)]), make_release)
    raw, typed = world.infer(raw_request()), world.infer(typed_request())
    (label,) = world.model.run({"pixels": ROW}, ["label"])
    assert raw.outputs[1].datatype == "BYTES"
    assert raw.raw_output_contents[1] == b"\x04\0\0\0" + str(label[0]).encode()
    assert list(typed.outputs[1].contents.bytes_contents) == [str(label[0]).encode()]
    world.compute.close()


def test_outputs_come_as_asked_for(world: World) -> None:
    request = raw_request()
    for name in ("label", "probabilities"):
        request.outputs.add(name=name)
    assert [output.name for output in world.infer(request).outputs] == ["label", "probabilities"]
    del request.outputs[1:]
    answer = world.infer(request)
    assert ([output.name for output in answer.outputs], len(answer.raw_output_contents)) == (["label"], 1)


def test_every_row_of_a_batch_is_answered(world: World) -> None:
    batch = np.random.default_rng(0).random((5, 8, 8), np.float32) * 16
    together = np.frombuffer(world.infer(raw_request(batch)).raw_output_contents[1], np.int64)
    alone = [np.frombuffer(world.infer(raw_request(row[None])).raw_output_contents[1], np.int64)[0] for row in batch]
    assert together.tolist() == alone


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (raw_request(model_name="nope"), NotFound, "model 'nope' is not released"),
        (raw_request(model_name="late"), Unavailable, "model 'late' is released but not loaded yet"),
        (raw_request(model_version="2"), NotFound, "has no version '2' here; served: 1 (champion)"),
        (raw_request(ROW.reshape(1, 64)), InvalidInput, "input 'pixels': expected 3 dimensions [-1, 8, 8], got 2"),
        (raw_request(np.zeros((65, 8, 8), np.float32)), InvalidInput, "dimension 0 should be 1 to 64 rows"),
    ],
)
def test_what_cannot_be_answered_has_a_name(
    world: World, request_: Any, error: type[HeadraceError], message: str
) -> None:
    with pytest.raises(error) as caught:
        world.infer(request_)
    assert message in str(caught.value)
    assert not world.log.seen


def test_bytes_that_are_no_request_are_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"expected an inference\.ModelInferRequest"):
        asyncio.run(world.plane.call("ModelInfer", b"\xff\xff", Context()))
    with pytest.raises(InvalidInput, match=r"expected an inference\.ModelInferRequest"):
        world.plane.infer_now(b"\xff\xff", Context())


@pytest.mark.parametrize("which", ["inputs", "outputs"])
def test_shared_memory_is_refused(world: World, which: str) -> None:
    request = raw_request(outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="label")])
    getattr(request, which)[0].parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(InvalidInput, match="shared memory is not supported, send the contents"):
        world.infer(request)


def test_an_answer_is_told_as_it_was_given(world: World) -> None:
    request, context = raw_request(np.repeat(ROW, 3, axis=0)), Context()
    answer = world.infer(request, context)
    (served,) = world.log.seen
    assert (served.prediction_id, served.release.alias) == (context.metadata[PREDICTION_ID], "champion")
    assert (served.model, served.version_id, served.variant) == ("digits", "sha256:" + "ab" * 32, "fp32")
    found = (served.rows, served.cached, served.release.epoch, served.HasField("large"), served.duration_us > 0)
    assert found == (3, False, 1, False, True)
    assert (served.request, oip.ModelInferResponse.FromString(served.response)) == (request.SerializeToString(), answer)


def test_a_large_call_is_told_without_its_request(world: World) -> None:
    request = raw_request(parameters={"note": oip.InferParameter(string_param="x" * MAX_EVENT_PART_BYTES)})
    world.infer(request)
    (served,) = world.log.seen
    assert (served.request, bool(served.response), served.large.response_digest) == (b"", True, "")
    assert served.large.request_digest == f"sha256:{sha256(request.SerializeToString()).hexdigest()}"


@pytest.fixture
def cached_world(world: World) -> World:
    world.release(cache=CachePolicy.REDIS)
    return world


def test_the_same_inputs_are_computed_once(cached_world: World) -> None:
    answers = [
        cached_world.infer(request)
        for request in (raw_request(id="1"), raw_request(id="2"), typed_request(), raw_request(ROW + 1))
    ]
    assert [parameters(answer)["cached"] for answer in answers] == [False, True, True, False]
    assert [served.cached for served in cached_world.log.seen] == [False, True, True, False]
    assert answers[0].raw_output_contents == answers[1].raw_output_contents
    assert answers[1].id == "2"
    np.testing.assert_array_equal(
        np.array(answers[2].outputs[0].contents.fp32_contents, np.float32),
        np.frombuffer(answers[0].raw_output_contents[0], np.float32),
    )
    ids = {parameters(answer)["prediction_id"] for answer in answers}
    assert len(ids) == len(answers)


def test_a_release_says_how_long_its_answers_are_kept(cached_world: World) -> None:
    cached_world.infer(raw_request())
    cached_world.release(cache=CachePolicy.REDIS, cache_ttl_s=60)
    cached_world.infer(raw_request(ROW + 1))
    assert cached_world.memory.ttls_s == [None, 60]


def test_asking_for_all_outputs_by_name_is_the_same_call(cached_world: World) -> None:
    cached_world.infer(raw_request())
    named = raw_request()
    for name in ("probabilities", "label"):
        named.outputs.add(name=name)
    assert parameters(cached_world.infer(named))["cached"]


def test_another_graph_never_answers_from_the_cache_of_the_old_one(
    cached_world: World, make_graph: MakeGraph, make_release: MakeRelease
) -> None:
    first = cached_world.infer(raw_request())
    other = make_graph(seed=9)
    graph = make_release().graph
    cached_world.release(
        model=EngineModel(other, 64),
        epoch=2,
        ordinal=2,
        cache=CachePolicy.REDIS,
        graph=type(graph)("", "sha256:" + "9" * 64, 1),
    )
    second = cached_world.infer(raw_request())
    assert not parameters(second)["cached"]
    assert first.raw_output_contents[0] != second.raw_output_contents[0]


def test_without_caching_nothing_is_kept(world: World) -> None:
    world.infer(raw_request())
    assert world.memory.values == {}


@pytest.mark.parametrize("broken", [Outcome.ERROR, Outcome.SKIPPED])
def test_answers_are_right_without_the_cache(cached_world: World, broken: Outcome) -> None:
    expected = cached_world.infer(raw_request()).raw_output_contents
    cached_world.memory.broken = broken
    answer = cached_world.infer(raw_request())
    assert answer.raw_output_contents == expected
    assert not parameters(answer)["cached"]


def test_a_damaged_value_is_counted_and_computed_again(cached_world: World) -> None:
    corrupt = metrics.CACHE.labels("digits", "corrupt")
    expected, before = cached_world.infer(raw_request()).raw_output_contents, corrupt._value.get()
    ((key, value),) = cached_world.memory.values.items()
    cached_world.memory.values[key] = value[:-1] + bytes([value[-1] ^ 1])
    answer = cached_world.infer(raw_request())
    assert (answer.raw_output_contents, parameters(answer)["cached"]) == (expected, False)
    assert corrupt._value.get() == before + 1
    assert parameters(cached_world.infer(raw_request()))["cached"]


@pytest.mark.parametrize("speed", [QUICK, SLOW])
def test_a_call_whose_deadline_passed_is_not_computed(world: World, speed: Speed) -> None:
    world.release(speed=speed)
    with pytest.raises(DeadlineExceeded, match="model 'digits': the deadline passed before the model was asked"):
        world.infer(raw_request(), Context(left_s=0.0))
    assert parameters(world.infer(raw_request(), Context(left_s=30.0)))["variant"] == "fp32"


def test_calls_are_counted_by_outcome(world: World) -> None:
    def counts() -> list[float]:
        labels = [("digits", "1", "ok"), ("digits", "1", "invalid_input"), ("", "", "not_found")]
        return [call_metrics.REQUESTS.labels(*each)._value.get() for each in labels]

    before = counts()
    world.infer(raw_request())
    for wrong in (raw_request(ROW.reshape(1, 64)), raw_request(model_name="nope"), raw_request(model_version="9")):
        with pytest.raises(HeadraceError):
            world.infer(wrong)
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [1, 1, 2]


def test_the_server_tells_what_it_is(world: World) -> None:
    assert world.call("ServerLive", oip.ServerLiveRequest()).live
    assert not world.call("ServerReady", oip.ServerReadyRequest()).ready
    world.shelf.ready = True
    assert world.call("ServerReady", oip.ServerReadyRequest()).ready
    metadata = world.call("ServerMetadata", oip.ServerMetadataRequest())
    assert (metadata.name, bool(metadata.version), list(metadata.extensions)) == (
        "headrace",
        True,
        list(EXTENSIONS),
    )


def test_readiness_of_a_model(world: World) -> None:
    assert world.call("ModelReady", oip.ModelReadyRequest(name="digits")).ready
    assert world.call("ModelReady", oip.ModelReadyRequest(name="digits", version="1")).ready
    assert not world.call("ModelReady", oip.ModelReadyRequest(name="late")).ready
    for unknown in (oip.ModelReadyRequest(name="nope"), oip.ModelReadyRequest(name="digits", version="2")):
        with pytest.raises(NotFound):
            world.call("ModelReady", unknown)


def test_metadata_of_a_model(world: World) -> None:
    world.release(alias="candidate", ordinal=12)
    metadata = world.call("ModelMetadata", oip.ModelMetadataRequest(name="digits"))
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("digits", ["1", "12"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in (*metadata.inputs, *metadata.outputs)] == [
        ("pixels", "FP32", [-1, 8, 8]),
        ("probabilities", "FP32", [-1, 10]),
        ("label", "INT64", [-1]),
    ]
    assert not any(each.parameters for each in metadata.outputs)


def test_metadata_tells_what_the_places_of_an_answer_stand_for(world: World, graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    helper.set_model_props(model, {"headrace.labels": '{"probabilities": ["cat", "d\u00f6g"]}'})
    world.release(model=EngineModel(model.SerializeToString(), max_rows=64), epoch=2)
    metadata = world.call("ModelMetadata", oip.ModelMetadataRequest(name="digits"))
    told = [json.loads(each.parameters["labels"].string_param) for each in metadata.outputs if each.parameters]
    assert told == [["cat", "d\u00f6g"]]
