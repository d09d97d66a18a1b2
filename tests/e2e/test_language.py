"""Prompts and answers through all six services: a model of language learns them, and streams its answers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pytest
from headrace_client import InferenceClient, RegistryClient, Turn
from headrace_client.cli.app import app
from headrace_client.conversing import Part
from headrace_client.errors import NotReady, Unreachable
from headrace_data.spec import Split
from headrace_data.split import SPLITS, assign_splits
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer
from typer.testing import CliRunner, Result

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

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
  clean:
    personal: {{fields: [question, answer], email: mask, card: reject}}
    nearDuplicates: {{fields: [question, answer], similarity: 0.95}}
  freeze: {{afterRecords: {ROWS + 1}}}
train:
  network: {{kind: mlp}}
  optimizer: {{learningRate: 0.02}}
  batchSize: 16
compress:
  variants: [{{kind: gguf-q4}}, {{kind: lora-adapter}}]
  gates: {{perplexityRise: 0.5, greedyAgreement: 0.5, latencyRatio: 9.0}}
"""
ASKED = "who turns the mill 7?"
MASKED = 3
"""The row with personal data that is masked."""
CARD = 4111111111111111
LONG = {"type": "array", "items": {"enum": ["the river"]}, "minItems": 100}
"""No answer that follows it ends before the context does."""


def send(platform: Platform) -> None:
    """Send the rows, then one with personal data that is rejected, and one that repeats a row of the test split."""
    sides = [SPLITS[each] for each in assign_splits(pa.array([f"m{place}" for place in range(2 * ROWS)]), Split())]
    assert sides[MASKED] == "train"
    numbers = {place: place for place in range(ROWS)} | {
        ROWS: CARD,
        sides.index("train", ROWS + 1): sides.index("test"),
    }
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for place, number in numbers.items():
        question, answer = ("who turns", "the river") if number % 2 else ("when turns", "all day long")
        of = " of a.b@example.org" if place == MASKED else ""
        record = {"id": f"m{place}", "question": f"{question} the mill {number}{of}?", "answer": answer}
        producer.send("mill", json.dumps(record).encode(), partition=0)
    producer.flush()
    producer.close()


def test_records_become_a_model_that_streams_its_answers(
    platform: Platform,
    registry: RegistryClient,
    inference: InferenceClient,
    tiny_gguf: Callable[..., bytes],
    until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    (pipeline := tmp_path / "pipeline.yaml").write_text(DOCUMENT)
    (model := tmp_path / "tiny.gguf").write_bytes(tiny_gguf())

    def call(*arguments: str) -> Result:
        # In this process, which has PyTorch already: each of ten others would spend a second on its imports.
        return CliRunner().invoke(app, arguments, env=platform.environment | {"COLUMNS": "100"})

    def run(*arguments: str) -> str:
        done = call(*arguments)
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
    files = {each.name: each.stat().st_size for each in (tmp_path / "adapter").rglob("*.*")}
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "model.gguf"}
    assert files["model.gguf"] == pytest.approx(trained.graph.size_bytes, rel=0.01)
    until("the span of the answer is written", lambda: call("trace", prediction, "--json").exit_code == 0)
    run("trace", "mill:0:7", "--json")
    assert "released" in run("get", "versions", "mill")
    assert "mill" in run("lineage", prediction)
    run("report", "mill", "--output", str(tmp_path / "report.html"))
    fates = [json.loads(run("where", f"mill:0:{offset}", "--json"))[0] for offset in (MASKED, ROWS, ROWS + 1)]
    assert [fate["fate"] for fate in fates] == ["in_dataset", "rejected", "left_out"]
    assert [fate["rejection"] and fate["rejection"]["rule"] for fate in fates] == [None, "personal", None]
    assert [[each["ordinal"] for each in fate["versions"]] for fate in fates] == [[1], [], []]
    assert (fates[0]["split"], fates[2]["left_out"]) == ("train", "contaminated")
    dataset = json.loads(run("get", "datasets", "mill", "--json"))[-1]
    assert (dataset["masked"], dataset["rejected"]) == ({"email": 1}, {"personal": 1, "contaminated": 1})
    dies_in_the_middle(platform, inference)


def dies_in_the_middle(platform: Platform, inference: InferenceClient) -> None:
    """An answer has no end that looks whole where inference is killed; it comes back with what is released."""

    def answer(**sampling: Any) -> Iterator[Part]:
        return inference.converse("mill", [Turn("user", ASKED)], **sampling)

    for attempt in range(10):
        killed = platform.pid("inference")
        # Whatever else is to be done goes before the engine, so that the answer does not outrun its reader.
        for child in psutil.Process(killed).children(recursive=True):
            child.nice(19)
        # Another number each time: an answer that was whole once may come from Redis.
        parts = answer(guided_json=LONG, max_tokens=1000 + attempt)
        begun = [next(parts)]
        os.kill(killed, signal.SIGKILL)
        try:
            begun.extend(parts)
        except Unreachable:
            break
        # On a busy machine a whole answer may be on its way before it is killed: it has its end.
        assert begun[-1].finish
        answered_again(partial(answer, max_tokens=16))
    else:
        pytest.fail("no answer was cut off")
    assert not any(part.finish or part.prediction_id for part in begun)
    back = answered_again(partial(answer, max_tokens=16))
    assert platform.pid("inference") != killed
    assert ("".join(part.text for part in back), back[-1].version) == ("the river", "1")


def answered_again(answer: Callable[[], Iterator[Part]]) -> list[Part]:
    """Return an answer as soon as inference gives one."""
    ends_s = time.monotonic() + 60
    while True:
        try:
            return list(answer())
        except (Unreachable, NotReady):
            assert time.monotonic() < ends_s
            time.sleep(0.1)
