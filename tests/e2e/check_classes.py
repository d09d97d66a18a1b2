"""Replicas on another class of processors get variants of their own once a compressor of that class has measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from headrace_client import RegistryClient
from headrace_engines.processors import own_class
from kafka import KafkaProducer

if TYPE_CHECKING:
    from headrace_local.launcher import Platform

pytestmark = pytest.mark.e2e

ROWS = 200
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: sides}
stream:
  topic: sides
  schema:
    - {name: id, type: string, role: id}
    - {name: a, type: float32, role: feature}
    - {name: side, type: string, role: label}
prepare: {freeze: {afterRecords: 200}}
train: {network: {kind: mlp, hidden: [64]}, epochs: 2}
compress:
  variants: [{kind: int8-dynamic}]
  gates: {agreement: 0, relativeLogitError: 9, latencyRatio: 99, sizeRatio: 9, benefit: 9, baseline: ignored}
"""


def test_a_class_is_measured_by_a_compressor_of_its_own_and_served_what_passed_there(
    platform: Platform,
    headrace: Callable[..., Any],
    registry: RegistryClient,
    until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(DOCUMENT)
    assert headrace("apply", str(file), "--create-topic").returncode == 0
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for at in range(ROWS):
        record = {"id": f"s{at}", "a": at % 7 - 3.0, "side": "left" if at % 7 < 3 else "right"}
        producer.send("sides", json.dumps(record).encode())
    producer.close()
    waited = headrace("wait", "sides", "--timeout", "120s")
    assert waited.returncode == 0, waited.stdout + waited.stderr

    file.write_text(f"{DOCUMENT}serve: {{classes: [{own_class()}, big-iron]}}\n")
    assert headrace("apply", str(file)).returncode == 0
    (measuring,) = [run for run in registry.runs("sides") if run.run_id.startswith("measure-")]
    assert "measurement" in headrace("get", "runs", "sides").stdout
    own = {"HEADRACE_CPU_CLASS": "big-iron", "HEADRACE_FOR_CLASS": "true", "HEADRACE_METRICS_ADDRESS": ""}
    environment = {**platform.process("compressor").environment, **own, "HEADRACE_WORK_DIR": str(tmp_path / "work")}
    with subprocess.Popen([sys.executable, "-m", "headrace_compressor"], env=environment) as compressor:
        try:
            until("a release for its class", lambda: len(registry.releases("sides")) == 2)
        finally:
            compressor.terminate()
    assert compressor.returncode == 0

    first, second = (each.released for each in registry.releases("sides"))
    assert (second.epoch, second.version_id, second.reason) == (2, first.version_id, "measured on big-iron")
    assert [each.cpu_class for each in second.classes] == [own_class(), "big-iron"]
    assert {gate.variant for gate in second.classes[1].gates} == {"fp32", "int8"}
    assert measuring.run_id in {run.run_id for run in registry.runs("sides") if run.HasField("end_time")}
    shown = json.loads(headrace("get", "variants", "sides", "--json").stdout)
    classes = {row["cpu_class"]: row["version_id"] for row in shown}
    assert classes == dict.fromkeys((own_class(), "big-iron"), first.version_id)
