"""A model that was made elsewhere, through all six services: judged, served, replaced by a better one, rolled back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace.registry.v1 import registry_service_pb2 as messages
from headrace_client import InferenceClient, RegistryClient
from headrace_client.inference import InferenceResult
from kafka import KafkaProducer
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

ROWS, WIDTH = 400, 8
DOCUMENT = f"""\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: imports}}
stream:
  topic: imports
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [{WIDTH}], role: feature}}
    - {{name: kind, type: string, role: label}}
prepare:
  freeze: {{afterRecords: {ROWS}}}
train:
  network: {{kind: mlp}}
"""


def graph(told: int) -> bytes:
    """A linear model of another tool that looks at so many of the numbers, for one row at a time."""
    weights = np.zeros((WIDTH, 2), dtype=np.float32)
    weights[:told, 1] = 2
    made = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)],
        "elsewhere",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString())


def send(platform: Platform) -> None:
    generator = np.random.default_rng(3)
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for at, row in enumerate(generator.normal(size=(ROWS, WIDTH))):
        record = {"id": f"r{at}", "x": row.tolist(), "kind": "up" if row.sum() > 0 else "down"}
        producer.send("imports", json.dumps(record).encode())
    producer.flush()
    producer.close()


def test_a_model_of_another_tool_is_served_replaced_and_rolled_back(
    platform: Platform,
    headrace: Callable[..., Any],
    registry: RegistryClient,
    inference: InferenceClient,
    until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(DOCUMENT)

    def run(*arguments: str, stdin: str = "") -> str:
        done = headrace(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def taken(told: int, *more: str) -> str:
        file = tmp_path / f"{told}.onnx"
        file.write_bytes(graph(told))
        return run("import", "imports", str(file), *more)

    taken(4, "--pipeline", str(pipeline), "--create-topic")
    send(platform)
    first = json.loads(run("wait", "imports", "--timeout", "120s", "--json"))["version"]
    assert (first["state"], first["ordinal"]) == ("released", 1)
    assert 0.6 < first["metrics"]["accuracy"] < 0.9

    # A linear model: each number that it looks at adds to the logit as it is far from the reference's.
    (near := tmp_path / "reference.json").write_text(json.dumps({"x": [0.0] * WIDTH}))
    stdin = json.dumps({"x": [0.1, 0.3, -0.2, 0.0, *[9.0] * (WIDTH - 4)]})
    added = json.loads(run("explain", "imports", "--reference", str(near), "--json", stdin=stdin))[0]["added"]
    assert list(added)[:3] == ["x[1]", "x[2]", "x[0]"]
    assert [added[f"x[{place}]"] for place in range(3, WIDTH)] == pytest.approx([0] * (WIDTH - 3), abs=1e-7)

    assert "its train section changed: the newest dataset" in taken(WIDTH, "--pipeline", "imports")
    judged = (messages.VERSION_STATE_RELEASED, messages.VERSION_STATE_REFUSED)

    def judged_one() -> messages.Version | None:
        return next((each for each in registry.versions("imports")[1:] if each.state in judged), None)

    second = until("the second version is judged", judged_one)
    assert second.state == messages.VERSION_STATE_RELEASED, second.reason
    assert second.trained.metrics["accuracy"] == 1.0
    assert second.trained.epochs == 0

    rows = {"x": np.random.default_rng(5).normal(size=(5, WIDTH)).astype(np.float32)}

    def answer(version: str) -> InferenceResult | None:
        given = inference.infer("imports", rows)
        return given if given.version == version else None

    def shares(told: int) -> Any:
        return 1 / (1 + np.exp(-2 * rows["x"][:, :told].sum(axis=1)))

    given = until("the second version is served", lambda: answer("2")).outputs
    np.testing.assert_allclose(given["probabilities"][:, 1], shares(WIDTH), atol=1e-5)
    run("rollback", "imports")
    given = until("the first version is served again", lambda: answer("1")).outputs
    np.testing.assert_allclose(given["probabilities"][:, 1], shares(4), atol=1e-5)
