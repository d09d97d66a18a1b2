"""`import`: a file tried, kept, and put in force; and files that cannot be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from headrace.events.v1.pipeline_pb2 import PipelineApplied, PipelineSpec
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_data.spec import load_pipeline
from headrace_runtime.object_store import ObjectStore
from onnx import TensorProto, helper, numpy_helper

DOCUMENT = dedent(
    """\
    apiVersion: headrace/v1
    kind: Pipeline
    metadata: {name: digits}
    stream:
      topic: scans
      schema:
        - {name: id, type: string, role: id}
        - {name: pixels, type: float32, shape: [2, 2], role: feature}
        - {name: digit, type: int64, role: label}
    prepare:
      transform: {pixels: {scale: standard}}
    train:
      network: {kind: mlp, hidden: [8]}
    """
)


def graph(*, softmax: str = "Softmax") -> bytes:
    weights = np.arange(12, dtype=np.float32).reshape(4, 3) / 9
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node(softmax, ["z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(*each) for each in (("x", TensorProto.FLOAT, [1, 2, 2]), ("y", 1, [1, 3]))]
    made = helper.make_graph(nodes, "other", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString())


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HEADRACE_STORE_URL", str(tmp_path / "store"))

    def write(name: str, data: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return write


def applied(document: str = DOCUMENT) -> PipelineApplied:
    pipeline = load_pipeline(document)
    spec = PipelineSpec(json=pipeline.canonical_json(), digest=pipeline.digest)
    return PipelineApplied(pipeline="digits", spec=spec, partitions=3)


def asked(registry) -> list[messages.ApplyPipelineRequest]:
    return [each for each in registry.requests if isinstance(each, messages.ApplyPipelineRequest)]


def test_a_file_is_tried_kept_and_put_in_force(headrace, registry, tmp_path, write):
    registry.pipelines = [applied()]
    data = graph()
    result = headrace("import", "scans-reader", write("model.onnx", data), "--pipeline", "digits", "--classes", "2,0,1")
    assert result.exit_code == 0, result.output
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    put = load_pipeline(asked(registry)[-1].document)
    assert (put.model, put.train.network.digest, put.train.network.classes) == ("scans-reader", digest, (2, 0, 1))
    assert put.stream == load_pipeline(DOCUMENT).stream
    assert ObjectStore(str(tmp_path / "store")).beginning(f"sha256/{digest[7:9]}/{digest[7:]}", 10_000) == data
    assert f"model.onnx is kept: 0.2 kB, digest {digest}" in result.stdout
    assert "rows of shape [2, 2], 3 outputs; no dataset yet to hold it against" in result.stderr
    assert "prepare.transform makes them, not as they are sent: pixels (standard)" in result.stderr


def test_what_was_said_of_another_version_is_left_out(headrace, registry, write):
    registry.pipelines = [applied(DOCUMENT + '  from: champion\n  freeze: ["0"]\n')]
    result = headrace("import", "digits", write("model.onnx", graph()), "--pipeline", "digits")
    assert result.exit_code == 0, result.output
    train = load_pipeline(asked(registry)[-1].document).plain()["train"]
    assert not {"from", "freeze"} & train.keys()


def test_a_pipeline_may_be_a_file_and_a_dry_run_keeps_nothing(headrace, registry, tmp_path, write):
    name = write("pipeline.yaml", DOCUMENT.encode())
    result = headrace("import", "digits", write("model.onnx", graph()), "--pipeline", name, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["pipeline"], answer["network"]["format"]) == ("digits", "onnx")
    assert asked(registry)[-1].dry_run
    assert not (tmp_path / "store").exists()


REFUSED = [
    ("model.pkl", b"\x80\x04", (), "pickles hold programs and are never read"),
    ("model.pt", b"PK", (), "PyTorch's own files hold programs and are never read"),
    ("model.onnx", b"\x80\x04", (), "expected ONNX, got a pickle"),
    ("model.onnx", b"", (), "expected 1 to 2,147,483,647 bytes, got 0"),
    ("model.onnx", graph(softmax="Loopy"), (), "imported ONNX file: expected a valid ONNX graph"),
    ("model.onnx", graph(), ("--classes", "a,b,c"), "--classes: expected whole numbers, as label 'digit' is"),
    ("model.onnx", graph(), ("--answers", "odds"), "--answers"),
    ("model.onnx", graph(), ("--format", "tflite"), "--format"),
    ("model.onnx", graph(), ("--frozen", "a"), "expected none for onnx"),
    ("some.h5", b"GIF89a", (), "expected a .keras file (a zip archive) or an .h5 file (HDF5)"),
]


@pytest.mark.parametrize(("name", "data", "options", "told"), REFUSED, ids=[told for *_, told in REFUSED])
def test_what_cannot_be_served_is_told_and_changes_nothing(
    headrace, registry, tmp_path, write, name, data, options, told
):
    registry.pipelines = [applied()]
    result = headrace("import", "digits", write(name, data), "--pipeline", "digits", *options)
    assert result.exit_code != 0
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert not asked(registry)
    assert not (tmp_path / "store").exists()


def test_a_saved_model_is_converted_first(headrace, registry, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08")
    result = headrace("import", "digits", str(tmp_path / "saved"), "--pipeline", "digits")
    assert result.exit_code != 0
    assert "python -m tf2onnx.convert --saved-model saved --output model.onnx" in " ".join(result.stderr.split())
