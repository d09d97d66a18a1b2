"""What the checks of several processes share: rows, assignments, and who trains."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import safetensors.torch
import torch
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.folder import output_prefix
from headrace_runtime.telemetry.hold import POLL_S

LONGEST_S = 240.0
NEAR = {"ddp": 1e-5, "fsdp": 1e-4, "tensor": 1e-4}
"""How far weights may be from those of one process."""
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: together}
stream:
  topic: together
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, shape: [12], role: feature}
    - {name: y, type: int64, role: label}
train:
  network: {kind: mlp, hidden: [16, 8], activation: tanh}
  optimizer: {kind: adamw, learningRate: 0.01, clip: 0.5, average: 0.9, accumulate: 2}
  batchSize: 21
  epochs: 4
  augment: {noise: 0.1}
  compute: COMPUTE
"""


def declared(compute: str) -> Pipeline:
    return load_pipeline(DOCUMENT.replace("COMPUTE", compute))


def two(strategy: str) -> Pipeline:
    return declared(f"{{device: cpu, processes: 2, strategy: {strategy}}}")


@dataclass(frozen=True)
class Lane:
    """A store with a dataset."""

    store: ObjectStore
    folder: Path
    dataset: dict[str, Any]

    def assignment(self, pipeline: Pipeline, run_id: str, attempt: int = 1, checkpoint_s: float = 0) -> dict[str, Any]:
        told = {
            "run_id": run_id,
            "attempt": attempt,
            "store_url": self.store.url,
            "output": output_prefix(run_id, attempt),
            "spec": pipeline.canonical_json().decode(),
            "dataset": self.dataset,
            "checkpoint_s": checkpoint_s,
            "packages": [],
        }
        file = self.folder / f"{run_id}-{attempt}.json"
        file.write_text(json.dumps(told))
        return {**told, "file": str(file)}

    def weights(self, result: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return safetensors.torch.load(self.store.get(Artifact(**result["weights"])))

    def result(self, run_id: str) -> dict[str, Any]:
        held: dict[str, Any] = json.loads(self.store.read(f"runs/{run_id}/result.json") or b"")
        return dict(held.get("result", held))


def lane_in(tmp_path: Path) -> Lane:
    """Return a store with four hundred rows."""
    pipeline, store = declared("{device: cpu}"), ObjectStore(str(tmp_path / "store"))
    drawn = random.Random(7)
    records = []
    for number in range(400):
        x = [drawn.gauss(0, 1) for _ in range(12)]
        records.append(json.dumps({"id": f"r{number}", "x": x, "y": int(x[0] > x[1]) + int(x[2] > 1)}).encode())
    return Lane(store, tmp_path, frozen(pipeline, store, records))


def frozen(pipeline: Pipeline, store: ObjectStore, records: Sequence[bytes]) -> dict[str, Any]:
    writer = SegmentWriter(pipeline, store)
    writer.add(RecordChecker(pipeline.stream).check(records, [0] * len(records), range(len(records))).batch)
    origin = Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})
    manifest = only_dataset(writer.finish(origin), pipeline, store)
    return {"dataset_id": manifest.dataset_id, "manifest": asdict(store.put(manifest.to_json()))}


class Quiet:
    """Notes which epochs it is told of."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def progress(self, step: int, _steps: int, _metrics: Mapping[str, float], _eta_s: float) -> None:
        self.steps.append(step)


def until(what: str, condition: Callable[[], Any]) -> Any:
    ends_s = time.monotonic() + LONGEST_S
    while not (found := condition()):
        assert time.monotonic() < ends_s, what
        time.sleep(POLL_S)
    return found


def ranks(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes of groups below a process."""
    found = process.children(recursive=True)
    return [each for each in found if "headrace_trainer.rank" in _command(each)]


def _command(process: psutil.Process) -> Sequence[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def distance(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
