"""Ten million parameters, from rows to variants that are loaded: in one file, and with the weights beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headrace_compressor.transport import assignments
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import load_pipeline
from headrace_data.windows import only_dataset
from headrace_engines import ENGINES, ONNX, beside
from headrace_learning import large
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_trainer.child import alone
from sklearn.datasets import load_digits

pytestmark = pytest.mark.timeout(900)

WIDTH, LEAST_PARAMETERS, LEAST_ACCURACY = 3_200, 10_000_000, 0.93
PIPELINE = f"""
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: wide}}
stream:
  topic: wide
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: pixels, type: float32, shape: [8, 8], role: feature}}
    - {{name: digit, type: int64, role: label, range: [0, 9]}}
prepare: {{transform: {{pixels: {{scale: standard}}}}}}
train:
  network: {{kind: mlp, hidden: [{WIDTH}, {WIDTH}]}}
  optimizer: {{kind: adam, learningRate: 0.0003}}
  epochs: 4
compress: {{variants: [{{kind: weight-only-int8}}, {{kind: int8-static}}]}}
"""
NOWHERE = Provenance(cluster_id="c", topic="wide", topic_id="", sources=(), clean_ranges=(), rejected={})


class Silent:
    """Is told how far a run is."""

    def progress(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(count)


@pytest.mark.parametrize("limit", [large.LARGEST_BYTES, 4_000_000], ids=["in one file", "with weights beside it"])
def test_ten_million_parameters(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGEST_BYTES", limit)
    pipeline, store, scans = load_pipeline(PIPELINE), ObjectStore(str(tmp_path / "store")), load_digits()
    records = [
        json.dumps({"id": place, "pixels": image.tolist(), "digit": int(digit)}).encode()
        for place, (image, digit) in enumerate(zip(scans.images, scans.target, strict=True))
    ]
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    dataset = only_dataset(writer.finish(NOWHERE), pipeline, store)
    reference = {"dataset_id": dataset.dataset_id, "manifest": asdict(store.put(dataset.to_json()))}
    told: dict[str, Any] = {"store_url": store.url, "spec": pipeline.canonical_json().decode()}
    run = {"run_id": "train-1", "attempt": 1, "output": "runs/train-1/attempt-1/", "checkpoint_s": 3600, "packages": []}
    trained = alone({**told, **run, "dataset": reference}, Silent())
    candidate = {name: trained[name] for name in ("version_id", "graph", "weights")} | {"dataset": reference}
    silent: Any = Silent()
    compressed = assignments.measure({**told, "candidate": candidate, "champion": None, "cpu_class": ""}, silent)

    assert json.loads(store.get(Artifact(**trained["manifest"])))["parameters"] >= LEAST_PARAMETERS
    assert trained["metrics"]["accuracy"] >= LEAST_ACCURACY
    assert ("beside_bytes" in trained["graph"]) == (limit < 40_000_000)
    answered = []
    for variant in compressed["variants"]:
        graph = dict(variant["graph"])
        loaded = beside.get(graph.pop("beside_bytes", 0), Artifact(**graph), store, tmp_path / "cache")
        answered.append(ENGINES[ONNX](loaded, None).run({"pixels": scans.images.astype(np.float32)}, ["label"])[0])
        metrics = variant["metrics"]
        print(
            f"{variant['name']}: {metrics['size_bytes'] / 1e6:.1f} MB, accuracy {metrics['accuracy']:.3f}, "
            f"agreement {metrics['agreement']:.3f}, {metrics['latency_ms_batch_1']:.1f} ms for a row"
        )
        assert (answered[-1] == answered[0]).mean() > 0.98
    assert [each["name"] for each in compressed["variants"]] == ["fp32", "int8-weights", "int8-static"]
