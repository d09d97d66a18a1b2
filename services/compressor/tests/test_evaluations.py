"""A version that is served, scored on the rows of new segments: as they were, and as they were not."""

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headrace.events.v1 import evaluation_pb2, run_pb2, segment_pb2
from headrace_compressor.core.compression import Version
from headrace_compressor.core.sampled import MOST_ROWS, Sampled
from headrace_compressor.transport.evaluation_converters import to_fact
from headrace_compressor.transport.evaluations import evaluate
from headrace_data.history import keep
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import Segment, SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.large import whole
from headrace_runtime.object_store import ObjectStore
from headrace_runtime.runs.child import Reporter, WorkRefused
from sklearn.datasets import load_digits

_PIPELINE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: digits}
stream:
  topic: digits
  format: json
  schema:
    - {name: id, type: string, role: id}
    - {name: pen, type: int64, role: slice}
    - {name: pixels, type: float32, shape: [8, 8], role: feature, range: [0, 16]}
    - {name: digit, type: int64, role: label, range: [0, 9]}
train: {network: {kind: mlp}, slices: [pen]}
"""
_PROVENANCE = Provenance(cluster_id="test", topic="digits", topic_id="", sources=(), clean_ranges=(), rejected={})
Pixels = np.ndarray[Any, Any]


def _segment(pipeline: Pipeline, store: ObjectStore, rows: slice, drawn: Callable[[Pixels], Pixels]) -> Segment:
    scans = load_digits()
    values = [
        json.dumps({"id": str(at), "pen": at % 2, "pixels": drawn(scans.images[at]).tolist(), "digit": int(digit)})
        for at, digit in list(enumerate(scans.target))[rows]
    ]
    offsets = list(range(len(values)))
    checked = RecordChecker(pipeline.stream).check([each.encode() for each in values], [0] * len(values), offsets, None)
    assert checked.batch is not None
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    return writer.finish(_PROVENANCE)


class World:
    """A store with a version, its dataset, and segments to come."""

    def __init__(self, folder: Path, version: Version) -> None:
        self.store = ObjectStore(str(folder / "store"))
        self.pipeline = load_pipeline(_PIPELINE)
        learned = only_dataset(self.segment(slice(0, 900)), self.pipeline, self.store)
        self.version = {
            "version_id": version.version_id,
            "graph": asdict(self.store.put(whole(version.graph))),
            "dataset": {"dataset_id": learned.dataset_id, "manifest": asdict(self.store.put(learned.to_json()))},
        }

    def segment(self, rows: slice, drawn: Callable[[Pixels], Pixels] = lambda pixels: pixels) -> Segment:
        """Write a segment of some digits."""
        return _segment(self.pipeline, self.store, rows, drawn)

    def evaluated(self, segment: Segment) -> dict[str, Any]:
        """Evaluate the version on a segment."""
        entry = keep(segment, self.pipeline, self.store)
        assert entry.sketch is not None
        told = {
            "segment_id": entry.segment_id,
            "manifest": entry.manifest.model_dump(),
            "sketch": entry.sketch.model_dump(),
        }
        spec = self.pipeline.canonical_json().decode()
        store = self.store.url
        assignment = {"store_url": store, "spec": spec, "version": self.version, "segment": told}
        return evaluate(assignment, Reporter(io.StringIO()))


@pytest.fixture
def world(tmp_path: Path, digits_mlp: Version) -> World:
    return World(tmp_path, digits_mlp)


def _measures(scored: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {each["name"]: each for each in scored["measures"]}


def test_rows_of_the_same_distribution_are_scored_whole_and_nothing_moved(world: World) -> None:
    result = json.loads(json.dumps(world.evaluated(world.segment(slice(900, None)))))

    assert result["task"] == "classification"
    before, now = result["before"], result["now"]
    assert now["rows"] == 897, "all rows count, whatever their split"
    assert 50 < before["rows"] < 200, "the test split alone"
    for scored in (before, now):
        for name, each in _measures(scored).items():
            assert each["low"] <= each["value"] <= each["high"], name
            assert each["value"] == scored["metrics"][name]
    told = _measures(now)
    assert {"accuracy", "log_loss", "calibration_error", "accuracy/7", "slice/pen=1/accuracy"} <= told.keys()
    assert not [name for name in told if name.endswith("/rows")]
    assert now["metrics"]["slice/pen=0/rows"] + now["metrics"]["slice/pen=1/rows"] == 897
    assert {each["field"] for each in result["inputs"]} == {"pixels", "digit"}
    for moved in (*result["inputs"], result["answers"]):
        assert moved["value"] - moved["chance"] < 0.2

    command = evaluation_pb2.EvaluationRequested(
        run_id="evaluate-1",
        pipeline="digits",
        version=run_pb2.VersionReference(version_id="sha256:mlp"),
        segment=segment_pb2.SegmentReference(segment_id="sha256:new"),
    )
    fact = to_fact(command, result | {"attempt": 2})
    assert (fact.segment_id, fact.now.rows, fact.attempt, fact.answers.field) == ("sha256:new", 897, 2, "")
    assert fact.now.metrics["accuracy"] == now["metrics"]["accuracy"]


def test_rows_that_look_otherwise_are_told_apart_and_what_they_cost_is_no_chance(world: World) -> None:
    result = world.evaluated(world.segment(slice(900, 1200), lambda pixels: 16 - pixels))

    before, now = (_measures(result[name])["accuracy"] for name in ("before", "now"))
    assert now["high"] < before["low"]
    (pixels,) = (each for each in result["inputs"] if each["field"] == "pixels")
    assert pixels["value"] > pixels["bound"]
    assert pixels["value"] - pixels["chance"] > 0.2
    assert result["answers"]["value"] > result["answers"]["bound"]


def test_a_segment_whose_rows_are_gone_is_refused_and_named(world: World) -> None:
    segment = world.segment(slice(900, 1000))
    for part in segment.manifest.parts:
        Path(part.uri.removeprefix("file://")).unlink()

    with pytest.raises(WorkRefused, match=r"[0-9a-f]{64}"):
        world.evaluated(segment)


def test_a_sample_is_of_all_rows_and_groups_stay_whole() -> None:
    rows, groups = Sampled(grouped=False), Sampled(grouped=True)
    for batch in range(4):
        truth = np.arange(1000.0) + 1000 * batch
        rows.add({}, {"answer": truth}, truth)
        groups.add({}, {"answer": truth}, np.stack([truth, truth // 5], axis=1))

    kept = rows.answers["answer"]
    assert (len(kept), rows.rows, rows.share) == (MOST_ROWS, 4000, MOST_ROWS / 4000)
    assert abs(kept.mean() - 2000) < 100
    _, answers, truth = groups.drawn(np.random.default_rng(0))
    assert set(np.unique(truth[:, 1], return_counts=True)[1] % 5) == {0}, "each group is drawn with all of its rows"
    assert (answers["answer"] == truth[:, 0]).all()
