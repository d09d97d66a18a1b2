"""What clients of Triton ask about models, over one plane."""

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
from headrace_inference.core.releases import CachePolicy, Release
from headrace_inference.core.shelf import LoadedVersion, Shelf, Speed
from headrace_inference.transport.compute import Compute
from headrace_inference.transport.converters import answer_prefix
from headrace_inference.transport.plane import Plane
from headrace_inference.transport.predictor import Predictor
from headrace_runtime.cache.redis_cache import Lookup, Outcome
from headrace_runtime.errors import InvalidInput, NotFound, NotSupported
from headrace_runtime.rpc.admission import Capacity

MakeGraph = Callable[..., bytes]
MakeRelease = Callable[..., Release]

ROWS = np.linspace(0, 16, 192, dtype=np.float32).reshape(3, 8, 8)


class Context:
    def time_remaining(self) -> float | None:
        return None

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Nobody reads it."""


class Memory:
    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    async def get(self, key: bytes) -> Lookup:
        value = self.values.get(key)
        return Lookup(Outcome.MISS if value is None else Outcome.HIT, value)

    def put(self, key: bytes, value: bytes, _ttl_s: float | None = None) -> None:
        self.values[key] = value


class World:
    """A plane over the models put on its shelf."""

    def __init__(self, graph: bytes, make_release: MakeRelease) -> None:
        self.shelf = Shelf()
        self.compute = Compute(1, Capacity(calls=2, wait_s=60.0))
        hot: Any = HotPredictions(Memory())  # type: ignore[arg-type]
        self._plane = Plane(self.shelf, Predictor(self.shelf, hot, self.compute, NoLog()))
        self._model = EngineModel(graph, max_rows=64)
        self._make_release = make_release
        self.shelf.announce(["digits"], complete=True)

    def release(self, speed: Speed = Speed(0.0, 0.0), **fields: Any) -> None:  # noqa: B008 - it is frozen
        release = self._make_release(**fields)
        self.shelf.put(LoadedVersion(release, self._model, speed, answer_prefix(release)))

    def call(self, method: str, **fields: Any) -> Any:
        request_class, answer_class = oip.METHODS[method]
        answer = asyncio.run(self._plane.call(method, request_class(**fields).SerializeToString(), Context()))
        return answer_class.FromString(answer)

    def infer(self, rows: Any = ROWS, **fields: Any) -> Any:
        inputs = [{"name": "pixels", "datatype": "FP32", "shape": rows.shape}]
        return self.call(
            "ModelInfer", model_name="digits", inputs=inputs, raw_input_contents=[rows.tobytes()], **fields
        )

    def statistics(self, **fields: Any) -> Any:
        (entry,) = self.call("ModelStatistics", **fields).model_stats
        return entry


@pytest.fixture
def world(graph: bytes, make_release: MakeRelease) -> Iterator[World]:
    world = World(graph, make_release)
    yield world
    world.compute.close()


def test_the_configuration_tells_shapes_without_their_batch(world: World) -> None:
    world.release()
    world.release(alias="candidate", ordinal=3, version_id="sha256:" + "cd" * 32, cache=CachePolicy.REDIS)
    config = world.call("ModelConfig", name="digits").config
    assert (config.name, config.platform, config.backend) == ("digits", "onnxruntime_onnx", "onnxruntime")
    assert (config.max_batch_size, list(config.version_policy.specific.versions)) == (64, [1, 3])
    types = oip.ModelInput.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    tensors = [*config.input, *config.output]
    assert [(each.name, types[each.data_type].name, list(each.dims)) for each in tensors] == [
        ("pixels", "TYPE_FP32", [8, 8]),
        ("probabilities", "TYPE_FP32", [10]),
        ("label", "TYPE_INT64", []),
    ]
    assert not config.response_cache.enable
    assert world.call("ModelConfig", name="digits", version="3").config.response_cache.enable
    with pytest.raises(NotFound):
        world.call("ModelConfig", name="nope")


def test_statistics_count_calls_rows_and_failures(world: World) -> None:
    world.release()
    before = world.statistics(name="digits")
    assert (before.name, before.version, before.inference_count, before.last_inference) == ("digits", "1", 0, 0)
    world.infer()
    world.infer(ROWS[:1])
    world.infer()
    for wrong in (ROWS.astype(np.float64), ROWS[:, :4]):
        with pytest.raises(InvalidInput):
            world.infer(wrong)
    counted = world.statistics(name="digits", version="1")
    stats = counted.inference_stats
    assert (counted.inference_count, counted.execution_count) == (7, 3)
    assert (stats.success.count, stats.fail.count, stats.queue.count, stats.cache_hit.count) == (3, 2, 3, 0)
    assert [(each.batch_size, each.compute_infer.count) for each in counted.batch_stats] == [(1, 1), (3, 2)]
    steps = (stats.compute_input, stats.compute_infer, stats.compute_output)
    assert all(step.count == 3 and step.ns > 0 for step in steps)
    assert sum(step.ns for step in steps) + stats.queue.ns <= stats.success.ns
    assert sum(each.compute_infer.ns for each in counted.batch_stats) == pytest.approx(stats.compute_infer.ns, abs=3)
    assert counted.last_inference > 1_700_000_000_000


def test_what_came_from_the_cache_was_not_computed(world: World) -> None:
    world.release(cache=CachePolicy.REDIS)
    for _ in range(4):
        world.infer()
    counted = world.statistics(name="digits")
    stats = counted.inference_stats
    assert (counted.inference_count, counted.execution_count) == (3, 1)
    assert (stats.success.count, stats.queue.count) == (4, 4)
    assert (stats.cache_hit.count, stats.cache_miss.count, stats.compute_infer.count) == (3, 1, 1)
    assert stats.cache_hit.ns > 0


def test_a_model_in_threads_is_told_without_its_wait(world: World) -> None:
    world.release(speed=Speed(1.0, 0.0))
    world.infer()
    stats = world.statistics(name="digits").inference_stats
    assert (stats.queue.count, stats.compute_infer.count) == (1, 1)
    assert stats.queue.ns > 0


def test_statistics_outlive_another_release_of_the_version(world: World) -> None:
    world.release()
    world.infer()
    world.release(epoch=2)
    assert world.statistics(name="digits").inference_count == 3


def test_statistics_of_all_models_and_versions(world: World) -> None:
    world.release()
    world.release(alias="candidate", ordinal=2, version_id="sha256:" + "cd" * 32)
    world.release(model="letters", ordinal=7)
    everything = world.call("ModelStatistics").model_stats
    assert [(each.name, each.version) for each in everything] == [("digits", "1"), ("digits", "2"), ("letters", "7")]
    assert [each.version for each in world.call("ModelStatistics", name="digits").model_stats] == ["1", "2"]
    with pytest.raises(NotFound):
        world.call("ModelStatistics", name="nope")


def test_the_index_tells_what_is_ready_and_what_loads(world: World) -> None:
    world.release()
    world.shelf.announce(["digits", "late"], complete=True)
    models = world.call("RepositoryIndex").models
    assert [(each.name, each.version, each.state, each.reason) for each in models] == [
        ("digits", "1", "READY", ""),
        ("late", "", "LOADING", "released, not loaded yet"),
    ]
    assert [each.name for each in world.call("RepositoryIndex", ready=True).models] == ["digits"]


def test_statistics_of_a_version_need_its_model(world: World) -> None:
    world.release()
    with pytest.raises(InvalidInput, match="expected the name of a model beside version '1', got none"):
        world.call("ModelStatistics", version="1")


def test_tracing_is_off_and_not_set_by_calls(world: World) -> None:
    for model in ("", "digits"):
        settings = world.call("TraceSetting", model_name=model).settings
        assert list(settings["trace_level"].value) == ["OFF"]
        assert set(settings) == {
            "trace_file",
            "trace_level",
            "trace_rate",
            "trace_count",
            "log_frequency",
            "trace_mode",
        }
    with pytest.raises(NotFound):
        world.call("TraceSetting", model_name="nope")
    with pytest.raises(NotSupported, match="not set by calls"):
        world.call("TraceSetting", settings={"trace_level": {"value": ["TIMESTAMPS"]}})


def test_the_log_is_told_and_not_set_by_calls(world: World) -> None:
    settings = world.call("LogSettings").settings
    assert settings["log_error"].bool_param
    assert (settings["log_file"].string_param, settings["log_format"].string_param) == ("", "default")
    with pytest.raises(NotSupported, match="HEADRACE_LOG_LEVEL"):
        world.call("LogSettings", settings={"log_verbose_level": {"uint32_param": 4}})


@pytest.mark.parametrize("kind", ["System", "Cuda"])
def test_there_is_no_shared_memory(world: World, kind: str) -> None:
    assert not world.call(f"{kind}SharedMemoryStatus").regions
    with pytest.raises(NotFound, match=f"unable to find {kind.lower()} shared memory region 'mine'"):
        world.call(f"{kind}SharedMemoryStatus", name="mine")
    with pytest.raises(NotSupported, match="send the contents"):
        world.call(f"{kind}SharedMemoryRegister", name="mine", byte_size=64)
    for name in ("", "mine"):  # what clients do before they begin
        world.call(f"{kind}SharedMemoryUnregister", name=name)


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_models_come_and_go_by_releases_alone(world: World, method: str) -> None:
    with pytest.raises(NotSupported, match="by their releases, not by calls"):
        world.call(method, model_name="digits")


def classified(count: Any, name: str = "probabilities") -> list[Any]:
    output = oip.ModelInferRequest.InferRequestedOutputTensor(name=name)
    if isinstance(count, int):
        output.parameters["classification"].int64_param = count
    else:
        output.parameters["classification"].string_param = count
    return [output]


def test_an_output_is_answered_as_its_highest_classes(world: World) -> None:
    world.release(cache=CachePolicy.REDIS)
    whole = np.frombuffer(world.infer().raw_output_contents[0], np.float32).reshape(3, 10)
    answer = world.infer(outputs=classified(2))
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("probabilities", "BYTES", [3, 2])
    strings = answer.raw_output_contents[0]
    best = [f"{row.max():f}:{row.argmax()}".encode() for row in whole]
    assert strings[4 : 4 + len(best[0])] == best[0]
    assert all(each in strings for each in best)
    # What is kept is the whole output: other classes come from it, and the output itself.
    assert world.infer(outputs=classified(1)).parameters["cached"].bool_param
    again = world.infer(outputs=classified(0))
    assert (again.parameters["cached"].bool_param, again.raw_output_contents[0]) == (True, whole.tobytes())


def test_a_typed_call_gets_its_classes_typed(world: World) -> None:
    world.release()
    contents = oip.InferTensorContents(fp32_contents=ROWS[0].ravel().tolist())
    inputs = [{"name": "pixels", "datatype": "FP32", "shape": [1, 8, 8], "contents": contents}]
    answer = world.call("ModelInfer", model_name="digits", inputs=inputs, outputs=classified(3))
    assert (len(answer.outputs[0].contents.bytes_contents), list(answer.raw_output_contents)) == (3, [])


@pytest.mark.parametrize("count", [-1, "two"])
def test_a_number_of_classes_must_be_one(world: World, count: Any) -> None:
    world.release()
    with pytest.raises(InvalidInput, match="output 'probabilities': expected a number of classes as int64"):
        world.infer(outputs=classified(count))


def test_strings_have_no_classes(make_graph: MakeGraph, make_release: MakeRelease) -> None:
    world = World(make_graph(classes=[f"class {place}" for place in range(10)]), make_release)
    world.release()
    with pytest.raises(InvalidInput, match="output 'label': expected numbers to classify"):
        world.infer(outputs=classified(1, "label"))
    world.compute.close()
