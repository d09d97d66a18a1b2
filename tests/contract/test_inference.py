"""Inference on a real broker and a real cache: releases come in over Kafka, predictions go out over gRPC and Kafka."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from headrace import open_inference as oip
from headrace.events.v1.artifact_pb2 import Artifact
from headrace.events.v1.model_pb2 import CACHE_POLICY_REDIS, ClassVariants, ModelReleased, ServedVariant
from headrace.events.v1.prediction_pb2 import PredictionServed, PredictionsServed
from headrace_inference.settings import Settings
from headrace_inference.wiring import build
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode, encode
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.rpc.host import GrpcHost
from headrace_runtime.settings import KafkaSettings
from headrace_runtime.topics import PREDICTION_SERVED
from kafka import KafkaProducer
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.contract

ROW = np.linspace(0, 16, 64, dtype=np.float32).reshape(1, 8, 8)
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def settings(broker: Platform, tmp_path: Path) -> Settings:
    return Settings(
        kafka_bootstrap_servers=broker.bootstrap_servers,
        listen_address="127.0.0.1:0",
        store_url=str(tmp_path / "store"),
        work_dir=tmp_path / "work",
        redis_url=broker.redis_url,
        redis_timeout_ms=5000.0,
        metrics_address="",
        drain_s=0.0,
    )


@pytest.fixture
def model() -> str:
    return f"digits-{uuid.uuid4()}"


def brightness(bias: float) -> bytes:
    """Return a graph that answers with the mean of the pixels plus a bias."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    shift = helper.make_tensor("bias", TensorProto.FLOAT, [], [bias])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "bias"], ["probabilities"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch"])],
        [axes, shift],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(made.SerializeToString())


def release(settings: Settings, model: str, ordinal: int, **fields: Any) -> None:
    artifact = ObjectStore(settings.store_url).put(brightness(float(ordinal)))
    message = ModelReleased(
        model=model,
        alias="champion",
        epoch=ordinal,
        version_id="sha256:" + f"{ordinal:064d}",
        ordinal=ordinal,
        variant="fp32",
        pipeline="digits",
        dataset_id="dataset",
        run_id="run",
        cache=CACHE_POLICY_REDIS,
        **fields,
    )
    message.graph.uri, message.graph.digest, message.graph.size_bytes = (
        artifact.uri,
        artifact.digest,
        artifact.size_bytes,
    )
    outgoing = encode(message, source="test")
    producer = KafkaProducer(**settings.kafka_client())
    producer.send(outgoing.topic, outgoing.value, outgoing.key, headers=list(outgoing.headers)).get(timeout=30)
    producer.close()


@contextmanager
def serving(settings: Settings, model: str) -> Iterator[Any]:
    """Run the service until it serves the model; yield a channel to it."""
    service = build(settings)
    service.start()
    try:
        (host,) = (part for part in service._components if isinstance(part, GrpcHost))
        with grpc.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=f"model/{model}"), timeout=60
            )
            assert any(answer.status == SERVING for answer in watch)
            watch.cancel()
            yield channel
    finally:
        service.stop()


