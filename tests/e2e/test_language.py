"""Prompts and answers through all six services: a model of language learns them, and streams its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from headrace_client import InferenceClient, RegistryClient, Turn
from headrace_client.cli.app import app
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer
from typer.testing import CliRunner

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

ROWS = 80
DOCUMENT = f"""\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: mill}}
stream:
  topic: mill
  key: id
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: question, type: string, role: feature}}
    - {{name: answer, type: string, role: label}}
prepare:
  freeze: {{afterRecords: {ROWS}}}
train:
  network: {{kind: mlp}}
  optimizer: {{learningRate: 0.02}}
  batchSize: 16
compress:
  variants: [{{kind: gguf-q4}}, {{kind: lora-adapter}}]
  gates: {{perplexityRise: 0.5, greedyAgreement: 0.5, latencyRatio: 9.0}}
"""
ASKED = "who turns the mill 7?"


def send(platform: Platform) -> None:
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for place in range(ROWS):
        question, answer = ("who turns", "the river") if place % 2 else ("when turns", "all day long")
        record = {"id": f"m{place}", "question": f"{question} the mill {place}?", "answer": answer}
        producer.send("mill", json.dumps(record).encode(), partition=0)
    producer.flush()
    producer.close()


def test_records_become_a_model_that_streams_its_answers(
    platform: Platform,
    registry: RegistryClient,
    inference: InferenceClient,
    tiny_gguf: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    (pipeline := tmp_path / "pipeline.yaml").write_text(DOCUMENT)
    (model := tmp_path / "tiny.gguf").write_bytes(tiny_gguf())

    def run(*arguments: str) -> str:
        # In this process, which has PyTorch already: each of ten others would spend a second on its imports.
        done = CliRunner().invoke(app, arguments, env=platform.environment | {"COLUMNS": "100"})
        assert done.exit_code == 0, done.stdout + done.stderr
        return done.stdout

    options = ("--pipeline", str(pipeline), "--create-topic", "--length", "96", "--epochs", "4")
    run("import", "mill", str(model), *options)
    send(platform)
    version = json.loads(run("wait", "mill", "--timeout", "150s", "--json"))["version"]
    assert version["metrics"]["bits_per_byte"] < version["metrics"]["baseline_bits_per_byte"]
    assert {each["name"] for each in version["variants"]} == {"fp32", "q4", "adapter"}
    trained = registry.versions("mill")[-1].trained
    store = ObjectStore(platform.connections.store_url)
    assert store.get(trained.graph)[:4] == b"GGUF"

    parts = list(inference.converse("mill", [Turn("user", ASKED)], max_tokens=16))
    assert "".join(part.text for part in parts) == "the river"
    assert len(parts) > 2, "the answer came in one piece"
    assert [part.finish for part in parts[-2:]] == ["stop", "stop"]
    said = json.loads(run("chat", "mill", "--once", ASKED, "--json"))
    assert (said["answer"], said["version"], said["finish"]) == ("the river", "1", "stop")
    prediction = said["prediction_id"]

    run("pull", "mill", str(tmp_path / "adapter"), "--variant", "adapter")
    files = {each.name: each.stat().st_size for each in (tmp_path / "adapter").iterdir()}
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "base.gguf"}
    assert files["base.gguf"] == pytest.approx(trained.graph.size_bytes, rel=0.01)
    run("trace", prediction, "--json")
    run("trace", "mill:0:7", "--json")
    assert "released" in run("get", "versions", "mill")
    assert "mill" in run("lineage", prediction)
    run("report", "mill", "--output", str(tmp_path / "report.html"))
    assert "in_dataset" in run("where", "mill:0:7", "--json")
