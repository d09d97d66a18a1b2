"""`predict` and `explain` of records as producers send them: the pipeline's SELECT makes the inputs."""

import io
import json
from typing import Any

import numpy as np
import pytest
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace_data.spec import load_pipeline
from PIL import Image

DOCUMENT: dict[str, Any] = {
    "apiVersion": "headrace/v1",
    "kind": "Pipeline",
    "metadata": {"name": "scans"},
    "stream": {
        "topic": "scans",
        "select": "_id AS id, CAST(replace(size.w, ',', '.') AS DOUBLE) AS w, size.h AS h, kind AS kind",
        "schema": [
            {"name": "id", "type": "string", "role": "id"},
            {"name": "w", "type": "float32", "role": "feature"},
            {"name": "h", "type": "float32", "role": "feature"},
            {"name": "kind", "type": "int32", "role": "label"},
        ],
    },
    "train": {"model": "digits", "network": {"kind": "mlp", "hidden": [8]}, "epochs": 1},
}
RECORDS = [{"_id": "a", "size": {"w": "1,5", "h": 2}}, {"_id": "b", "size": {"w": 2.5, "h": 4}}]


@pytest.fixture
def _selecting(registry, inference):
    spec = load_pipeline(json.dumps(DOCUMENT))
    other = PipelineSpec(json=b'{"metadata": {"name": "other"}, "stream": {"topic": "t"}}')
    registry.pipelines = [
        PipelineApplied(pipeline="other", spec=other),
        PipelineApplied(pipeline="scans", spec=PipelineSpec(json=spec.canonical_json(), digest=spec.digest)),
    ]
    inference.inputs = [("w", "FP32", [-1, 1]), ("h", "FP32", [-1, 1])]


def sent(inference) -> list[list[float]]:
    return [
        [float(np.frombuffer(raw, "<f4")[0]) for raw in request.raw_input_contents] for request in inference.requests
    ]


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.usefixtures("_selecting")
def test_records_go_through_the_pipelines_select(headrace, inference):
    result = headrace("predict", "digits", stdin=lines(*RECORDS))
    assert result.exit_code == 0, result.output
    assert sent(inference) == [[1.5, 2.0], [2.5, 4.0]]
    assert "left out" not in result.stderr


@pytest.mark.usefixtures("_selecting")
def test_inputs_are_taken_as_they_are_when_they_are_said_to_be(headrace, inference):
    result = headrace("predict", "digits", "--inputs", stdin=lines({"w": 1, "h": 2}))
    assert result.exit_code == 0, result.output
    assert sent(inference) == [[1.0, 2.0]]


@pytest.mark.usefixtures("_selecting")
def test_a_record_that_the_select_cannot_read_is_named(headrace, inference):
    result = headrace("predict", "digits", stdin=lines(RECORDS[0], {"size": {"w": "wide", "h": 1}}))
    assert result.exit_code != 0
    assert "row 2" in result.stderr
    assert "(size.w, " in " ".join(result.stderr.split())
    assert inference.requests == []


@pytest.mark.usefixtures("inference")
def test_without_a_registry_rows_are_inputs(headrace, inference):
    inference.inputs = [("w", "FP32", [-1, 1]), ("h", "FP32", [-1, 1])]
    assert headrace("predict", "digits", stdin=lines({"w": 1, "h": 2})).exit_code == 0
    assert sent(inference) == [[1.0, 2.0]]


@pytest.mark.usefixtures("_selecting")
def test_a_sheet_is_predicted_as_it_was_learned_from(headrace, registry, inference, tmp_path):
    document = json.loads(json.dumps(DOCUMENT).replace("size.w", "'w,h'").replace("'w,h'", '\\"Breite (m)\\"'))
    document["stream"]["select"] = document["stream"]["select"].replace("size.h", "H")
    spec = load_pipeline(json.dumps(document))
    registry.pipelines[1].spec.json = spec.canonical_json()
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("\ufeffBreite (m);H;more\r\n1,5;2;x\r\n2,5;4;y\r\n")
    result = headrace("predict", "digits", str(sheet))
    assert result.exit_code == 0, result.output
    assert sent(inference) == [[1.5, 2.0], [2.5, 4.0]]
    sheet.write_bytes("Breite (m);H;für\r\n1,5;2;x\r\n".encode("windows-1252"))
    assert "say --encoding windows-1252" in headrace("predict", "digits", str(sheet)).stderr
    assert headrace("predict", "digits", str(sheet), "--encoding", "windows-1252").exit_code == 0
    assert sent(inference)[2:] == [[1.5, 2.0]]
    inputs = tmp_path / "inputs.csv"
    inputs.write_text("w,h\n3.5,6\n1,2,3\n")
    broken = headrace("predict", "digits", str(inputs), "--inputs")
    assert (broken.exit_code, "inputs.csv: row 2: expected 2 columns, got 3" in broken.stderr) == (1, True)
    inputs.write_text("w,h\n3.5,6\n")
    assert headrace("predict", "digits", str(inputs), "--inputs").exit_code == 0
    assert sent(inference)[3:] == [[3.5, 6.0]]


PICTURES: dict[str, Any] = {
    **DOCUMENT,
    "stream": {
        "topic": "scans",
        "format": "image",
        "select": "$key AS id, pixels AS w, $headers['kind'] AS kind",
        "schema": [
            {"name": "id", "type": "string", "role": "id"},
            {"name": "w", "type": "float32", "shape": [1, 2], "role": "feature"},
            {"name": "kind", "type": "string", "role": "label"},
        ],
    },
}


@pytest.mark.usefixtures("_selecting")
def test_a_picture_is_read_as_the_pipeline_reads_it(headrace, registry, inference, tmp_path):
    spec = load_pipeline(json.dumps(PICTURES))
    data = io.BytesIO()
    Image.frombytes("L", (2, 1), b"\x07\xff").save(data, "PNG")
    file, large = tmp_path / "scan.png", tmp_path / "large.png"
    file.write_bytes(data.getvalue())
    Image.new("L", (3, 3)).save(large)
    refused = headrace("predict", "digits", str(file))
    assert (refused.exit_code, "no pipeline of model 'digits' has pictures" in refused.stderr) == (1, True)

    registry.pipelines = [PipelineApplied(pipeline="scans", spec=PipelineSpec(json=spec.canonical_json()))]
    inference.inputs = [("w", "FP32", [-1, 1, 2])]
    assert headrace("predict", "digits", str(file)).exit_code == 0
    (request,) = inference.requests
    assert np.frombuffer(request.raw_input_contents[0], "<f4").tolist() == [7.0, 255.0]
    refused = headrace("predict", "digits", str(large))
    assert "expected a picture 2 wide and 1 high, got one 3 wide and 3 high" in refused.stderr
