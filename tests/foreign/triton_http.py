"""tritonclient's HTTP client, as its users call it: the address of the REST port, then that of the gRPC port."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as triton
from checks import refused, run
from triton_unary import EVERY_TYPE, ROWS
from triton_unary import tensor as grpc_tensor
from tritonclient.utils import np_to_triton_dtype

GRPC = sys.argv[2]


def tensor(name: str, array: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    found = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def pixels(rows: np.ndarray = ROWS, *, binary: bool = True) -> list[triton.InferInput]:
    return [tensor("pixels", rows, binary=binary)]


def check_the_server_says_what_it_is(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "headrace"
    assert {"binary_tensor_data", "statistics"} <= set(metadata["extensions"])


def check_readiness_of_models(client: triton.InferenceServerClient) -> None:
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "2")
    assert not client.is_model_ready("nope")


def check_metadata_and_configuration(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata("digits")
    assert metadata["versions"] == ["1", "2"]
    assert [(each["name"], each["datatype"], each["shape"]) for each in metadata["inputs"] + metadata["outputs"]] == [
        ("pixels", "FP32", [-1, 8, 8]),
        ("probabilities", "FP32", [-1, 10]),
        ("label", "INT64", [-1]),
    ]
    assert client.get_model_config("digits")["max_batch_size"] > 0


def check_json_and_binary_give_the_bytes_of_grpc(client: triton.InferenceServerClient) -> None:
    with over_grpc.InferenceServerClient(GRPC) as other:
        expected = other.infer("digits", [grpc_tensor("pixels", ROWS)])
    for binary_in in (True, False):
        for binary_out in (True, False):
            names = ("probabilities", "label")
            outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
            result = client.infer("digits", pixels(binary=binary_in), outputs=outputs, request_id="call-7")
            assert result.get_response()["id"] == "call-7"
            for name in names:
                assert result.as_numpy(name).tobytes() == expected.as_numpy(name).tobytes(), (binary_in, binary_out)


def check_every_data_type_comes_back_as_it_went(client: triton.InferenceServerClient) -> None:
    result = client.infer("types", [tensor(name, array) for name, array in EVERY_TYPE.items()])
    # JSON has no infinity, and tritonclient sends half floats in no other way than as bytes.
    as_json = {name: array for name, array in EVERY_TYPE.items() if name != "float16"}
    as_json["float"] = np.array([[np.pi], [3e38]], np.float32)
    inputs = [tensor(name, array, binary=False) for name, array in as_json.items()]
    outputs = [triton.InferRequestedOutput(f"{name}_out", binary_data=False) for name in as_json]
    answers = (result, EVERY_TYPE), (client.infer("typed", inputs, outputs=outputs), as_json)
    for answer, sent in answers:
        for name, array in sent.items():
            got = answer.as_numpy(f"{name}_out")
            expected = array.astype(str).tolist() if got.dtype.kind == "U" else array.tolist()
            assert _texts(got.tolist()) == _texts(expected), name


def _texts(rows: Any) -> Any:
    return [[each.decode() if isinstance(each, bytes) else each for each in row] for row in rows]


def check_classes(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
    classes = client.infer("digits", pixels(), outputs=wanted).as_numpy("probabilities")
    assert classes.shape == (3, 3)
    assert classes[0][0].decode().endswith(":digit 0") or b"digit" in classes[0][0]


def check_errors_have_their_status(client: triton.InferenceServerClient) -> None:
    for status, words, arguments in (
        ("404", "model 'nope' is not released", ("nope", pixels())),
        ("404", "has no version '9'", ("digits", pixels(), "9")),
        ("400", "missing ['pixels']", ("digits", [])),
        ("400", "expected datatype FP32, got 'FP64'", ("digits", pixels(ROWS.astype(np.float64)))),
        ("400", "1 to 64 rows", ("digits", pixels(np.zeros((65, 8, 8), np.float32)))),
        ("413", "2000000", ("digits", pixels(np.zeros((9000, 8, 8), np.float32)))),
    ):
        with refused(status, words):
            client.infer(*arguments)
    with refused("504", "model 'digits'"):
        client.infer("digits", pixels(), timeout=1)


def check_the_index_and_the_statistics(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index()
    assert [each["version"] for each in index if each["name"] == "digits"] == ["1", "2"]
    client.infer("digits", pixels(), model_version="2")
    (entry,) = client.get_inference_statistics("digits", "2")["model_stats"]
    assert entry["inference_stats"]["success"]["count"] >= 1


def check_many_calls_at_once(client: triton.InferenceServerClient) -> None:
    asked = [client.async_infer("digits", pixels(), request_id=str(number)) for number in range(20)]
    assert [each.get_result().get_response()["id"] for each in asked] == [str(number) for number in range(20)]


def call(check: Any, address: str) -> None:
    with triton.InferenceServerClient(address, concurrency=4) as client:
        check(client)


if __name__ == "__main__":
    run({name: check for name, check in globals().items() if getattr(check, "__module__", "") == __name__}, call)
