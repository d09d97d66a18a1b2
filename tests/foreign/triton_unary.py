"""tritonclient's synchronous gRPC client, as its users call it."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from checks import refused, run
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

ROWS = np.linspace(0, 16, 192, dtype=np.float32).reshape(3, 8, 8)
EVERY_TYPE = {
    "bool": np.array([[True], [False]]),
    "int8": np.array([[-128], [127]], np.int8),
    "int16": np.array([[-32768], [32767]], np.int16),
    "int32": np.array([[-(2**31)], [2**31 - 1]], np.int32),
    "int64": np.array([[-(2**63)], [2**63 - 1]], np.int64),
    "uint8": np.array([[0], [255]], np.uint8),
    "uint16": np.array([[0], [65535]], np.uint16),
    "uint32": np.array([[0], [2**32 - 1]], np.uint32),
    "uint64": np.array([[0], [2**64 - 1]], np.uint64),
    "float16": np.array([[-0.5], [65504]], np.float16),
    "float": np.array([[np.pi], [-np.inf]], np.float32),
    "double": np.array([[np.pi], [1e300]], np.float64),
    "string": np.array([["grün".encode()], [b"blue"]], object),
}


def tensor(name: str, array: np.ndarray) -> triton.InferInput:
    found = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    found.set_data_from_numpy(array)
    return found


def pixels(rows: np.ndarray = ROWS) -> list[triton.InferInput]:
    return [tensor("pixels", rows)]


def check_the_server_says_what_it_is(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata.name == "headrace"
    assert "statistics" in metadata.extensions


def check_readiness_of_models(client: triton.InferenceServerClient) -> None:
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "2")
    for name, version in (("nope", ""), ("digits", "9")):
        with refused("NOT_FOUND"):
            client.is_model_ready(name, version)


def check_metadata_and_configuration_name_the_same_tensors(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata("digits")
    config = client.get_model_config("digits").config
    assert list(metadata.versions) == ["1", "2"]
    assert [(each.name, each.datatype, list(each.shape)) for each in (*metadata.inputs, *metadata.outputs)] == [
        ("pixels", "FP32", [-1, 8, 8]),
        ("probabilities", "FP32", [-1, 10]),
        ("label", "INT64", [-1]),
    ]
    assert config.max_batch_size > 0
    for ours, theirs in ((metadata.inputs, config.input), (metadata.outputs, config.output)):
        assert [(each.name, list(each.shape[1:])) for each in ours] == [(each.name, list(each.dims)) for each in theirs]
    as_json = client.get_model_config("digits", as_json=True)["config"]
    assert as_json["input"][0]["data_type"] == "TYPE_FP32"
    assert as_json["instance_group"] == [{"name": "digits", "count": 1, "kind": "KIND_CPU"}]
    assert as_json["version_policy"] == {"specific": {"versions": ["1", "2"]}}


def check_raw_answers_are_read_as_arrays(client: triton.InferenceServerClient) -> None:
    result = client.infer("digits", pixels(), request_id="call-7")
    probabilities, label = result.as_numpy("probabilities"), result.as_numpy("label")
    assert (probabilities.shape, probabilities.dtype) == ((3, 10), np.float32)
    assert label.tolist() == probabilities.argmax(axis=1).tolist()
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("call-7", "digits", "1")
    assert answer.parameters["variant"].string_param == "fp32"


def check_versions_are_named_in_every_way(client: triton.InferenceServerClient) -> None:
    for version, answered in (("", "1"), ("1", "1"), ("2", "2"), ("candidate", "2"), ("sha256:cdcd", "2")):
        assert client.infer("digits", pixels(), model_version=version).get_response().model_version == answered


def check_only_requested_outputs_come_in_their_order(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("label", "probabilities")]
    answer = client.infer("digits", pixels(), outputs=wanted).get_response()
    assert [output.name for output in answer.outputs] == ["label", "probabilities"]
    result = client.infer("digits", pixels(), outputs=wanted[:1])
    assert result.as_numpy("probabilities") is None
    assert result.as_numpy("label").shape == (3,)


def check_classes(client: triton.InferenceServerClient) -> None:
    whole = client.infer("digits", pixels()).as_numpy("probabilities")
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3), triton.InferRequestedOutput("label")]
    result = client.infer("digits", pixels(), outputs=wanted)
    classes = result.as_numpy("probabilities")
    assert (classes.shape, classes.dtype) == ((3, 3), np.object_)
    for row, strings in zip(whole, classes, strict=True):
        scores, places, labels = zip(*(text.decode().split(":") for text in strings), strict=True)
        assert [int(place) for place in places] == np.argsort(-row)[:3].tolist()
        assert labels == tuple(f"digit {place}" for place in places)
        assert np.allclose([float(score) for score in scores], np.sort(row)[::-1][:3], atol=1e-6)
    assert result.as_numpy("label").tolist() == whole.argmax(axis=1).tolist()


def check_every_data_type_comes_back_as_it_went(client: triton.InferenceServerClient) -> None:
    result = client.infer("types", [tensor(name, array) for name, array in EVERY_TYPE.items()])
    for name, array in EVERY_TYPE.items():
        got = result.as_numpy(f"{name}_out")
        assert (got.dtype, got.shape) == (array.dtype, array.shape), name
        assert got.tolist() == array.tolist(), name


def typed(name: str, array: np.ndarray, field: str) -> service_pb2.ModelInferRequest.InferInputTensor:
    found = service_pb2.ModelInferRequest.InferInputTensor(
        name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape
    )
    getattr(found.contents, field).extend(array.ravel().tolist())
    return found


TYPED_FIELDS = {
    "bool": "bool_contents",
    "int64": "int64_contents",
    "uint64": "uint64_contents",
    "float": "fp32_contents",
    "double": "fp64_contents",
    "string": "bytes_contents",
    **dict.fromkeys(("int8", "int16", "int32"), "int_contents"),
    **dict.fromkeys(("uint8", "uint16", "uint32"), "uint_contents"),
}


def check_typed_calls_are_answered_typed(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    inputs = [typed(name, EVERY_TYPE[name], field) for name, field in TYPED_FIELDS.items()]
    answer = stub.ModelInfer(service_pb2.ModelInferRequest(model_name="typed", inputs=inputs))
    assert not answer.raw_output_contents
    found = {output.name: output for output in answer.outputs}
    for name, field in TYPED_FIELDS.items():
        values = getattr(found[f"{name}_out"].contents, field)
        assert list(values) == EVERY_TYPE[name].ravel().tolist(), name


def check_a_half_float_has_no_typed_form(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    half = typed("float16", EVERY_TYPE["float16"], "fp32_contents")
    inputs = [*(typed(name, EVERY_TYPE[name], field) for name, field in TYPED_FIELDS.items()), half]
    with refused("INVALID_ARGUMENT", "input 'float16': expected raw contents, FP16 has no typed ones"):
        stub.ModelInfer(service_pb2.ModelInferRequest(model_name="types", inputs=inputs))


def check_an_answer_without_a_typed_form_is_raw(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    request = service_pb2.ModelInferRequest(model_name="halves")
    request.inputs.append(typed("x", np.array([[0.5], [2.0]], np.float32), "fp32_contents"))
    answer = stub.ModelInfer(request)
    assert np.frombuffer(answer.raw_output_contents[0], np.float16).tolist() == [0.5, 2.0]


def check_raw_and_typed_contents_do_not_mix(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    request = service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[ROWS.tobytes()])
    request.inputs.append(typed("pixels", ROWS, "fp32_contents"))
    with refused("INVALID_ARGUMENT", "expected raw or typed contents, got both"):
        stub.ModelInfer(request)


def check_errors_have_their_status(client: triton.InferenceServerClient) -> None:
    for status, words, arguments in (
        ("NOT_FOUND", "model 'nope' is not released", ("nope", pixels())),
        ("NOT_FOUND", "has no version '9'", ("digits", pixels(), "9")),
        ("INVALID_ARGUMENT", "an ordinal, a digest or an alias", ("digits", pixels(), "a b")),
        ("INVALID_ARGUMENT", "missing ['pixels']", ("digits", [])),
        ("INVALID_ARGUMENT", "unknown ['x']", ("digits", [*pixels(), tensor("x", ROWS)])),
        ("INVALID_ARGUMENT", "expected datatype FP32, got 'FP64'", ("digits", pixels(ROWS.astype(np.float64)))),
        ("INVALID_ARGUMENT", "dimension 1 should be 8", ("digits", pixels(ROWS[:, :4]))),
        ("INVALID_ARGUMENT", "expected 3 dimensions", ("digits", pixels(ROWS.reshape(3, 64)))),
        ("INVALID_ARGUMENT", "1 to 64 rows", ("digits", pixels(np.zeros((65, 8, 8), np.float32)))),
    ):
        with refused(status, words):
            client.infer(*arguments)
    with refused("INVALID_ARGUMENT", "output 'nope': expected one of ['probabilities', 'label']"):
        client.infer("digits", pixels(), outputs=[triton.InferRequestedOutput("nope")])
    with refused("INVALID_ARGUMENT", "expected numbers to classify"):
        inputs = [tensor(name, array) for name, array in EVERY_TYPE.items()]
        client.infer("types", inputs, outputs=[triton.InferRequestedOutput("string_out", class_count=1)])
    with refused("RESOURCE_EXHAUSTED", "larger than max"):
        client.infer("digits", pixels(np.zeros((9000, 8, 8), np.float32)))


def check_a_stream_of_calls(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        model = "nope" if number == 7 else "digits"
        client.async_stream_infer(model, pixels(), request_id=str(number), enable_empty_final_response=number == 8)
    told = [answers.get(timeout=30) for _ in range(50)]
    client.stop_stream()
    assert [number for number, (_, error) in enumerate(told) if error is not None] == [7]
    assert "model 'nope' is not released" in str(told[7][1])
    results = [result.get_response() for result, error in told if error is None]
    assert [result.id for result in results] == [str(number) for number in range(50) if number != 7]
    assert [result.id for result in results if "triton_final_response" in result.parameters] == ["8"]
    label, probabilities = told[-1][0].as_numpy("label"), told[-1][0].as_numpy("probabilities")
    assert label.tolist() == probabilities.argmax(axis=1).tolist()


def check_models_are_not_loaded_by_calls(client: triton.InferenceServerClient) -> None:
    for control in (client.load_model, client.unload_model):
        with refused("UNIMPLEMENTED", "by their releases"):
            control("digits")


def check_tracing_and_the_log_are_told_and_not_set(client: triton.InferenceServerClient) -> None:
    assert list(client.get_trace_settings().settings["trace_level"].value) == ["OFF"]
    assert client.get_trace_settings("digits", as_json=True)["settings"]["trace_rate"] == {"value": ["1000"]}
    assert client.get_log_settings().settings["log_error"].bool_param
    with refused("UNIMPLEMENTED", "not set by calls"):
        client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
    with refused("UNIMPLEMENTED", "not set by calls"):
        client.update_log_settings({"log_verbose_level": 1})


def check_shared_memory_is_off(client: triton.InferenceServerClient) -> None:
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    for status in (client.get_system_shared_memory_status, client.get_cuda_shared_memory_status):
        assert not status().regions
        with refused("NOT_FOUND", "shared memory region 'mine'"):
            status("mine")
    with refused("UNIMPLEMENTED", "send the contents"):
        client.register_system_shared_memory("mine", "/mine", 64)


def check_time_and_priority_are_kept_or_refused(client: triton.InferenceServerClient) -> None:
    assert client.infer("digits", pixels(), timeout=60_000_000).as_numpy("label").shape == (3,)
    with refused("DEADLINE_EXCEEDED", "model 'digits'"):
        client.infer("digits", pixels(), timeout=1)
    assert client.infer("digits", pixels(), priority=2).as_numpy("label").shape == (3,)
    with refused("INVALID_ARGUMENT", "parameter 'priority': expected 1"):
        client.infer("digits", pixels(), priority=6)


def check_the_index_of_the_repository(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index()
    assert [(each.name, each.version, each.state) for each in index.models if each.name == "digits"] == [
        ("digits", "1", "READY"),
        ("digits", "2", "READY"),
    ]


def check_statistics_of_one_model(client: triton.InferenceServerClient) -> None:
    def counted() -> service_pb2.ModelStatistics:
        (entry,) = client.get_inference_statistics("digits", "2").model_stats
        return entry

    before = counted()
    client.infer("digits", pixels(), model_version="2")
    after = counted()
    assert after.inference_count - before.inference_count == len(ROWS)
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.last_inference >= before.last_inference > 0 or before.inference_count == 0
    with refused("NOT_FOUND"):
        client.get_inference_statistics("nope")


def check_compressed_calls_and_metadata(client: triton.InferenceServerClient) -> None:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    plain = client.infer("digits", pixels(), headers=headers).as_numpy("probabilities")
    for algorithm in ("gzip", "deflate"):
        packed = client.infer("digits", pixels(), compression_algorithm=algorithm).as_numpy("probabilities")
        assert packed.tolist() == plain.tolist()


def check_callbacks(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    for number in range(20):
        client.async_infer(
            "digits",
            pixels(),
            callback=lambda result, error: answers.put(error or result.get_response().id),
            request_id=str(number),
        )
    assert {answers.get(timeout=30) for _ in range(20)} == {str(number) for number in range(20)}


def call(check: Any, address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        check(client._client_stub if "stub" in check.__annotations__ else client)


if __name__ == "__main__":
    run(globals(), call)
