"""Labels that come later, through all services: learned from rows that waited, and answers measured by them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from headrace_client import InferenceClient
from headrace_data.tasks import TASKS
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: loans}
stream:
  topic: loans
  labels: {topic: outcomes, key: loan, label: outcome}
  schema:
    - {name: loan, type: int64, role: id}
    - {name: amount, type: float32, role: feature}
    - {name: income, type: float32, role: feature}
    - {name: repaid, type: string, role: label}
prepare:
  freeze: {afterRecords: 240}
train:
  network: {kind: mlp, hidden: [8]}
  epochs: 4
  batchSize: 32
  seed: 7
compress: {variants: []}
serve: {quality: true, cache: "off"}
"""
ROWS, ASKED = 300, 64

Headrace = Callable[..., Any]


def loan(key: int) -> dict[str, Any]:
    dice = np.random.default_rng(key)
    return {"loan": key, "amount": round(float(dice.uniform(0, 2)), 3), "income": round(float(dice.uniform(0, 2)), 3)}


def outcome(key: int) -> str:
    row = loan(key)
    return "yes" if row["income"] > row["amount"] + 0.2 * (key % 3 - 1) else "no"


def test_rows_wait_for_their_labels_and_answers_are_measured_by_them(
    platform: Platform, headrace: Headrace, inference: InferenceClient, until: Callable[..., Any], tmp_path: Any
) -> None:
    (document := tmp_path / "loans.yaml").write_text(DOCUMENT)
    applied = headrace("apply", str(document), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)

    def send(topic: str, record: Mapping[str, Any]) -> None:
        producer.send(topic, json.dumps(record).encode())

    for key in range(ROWS):
        send("loans", loan(key))
    # One in five is never known.
    for key in range(ROWS):
        if key % 5:
            send("outcomes", {"loan": key, "outcome": outcome(key)})
    producer.flush()
    waited = headrace("wait", "loans", "--timeout", "540s", "--json", timeout_s=560)
    assert waited.returncode == 0, waited.stdout + waited.stderr
    (dataset,) = json.loads(headrace("get", "datasets", "loans", "--json").stdout)
    assert sum(dataset["rows"].values()) == 240
    assert dataset["awaiting_labels"] == ROWS // 5

    keys = list(range(1000, 1000 + ASKED))
    given: dict[str, list[Any]] = {"probabilities": [], "label": []}
    for start in range(0, ASKED, 8):
        some = keys[start : start + 8]
        columns = {name: np.array([loan(key)[name] for key in some], np.float32) for name in ("amount", "income")}
        answer = inference.infer("loans", columns, keys=some)
        for name, values in given.items():
            values.append(answer.outputs[name])
    for key in keys:
        send("outcomes", {"loan": key, "outcome": outcome(key)})
    producer.flush()
    labelled_s = time.monotonic()
    found = until(
        "the answers are measured",
        lambda: [each for each in json.loads(headrace("quality", "loans", "--json").stdout) if each["rows"] == ASKED],
    )
    print(f"measured {time.monotonic() - labelled_s:.1f} s after the last label")
    scores = TASKS["classification"].scores(("no", "yes"))
    answers = {name: np.concatenate(values) for name, values in given.items()}
    scores.add(answers, np.array([outcome(key) for key in keys], object))
    assert found[0]["metrics"] == pytest.approx(scores.metrics(), rel=0, abs=1e-9)
    assert (found[0]["awaiting_labels"], found[0]["unmeasured"]) == (0, 0)
    producer.close()