def infer(channel: Any, model: str, pixels: Any = ROW) -> Any:
    request = oip.ModelInferRequest(model_name=model)
    request.inputs.add(name="pixels", datatype="FP32", shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    call = channel.unary_unary(
        f"/{oip.SERVICE}/ModelInfer",
        request_serializer=oip.ModelInferRequest.SerializeToString,
        response_deserializer=oip.ModelInferResponse.FromString,
    )
    return call(request, timeout=30, metadata=(("traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01"),))


def value(answer: Any) -> float:
    return float(np.frombuffer(answer.raw_output_contents[0], np.float32)[0])


def served_predictions(settings: KafkaSettings, model: str, count: int) -> list[PredictionServed]:
    """Return the first `count` predictions of a model that were told."""
    found: list[PredictionServed] = []
    with LogReader(settings, "test") as reader:
        reader.start_at(dict.fromkeys(reader.partitions(PREDICTION_SERVED.name)))
        while len(found) < count:
            events = [decode(record, PredictionsServed) for record in reader.poll(1.0)]
            found += [one for event in events for one in event.predictions if one.model == model]
    return found


def test_a_release_becomes_predictions_in_kafka_and_in_the_cache(settings: Settings, model: str) -> None:
    release(settings, model, 1)
    with serving(settings, model) as channel:
        first, other = infer(channel, model), infer(channel, model, ROW + 1)
        again = infer(channel, model)
    assert [value(first), value(other)] == pytest.approx([ROW.mean() + 1, ROW.mean() + 2])
    with serving(settings, model) as channel:
        later = infer(channel, model)
    answers = [first, other, again, later]
    assert [answer.parameters["cached"].bool_param for answer in (first, other, later)] == [False, False, True]
    assert value(later) == value(again) == value(first)
    told = {prediction.prediction_id: prediction for prediction in served_predictions(settings, model, len(answers))}
    assert set(told) == {answer.parameters["prediction_id"].string_param for answer in answers}
    prediction = told[later.parameters["prediction_id"].string_param]
    assert prediction.cached
    assert oip.ModelInferResponse.FromString(prediction.response) == later
    assert TRACE_ID in prediction.traceparent


def test_a_newer_release_takes_over_and_an_older_one_never_does(settings: Settings, model: str) -> None:
    release(settings, model, 1)
    with serving(settings, model) as channel:
        assert value(infer(channel, model)) == pytest.approx(ROW.mean() + 1)
        release(settings, model, 3)
        release(settings, model, 2)
        last = f"{model}-last"
        release(settings, last, 1)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=f"model/{last}"), timeout=60
        )
        assert any(answer.status == SERVING for answer in watch)
        watch.cancel()
        answer = infer(channel, model)
        assert answer.model_version == "3"
        assert value(answer) == pytest.approx(ROW.mean() + 3)


def test_a_replica_whose_class_a_setting_overrides_answers_by_another_variant(settings: Settings, model: str) -> None:
    store = ObjectStore(settings.store_url)
    held = {name: store.put(brightness(bias)) for name, bias in (("int8", 10.0), ("full", 20.0), ("fp32", 30.0))}
    served = {
        name: ServedVariant(variant=name, graph=Artifact(uri=each.uri, digest=each.digest, size_bytes=each.size_bytes))
        for name, each in held.items()
    }
    classes = [
        ClassVariants(cpu_class=cpu_class, variants=[served[name]])
        for cpu_class, name in (("avx2", "int8"), ("avx512-vnni", "full"))
    ]
    release(settings, model, 1, classes=classes, unmeasured=served["fp32"])
    for cpu_class, variant, bias in (("avx512-vnni", "full", 20), ("arm64-i8mm", "fp32", 30)):
        with serving(settings.model_copy(update={"cpu_class": cpu_class}), model) as channel:
            answer = infer(channel, model)
        assert answer.parameters["variant"].string_param == variant
        assert value(answer) == pytest.approx(ROW.mean() + bias)


def test_a_restart_needs_no_object_store(settings: Settings, model: str, tmp_path: Path) -> None:
    release(settings, model, 1)
    with serving(settings, model):
        pass
    shutil.rmtree(tmp_path / "store")
    with serving(settings, model) as channel:
        assert value(infer(channel, model)) == pytest.approx(ROW.mean() + 1)


def test_predictions_are_right_without_a_cache(settings: Settings, model: str) -> None:
    release(settings, model, 1)
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with serving(nowhere, model) as channel:
        answers = [infer(channel, model) for _ in range(8)]
    assert [value(answer) for answer in answers] == [pytest.approx(ROW.mean() + 1)] * 8
    assert not any(answer.parameters["cached"].bool_param for answer in answers)


def test_predictions_are_answered_without_events_when_none_are_asked_for(settings: Settings, model: str) -> None:
    release(settings, model, 1)
    with serving(settings.model_copy(update={"publish_predictions": False}), model) as channel:
        silent = infer(channel, model)
    with serving(settings, model) as channel:
        told = infer(channel, model)
    assert value(silent) == value(told)
    (first,) = served_predictions(settings, model, 1)
    assert first.prediction_id == told.parameters["prediction_id"].string_param
