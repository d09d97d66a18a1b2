"""Models that were made elsewhere, through all six services: judged, trained on, served and rolled back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_client.inference import InferenceResult
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).parents[2] / "examples" / "seed-mlp"
ROWS = 700
FEATURES, CLASSES = 1000, 10
TOLD = 100
"""Features that the first model looks at: few, so that the second does better."""


def linear() -> bytes:
    """The centres of the example's classes as a linear model, from another tool."""
    centres = np.random.default_rng(20_240_501).normal(0.0, 0.12, (CLASSES, FEATURES))
    centres[:, TOLD:] = 0
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["z"]),
            helper.make_node("Softmax", ["z"], ["y"], axis=1),
        ],
        "elsewhere",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [
            numpy_helper.from_array(centres.T.astype(np.float32), "w"),
            numpy_helper.from_array((-(centres**2).sum(axis=1) / 2).astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())


def test_a_linear_model_then_the_network_of_keras_are_served_and_rolled_back(
    platform: Platform,
    headrace: Callable[..., Any],
    registry: RegistryClient,
    inference: InferenceClient,
    until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    document = (EXAMPLE / "pipeline.yaml").read_text()
    changes = (("seed-mlp", "imports"), ("afterRecords: 5000", f"afterRecords: {ROWS}"), ("epochs: 10", "epochs: 4"))
    for old, new in changes:
        assert old in document
        document = document.replace(old, new)
    pipeline.write_text(document)
    (tmp_path / "linear.onnx").write_bytes(linear())

    def run(*arguments: str) -> None:
        script, *more = arguments
        command = [sys.executable, str(EXAMPLE / script), *more]
        subprocess.run(command, check=True, timeout=120, capture_output=True)

    def told(*arguments: str) -> str:
        done = headrace(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    told("import", "imports", str(tmp_path / "linear.onnx"), "--pipeline", str(pipeline), "--create-topic")
    sent = ("--rows", str(ROWS), "--topic", "imports", "--bootstrap-servers", platform.bootstrap_servers)
    run("produce.py", *sent)
    first = json.loads(told("wait", "imports", "--timeout", "150s", "--json"))["version"]
    assert 0.2 < first["metrics"]["accuracy"] < 0.6
    assert first["state"] == "released"

    run("keras_model.py", str(tmp_path / "imports.keras"), "--rows", "300")
    said = told("import", "imports", str(tmp_path / "imports.keras"), "--pipeline", "imports")
    assert "its train section changed: the newest dataset" in said
    rows = {"features": np.random.default_rng(5).normal(size=(3, FEATURES)).astype(np.float32)}

    def answer(version: str) -> InferenceResult | None:
        given = inference.infer("imports", rows)
        return given if given.version == version else None

    answered = [until("the second version is served", lambda: answer("2"))]
    second = registry.versions("imports")[-1]
    assert second.trained.metrics["accuracy"] > first["metrics"]["accuracy"] + 0.1
    assert second.trained.epochs == 4
    told("rollback", "imports")
    answered.append(until("the first version is served again", lambda: answer("1")))
    shares = [each.outputs["probabilities"] for each in answered]
    assert all(np.allclose(each.sum(axis=1), 1, atol=1e-5) for each in shares)
    assert not np.allclose(shares[0], shares[1], atol=0.01)
