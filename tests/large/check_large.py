"""A model too large for one file goes through all six services, in little memory beside its size.

`make test-large` takes one of 100 million parameters; `make test-large PARAMETERS=550000000` one whose graph no
protobuf message could hold.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from headrace_client import InferenceClient, RegistryClient
from headrace_engines import ENGINES, ONNX, beside
from headrace_local.launcher import Platform
from headrace_runtime.object_store import ObjectStore
from kafka import KafkaProducer

pytestmark = pytest.mark.timeout(3600)

PARAMETERS = int(os.environ.get("PARAMETERS") or 100_000_000)
SQUARES = 3
"""Layers from one width to the same."""
WIDTH = 64 * math.ceil(math.sqrt(PARAMETERS / SQUARES) / 64)
VALUES, ROWS, LONGEST = 64, 300, "3000s"
PIPELINE = f"""
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: large}}
stream:
  topic: large
  key: id
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: values, type: float32, shape: [{VALUES}], role: feature}}
    - {{name: above, type: int64, role: label, range: [0, 1]}}
prepare: {{freeze: {{afterRecords: {ROWS}}}}}
train:
  network: {{kind: mlp, hidden: [{", ".join([str(WIDTH)] * (SQUARES + 1))}]}}
  optimizer: {{kind: sgd, learningRate: 0.05}}
  epochs: 1
  batchSize: 32
compress:
  variants: [{{kind: weight-only-int8}}, {{kind: int8-dynamic}}]
  gates: {{relativeLogitError: 0.000001}}
"""
WATCHED = {
    "trainer's child": "headrace_trainer.child",
    "compressor's child": "headrace_compressor.child",
    "inference": "-m headrace_inference",
    "inference's trial": "headrace_inference.child",
}
LOOK_S = 0.02


class Peaks:
    """The most memory that processes of the platform took, by what they are."""

    def __init__(self) -> None:
        self.resident: dict[str, int] = {}
        self.anonymous: dict[str, int] = {}

    def __str__(self) -> str:
        told = (
            f"{what}: at most {megabytes(peak)} resident, {megabytes(self.anonymous[what])} of it no file's"
            for what, peak in self.resident.items()
        )
        return "\n".join(told)

    @contextmanager
    def watching(self, platform: Platform) -> Iterator[None]:
        stop, services = threading.Event(), [psutil.Process(each.pid) for each in platform.status()]
        thread = threading.Thread(target=self._watch, args=(stop, services))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: threading.Event, services: Sequence[psutil.Process]) -> None:
        while not stop.wait(LOOK_S):
            for service in services:
                with suppress(psutil.Error, OSError):
                    for process in (service, *service.children()):
                        self._look(process)

    def _look(self, process: psutil.Process) -> None:
        command = " ".join(process.cmdline())
        what = next((what for what, words in WATCHED.items() if command.endswith(words) or f"{words} " in command), "")
        if what:
            told = dict(re.findall(r"(VmHWM|RssAnon):\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()))
            for kept, key in ((self.resident, "VmHWM"), (self.anonymous, "RssAnon")):
                kept[what] = max(kept.get(what, 0), 1024 * int(told.get(key, 0)))


def headrace(platform: Platform, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "headrace"), *arguments]
    environment = os.environ | platform.environment | {"COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def send(platform: Platform) -> None:
    random = np.random.default_rng(1)
    producer = KafkaProducer(bootstrap_servers=platform.bootstrap_servers)
    for number in range(ROWS):
        above = number % 2
        record = {"id": number, "values": random.normal(above, 0.1, VALUES).tolist(), "above": above}
        producer.send("large", json.dumps(record).encode())
    producer.close()


@pytest.fixture(scope="module")
def peaks() -> Peaks:
    return Peaks()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, peaks: Peaks) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("large")
    (home / "pipeline.yaml").write_text(PIPELINE)
    with Platform.on_free_ports(home) as platform, peaks.watching(platform):
        headrace(platform, "apply", str(home / "pipeline.yaml"), "--create-topic")
        send(platform)
        try:
            headrace(platform, "wait", "large", "--timeout", LONGEST)
            yield platform
        finally:
            print(peaks)


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def test_a_large_model_is_served_from_its_files(platform: Platform, peaks: Peaks, tmp_path: Path) -> None:
    with RegistryClient(platform.addresses["registry"]) as registry:
        version, release = registry.versions("large")[-1], registry.releases("large")[-1].released
    trained = version.trained
    graph = trained.graph.size_bytes + trained.graph.beside_bytes
    assert trained.graph.beside_bytes >= 4 * PARAMETERS
    assert trained.graph.size_bytes < 10**6
    rows: Any = np.random.default_rng(2).normal(size=(8, VALUES)).astype(np.float32)
    with InferenceClient(platform.addresses["inference"]) as inference:
        answered = inference.infer("large", {"values": rows}).outputs["probabilities"]
    store = ObjectStore(platform.connections.store_url)
    served = beside.get(release.graph.beside_bytes, release.graph, store, tmp_path)
    (expected,) = ENGINES[ONNX](served, None).run({"values": rows}, ["probabilities"])
    np.testing.assert_allclose(answered, expected, atol=1e-6)

    print(f"\ngraph: {PARAMETERS:,} parameters and more, {megabytes(graph)}, {release.variant} is served")
    for variant in version.variants:
        told = {name: round(value, 4) for name, value in sorted(variant.metrics.items())}
        print(f"variant {variant.name}: {megabytes(variant.metrics['size_bytes'])}, {told}")
    # Dynamic quantisation takes a graph in one file; no variant answers as exactly as is asked here.
    assert [variant.name for variant in version.variants] == ["fp32", "int8-weights"]
    assert release.variant == "fp32"
    assert peaks.anonymous["inference"] < 0.5 * graph
