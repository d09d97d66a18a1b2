"""A range that was drawn too narrowly: what it rejected is found, sent once more after the mend, and never twice."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headrace.events.v1 import record_pb2
from headrace_data.batches import from_ipc
from headrace_runtime.kafka import LogReader
from headrace_runtime.kafka.envelopes import decode
from headrace_runtime.record_topics import clean_topic
from headrace_runtime.settings import KafkaSettings
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: tanks}
stream:
  topic: tanks
  format: json
  key: id
  schema:
    - {name: id, type: string, role: id}
    - {name: level, type: float32, role: feature, unit: metre, range: [0, 10]}
    - {name: state, type: int64, role: label}
prepare: {}
train:
  network: {kind: mlp, hidden: [4]}
  optimizer: {kind: adam, learningRate: 0.01}
  epochs: 1
  batchSize: 8
"""
LEVELS = {"a": 1.5, "b": 12.25, "c": 9.0, "d": 11.0, "e": 0.0}


def until(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        threading.Event().wait(0.1)
    return found


def clean_ids(platform: Platform) -> list[str]:
    settings = KafkaSettings(kafka_bootstrap_servers=platform.bootstrap_servers)
    with LogReader(settings, "test") as reader:
        places = reader.partitions(clean_topic("tanks"))
        reader.start_at(dict.fromkeys(places))
        records = [record for records in reader.read_to(reader.ends(places)) for record in records]
    batches = [from_ipc(decode(record, record_pb2.RecordBatch).arrow) for record in records]
    return sorted(row["id"] for batch in batches for row in batch.to_pylist())


def replay_spans(platform: Platform) -> list[dict[str, Any]]:
    lines = (platform.home / "telemetry" / "ingestion-0.jsonl").read_text().splitlines()
    return [span for span in map(json.loads, lines) if span["name"] == "replay"]


def test_what_a_mended_pipeline_takes_is_sent_once_more_and_only_once(
    platform: Platform, headrace: Callable[..., Any], tmp_path: Path
) -> None:
    document = tmp_path / "tanks.yaml"
    document.write_text(DOCUMENT)
    applied = headrace("apply", str(document), "--create-topic")
    assert applied.returncode == 0, applied.stderr
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for name, level in LEVELS.items():
        producer.send("tanks", json.dumps({"id": name, "level": level, "state": 1}).encode())
    producer.close()

    def listed() -> list[dict[str, Any]]:
        result = headrace("dead", "list", "tanks", "--where", "stage=preprocessing", "--json")
        # Ingestion may not have heard of the pipeline yet.
        assert result.returncode == 0 or "expected one of" in result.stderr, result.stderr
        return json.loads(result.stdout or "[]")

    until(lambda: len(listed()) == 2)
    letters = {letter["id"]: letter for letter in listed()}
    assert {(letter["rule"], letter["reason"]) for letter in letters.values()} == {
        ("outOfRange", "level: expected 0 to 10, got 12.25"),
        ("outOfRange", "level: expected 0 to 10, got 11.0"),
    }
    shown = headrace("dead", "show", "tanks", "--where", "field=level")
    assert 'sent      {"id": "b", "level": 12.25, "state": 1}' in shown.stdout

    (group,) = json.loads(headrace("dead", "groups", "tanks", "--json").stdout)
    assert (group["rule"], group["field"], group["letters"], group["accepts"]) == ("outOfRange", "level", 2, 2)
    ((place, _, wanted),) = (change.partition("level.range: ") for change in group["changes"])
    assert (place, wanted) == ("stream.schema.", "[0, 12.25]")

    document.write_text(DOCUMENT.replace("[0, 10]", wanted))
    mended = headrace("apply", str(document), "--json")
    assert mended.returncode == 0, mended.stderr
    in_force = f"tanks runs with spec {json.loads(mended.stdout)['spec_digest']}"
    until(lambda: in_force in platform.log_path("preprocessing").read_text())

    tried = headrace("dead", "replay", "tanks", "--dry-run")
    assert (tried.returncode, "2 accepted; nothing was sent" in tried.stdout) == (0, True), tried.stdout + tried.stderr
    assert clean_ids(platform) == ["a", "c", "e"]
    sent = headrace("dead", "replay", "tanks", "--json")
    assert sent.returncode == 0, sent.stderr
    assert {answer["id"]: answer["outcome"] for answer in json.loads(sent.stdout)} == dict.fromkeys(letters, "accepted")
    until(lambda: clean_ids(platform) == sorted(LEVELS))
    again = headrace("dead", "replay", "tanks", "--json")
    assert {answer["outcome"] for answer in json.loads(again.stdout)} == {"repeated"}
    assert clean_ids(platform) == sorted(LEVELS)
    assert len(listed()) == 2

    spans = {
        span["attributes"]["headrace.dead_letter.id"]: span
        for span in until(lambda: [*replay_spans(platform)] if len(replay_spans(platform)) == 2 else None)
    }
    for letter_id, letter in letters.items():
        assert letter["trace_id"] in {link["trace_id"] for link in spans[letter_id]["links"]}
