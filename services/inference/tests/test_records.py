"""Records as producers send them, at each door: answers of a call with the fields, and rejections as ingestion's."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import grpc
import jsonschema  # type: ignore[import-untyped]
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from headrace import open_inference as oip
from headrace.inference.v1.record_service_pb2 import (
    PredictRecordsRequest,
    PredictRecordsResponse,
    RecordHeader,
    SentRecord,
)
from headrace_client import InferenceClient, Prediction, RecordRejected, predict_records
from headrace_client.cli.app import app
from headrace_client.errors import RowProblem, RowsInvalid
from headrace_client.selecting import selected_rows
from headrace_data.records import RecordChecker
from headrace_data.spec import Pipeline, load_pipeline
from headrace_inference.adapters.spec_follower import AGAIN_S, SpecFollower
from headrace_inference.core.specs import Spec
from headrace_inference.settings import Settings
from headrace_inference.transport.records import desk
from headrace_inference.transport.rest import openapi
from headrace_runtime.object_store import ObjectStore
from typer.testing import CliRunner

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
def schemas(schema_server: Callable[[], Any]) -> Iterator[Any]:
    started = schema_server()
    yield started
    started.close()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, rest_server: Callable[..., Any], pipeline: Pipeline, schemas: Any
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("records")
    store = str(tmp_path_factory.mktemp("store"))
    server = rest_server(folder, schema_registry_hosts=schemas.host, store_url=store)
    server.store = ObjectStore(store)
    server.specs.put("scans", Spec(pipeline.digest, pipeline.canonical_json()))
    server.release(pipeline="scans")
    yield server
    server.host.stop()


def over_grpc(server: Any, *records: bytes | SentRecord, **asked: Any) -> PredictRecordsResponse:
    sent = [each if isinstance(each, SentRecord) else SentRecord(value=each) for each in records]
    request = PredictRecordsRequest(model="digits", records=sent, **asked)
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
    named = document["paths"]["/v2/models/{model}/records"]["post"]["parameters"]
    assert [each["name"] for each in named] == ["model", "Headrace-Timeout-Ms", "Headrace-Priority"]


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


def test_what_a_record_came_in_and_who_asks_go_along(server: Any, pipeline: Pipeline) -> None:
    told = json.dumps(DOCUMENT).replace("_id AS id", "$headers['id'] AS id")
    other = load_pipeline(told)
    server.specs.put("scans", Spec(other.digest, other.canonical_json()))
    server.release(pipeline="scans", records=True)
    server.log.seen.clear()
    headers = [[RecordHeader(name="id", value=name.encode())] for name in ("a", "ü")]
    try:
        asked = [SentRecord(value=record(), headers=each) for each in headers]
        assert len(over_grpc(server, *asked, priority=2).answers) == 2
    finally:
        server.release(pipeline="scans")
        server.specs.put("scans", Spec(pipeline.digest, pipeline.canonical_json()))
    (seen,) = server.log.seen
    assert seen.keys == ("a", "ü"), "by which labels find the answers"
    assert oip.ModelInferRequest.FromString(seen.request).parameters["priority"].int64_param == 2


AVRO = {"type": "record", "name": "Scan", "fields": [{"name": "pixels", "type": {"type": "array", "items": "float"}}]}
PROTO = 'syntax = "proto3"; message Scan { repeated float pixels = 1; }'
GUID = UUID(int=7)
ADDRESS = "HEADRACE_INFERENCE_ADDRESS"


def in_avro() -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, AVRO, {"pixels": PIXELS.tolist()})
    return written.getvalue()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("avro", json.dumps(AVRO), in_avro()),
        # The message's index in the schema, and one packed field of 256 bytes.
        ("protobuf", PROTO, b"\0\x0a\x80\x02" + PIXELS.astype("<f4").tobytes()),
    ],
)
def test_bytes_that_name_their_schema_are_read_with_it(
    server: Any, schemas: Any, pipeline: Pipeline, tmp_path: Path, kind: str, text: str, value: bytes
) -> None:
    registry = {"kind": kind, "registry": {"url": schemas.url}}
    selected = {"select": "pixels, $key AS id, CAST(NULL AS INTEGER) AS kind", "format": registry}
    framed = load_pipeline(json.dumps(DOCUMENT | {"stream": DOCUMENT["stream"] | selected}))
    in_value = b"\0\0\0\0" + bytes([7 if kind == "avro" else 8]) + value
    in_header = SentRecord(value=value, headers=[RecordHeader(name="__value_schema_id", value=b"\1" + GUID.bytes)])
    server.specs.put("scans", Spec(framed.digest, framed.canonical_json()))
    try:
        schemas.answer = 503, b""
        with pytest.raises(grpc.RpcError, match=f"schema registry {schemas.url}: expected a schema") as away:
            over_grpc(server, in_value)
        assert (away.value.code(), over_rest(server, in_value, "x/y")[0]) == (grpc.StatusCode.UNAVAILABLE, 503)
        schemas.answer = None
        told = {"schema": text, "schemaType": kind.upper(), "references": ()}
        schemas.documents |= {f"/schemas/ids/{in_value[4]}": told, f"/schemas/guids/{GUID}": told}
        first, second, cut, unknown = over_grpc(server, in_value, in_header, in_value[:-4], b"\0\0\0\0\1x").answers
        *_, by_rest = over_rest(server, in_value, "application/octet-stream")
        file = tmp_path / "record"
        file.write_bytes(in_value)
        there = {ADDRESS: f"127.0.0.1:{server.host.port}"}
        said = CliRunner().invoke(app, ["predict", "digits", str(file), "--on-server", "--json"], env=there)
    finally:
        schemas.answer = None
        server.specs.put("scans", Spec(pipeline.digest, pipeline.canonical_json()))
    expected = list(over_grpc(server, record()).answers[0].prediction.outputs[0].numbers)
    assert [list(each.prediction.outputs[0].numbers) for each in (first, second)] == [expected] * 2
    assert by_rest["answers"][0]["outputs"]["probabilities"] == json.loads(said.stdout)[0]["probabilities"] == expected
    assert (cut.rejection.rule, unknown.rejection.rule) == (kind, "schema")


def test_values_that_lie_in_the_store_are_fetched_for_who_reads(server: Any, pipeline: Pipeline) -> None:
    told = {"select": "_id AS id, payload.scan AS pixels, kind AS kind", "references": ["scans"]}
    referring = load_pipeline(json.dumps(DOCUMENT | {"stream": DOCUMENT["stream"] | told}))

    def referred(name: str, digest: str) -> SentRecord:
        headers = {"headrace-ref": name, "headrace-ref-digest": digest}
        return SentRecord(headers=[RecordHeader(name=key, value=text.encode()) for key, text in headers.items()])

    whole = record()
    digest = f"sha256:{hashlib.sha256(whole).hexdigest()}"
    server.store.write("payloads/scans/a.json", whole)
    server.store.write("payloads/others/a.json", whole)
    names = ["scans/a.json", "scans/none.json", "others/a.json", "scans/../others/a.json", "scans", "scans/a.json/b"]
    server.specs.put("scans", Spec(referring.digest, referring.canonical_json()))
    try:
        asked = [referred(name, digest) for name in names]
        assert over_grpc(server, asked[0]).answers[0].HasField("prediction")
        for child in psutil.Process().children():
            if "headrace_inference.transport.records.child" in child.cmdline():
                child.kill()  # as the system does that is short of memory
                child.wait()
        answers = over_grpc(server, *asked, record(0.5), referred("scans/a.json", f"sha256:{'0' * 64}")).answers
    finally:
        server.specs.put("scans", Spec(pipeline.digest, pipeline.canonical_json()))
    expected = over_grpc(server, record(), record(0.5)).answers
    assert [answers[at].prediction.outputs for at in (0, 6)] == [each.prediction.outputs for each in expected]
    rejected = {at: each.rejection.rule for at, each in enumerate(answers) if each.HasField("rejection")}
    assert rejected == dict.fromkeys((1, 2, 3, 4, 5, 7), "reference")


def test_many_answers_are_written_in_the_other_process(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = over_rest(server, b"[" + record() + b", 7]")[2]
    monkeypatch.setattr(desk, "MOST_WRITTEN_HERE", 0)
    there = over_rest(server, b"[" + record() + b", 7]")[2]
    assert there["answers"] == here["answers"]
    assert over_grpc(server, record()).answers[0].prediction.outputs


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"[{} {}]", {}, (400, "expected a JSON array of records")),
        (b" ", {}, (400, "records: expected at least one, got none")),
        (b"{}\n" * 65, {}, (413, "records: expected at most 64 in a call, got 65")),
        (b"{}", {"headrace-priority": "6"}, (400, "header headrace-priority: expected 1 (first) to 5 (last)")),
        (b"x" * 100_001, {}, (413, "expected a body of at most 100000 bytes")),
    ],
)
def test_a_body_that_is_none_is_refused(
    server: Any, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    status, _, told = over_rest(server, body, **headers)
    assert (status, told["detail"][: len(expected[1])]) == expected


def test_where_nothing_is_a_row_there_is_no_prediction(server: Any) -> None:
    status, headers, told = over_rest(server, b'[{}, {"_id": 1, "_id": 2}]', **{"headrace-timeout-ms": "60000"})
    assert [each["rejection"]["rule"] for each in told["answers"]] == ["missing", "json"]
    assert (status, told["model_version"], told["parameters"]["prediction_id"]) == (200, "1", "")
    assert "headrace-prediction-id" not in headers


def test_pipelines_and_models_that_cannot_be_asked(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(model: str = "digits") -> tuple[int, str]:
        status, _, told = server.ask("POST", f"/v2/models/{model}/records", record())
        return status, told["detail"]

    assert refused("none")[0] == 404
    server.release(pipeline="gone")
    try:
        assert refused() == (503, "the specs of pipelines are still being read")
        follower = SpecFollower(Settings(), server.specs, lambda *_: None, "inference")
        assert follower._failed(OSError("may not read")) == AGAIN_S
        assert refused() == (503, "the specs of pipelines are still being read: may not read")
        server.specs.all_seen()
        assert refused() == (409, "model 'digits': its pipeline 'gone' is not applied any more")
        monkeypatch.setattr(desk, "_EXTRA", ("headrace_data", "no_such_package"))
        status, told = refused()
        assert (status, "install the extra headrace-inference[records]" in told) == (501, True)
    finally:
        server.release(pipeline="scans")


def test_the_client_and_its_command_ask_so(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{server.host.port}"
    with InferenceClient(address) as client:
        first, second, third = predict_records(client, "digits", [record(), b"no", record(0.5)], batch=2)
    assert isinstance(first, Prediction)
    assert isinstance(third, Prediction)
    assert isinstance(second, RecordRejected)
    assert [(each.row, each.version) for each in (first, third)] == [(1, "1"), (3, "1")]
    assert first.probabilities is not None
    assert first.probability == max(first.probabilities)
    assert (second.row, second.rule) == (2, "json")
    monkeypatch.setenv("HEADRACE_INFERENCE_ADDRESS", address)
    lines = b"\n".join([record(), b"no"]).decode()
    said = CliRunner().invoke(app, ["predict", "digits", "--on-server", "--json"], input=lines)
    assert (said.exit_code, json.loads(said.stdout)[0]["label"]) == (1, first.label)
    assert "row 2" in said.stderr
