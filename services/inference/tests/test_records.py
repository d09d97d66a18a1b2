"""Records as producers send them, at each door: answers of a call with the fields, and rejections as ingestion's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from headrace import open_inference as oip
from headrace.inference.v1.record_service_pb2 import PredictRecordsRequest, PredictRecordsResponse, SentRecord
from headrace_client.errors import RowProblem, RowsInvalid
from headrace_client.selecting import selected_rows
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline, load_pipeline
from headrace_inference.core.specs import Spec
from headrace_inference.transport.rest import openapi

PIXELS = np.linspace(0, 16, 64, dtype=np.float32)
DOCUMENT: dict[str, Any] = {
    "apiVersion": "headrace/v1",
    "kind": "Pipeline",
    "metadata": {"name": "scans"},
    "stream": {
        "topic": "scans",
        "select": "_id AS id, payload.scan AS pixels, kind AS kind",
        "schema": [
            {"name": "id", "type": "string", "role": "id"},
            {"name": "pixels", "type": "float32", "shape": [8, 8], "role": "feature"},
            {"name": "kind", "type": "int32", "role": "label"},
        ],
    },
    "train": {"model": "digits", "network": {"kind": "mlp", "hidden": [8]}, "epochs": 1},
}
HOSTILE = [
    b"",
    b"not JSON",
    b'{"_id": "a", "_id": "b"}',
    b'{"_id": 7, "payload": {"scan": []}}',
    b'{"_id": "a", "payload": {"scan": [1, 2]}}',
    b'{"_id": "a", "payload": {"scan": NaN}}',
    json.dumps({"_id": "a", "kind": "x", "payload": {"scan": PIXELS.tolist()}}).encode(),
    json.dumps({"_id": "a", "kind": 1, "payload": {"scan": [1e39] * 64}}).encode(),
    b"[" * 5_000,
]


def record(factor: float = 1.0, **more: Any) -> bytes:
    return json.dumps({"_id": "a", "payload": {"scan": (PIXELS * factor).tolist()}, **more}).encode()


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(json.dumps(DOCUMENT))


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, rest_server: Callable[..., Any], pipeline: Pipeline
) -> Iterator[Any]:
    server = rest_server(tmp_path_factory.mktemp("records"))
    server.specs.put("scans", Spec(pipeline.digest, pipeline.canonical_json()))
    server.release(pipeline="scans")
    yield server
    server.host.stop()


def over_grpc(server: Any, *values: bytes, **asked: Any) -> PredictRecordsResponse:
    request = PredictRecordsRequest(model="digits", records=[SentRecord(value=value) for value in values], **asked)
    with grpc.insecure_channel(f"127.0.0.1:{server.host.port}") as channel:
        call: Any = channel.unary_unary(
            "/headrace.inference.v1.RecordService/PredictRecords",
            response_deserializer=PredictRecordsResponse.FromString,
        )
        answer: PredictRecordsResponse = call(request.SerializeToString(), timeout=60)
        return answer


def over_rest(server: Any, body: bytes, kind: str = "application/json", **headers: str) -> Any:
    return server.ask("POST", "/v2/models/digits/records", body, {"content-type": kind, **headers})


def test_records_are_answered_as_a_call_with_their_fields(server: Any, pipeline: Pipeline) -> None:
    call = oip.ModelInferRequest(model_name="digits")
    call.inputs.add(name="pixels", datatype="FP32", shape=[2, 8, 8])
    call.raw_input_contents.append(np.stack([PIXELS, PIXELS * 0.5]).astype("<f4").tobytes())
    expected = server.over_grpc(call)
    server.log.seen.clear()
    answer = over_grpc(server, record(), b"broken", record(0.5, kind=3))
    assert [each.WhichOneof("outcome") for each in answer.answers] == ["prediction", "rejection", "prediction"]
    assert server.log.seen[0].request == call.SerializeToString(), "one call of the two rows"
    assert (answer.prediction_id, answer.version) == (server.log.seen[0].prediction_id, "1")
    assert answer.spec_digest == pipeline.digest
    probabilities, labels = (
        np.frombuffer(raw, dtype) for raw, dtype in zip(expected.raw_output_contents, ("<f4", "<i8"), strict=True)
    )
    rows = [each.prediction for each in answer.answers if each.HasField("prediction")]
    assert [row.row for row in rows] == [0, 1]
    assert [list(row.outputs[0].numbers) for row in rows] == probabilities.reshape(2, 10).tolist()
    assert [row.outputs[1].whole_numbers[0] for row in rows] == labels.tolist()
    status, headers, told = over_rest(
        server, b"\n".join([record(), b"broken", record(0.5, kind=3)]), "application/jsonl"
    )
    assert (status, headers["headrace-prediction-id"]) == (200, told["parameters"]["prediction_id"])
    assert [each.get("outputs", {}).get("label") for each in told["answers"]] == [labels[0], None, labels[1]]
    document = json.loads(openapi.document())
    schema = {"$ref": "#/components/schemas/RecordAnswers", "components": document["components"]}
    jsonschema.validate(told, schema)
    assert told["answers"][2]["outputs"]["probabilities"] == probabilities.reshape(2, 10)[1].tolist()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_record_is_rejected_as_in_ingestion(server: Any, pipeline: Pipeline, hostile: bytes) -> None:
    (fault,) = RecordChecker(pipeline.stream).check([hostile], [0], [0]).rejected
    expected = {"rule": fault.rule, "field": fault.field, "reason": fault.reason}
    with pytest.raises(RowsInvalid) as refused:  # which is what `headrace predict FILE` reads with
        selected_rows(pipeline.stream, [record(), hostile])
    assert refused.value.problems == (RowProblem(2, fault.field, fault.reason.removeprefix(f"{fault.field}: ")),)
    good, bad = over_grpc(server, record(), hostile).answers
    assert good.HasField("prediction")
    assert {name: getattr(bad.rejection, name) for name in expected} == expected
    status, _, told = over_rest(server, hostile, "application/octet-stream")
    assert (status, told.get("answers")) == (
        (200, [{"record": 0, "line": 0, "rejection": expected}]) if hostile else (400, None)
    )
