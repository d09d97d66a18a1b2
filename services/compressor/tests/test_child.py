"""The child process, on a real dataset in a real object store."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pytest
from headrace_compressor.core.compression import Version
from headrace_data.batches import TIME, TIME_TYPE
from headrace_data.dataset import DatasetReader
from headrace_data.history import History, keep
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_engines.processors import own_class
from headrace_learning.large import structure_of, whole
from headrace_learning.methods.calibration import digest, of_dataset
from headrace_runtime.object_store import Artifact, ObjectStore
from headrace_runtime.runs.child import DONE, REFUSED, Progress
from headrace_runtime.runs.child_process import ChildProcess, Standby
from headrace_runtime.runs.folder import RunFolder, output_prefix
from sklearn.datasets import load_digits

pytestmark = pytest.mark.slow

_PIPELINE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: digits}
stream:
  topic: digits
  format: json
  schema:
    - {name: id, type: string, role: id}
    - {name: pixels, type: float32, shape: [8, 8], role: feature, range: [0, 16]}
    - {name: digit, type: int64, role: label, range: [0, 9]}
prepare:
  transform: {pixels: {scale: standard}}
train:
  network: {kind: mlp}
compress:
  variants: [{kind: int8-dynamic}]
"""
_PROVENANCE = Provenance(cluster_id="test", topic="digits", topic_id="", sources=(), clean_ranges=(), rejected={})


def _freeze(pipeline: Pipeline, store: ObjectStore, rows: slice) -> dict[str, Any]:
    """Write some digits as a dataset, and return the reference to it."""
    scans = load_digits()
    values = [
        json.dumps({"id": str(number), "pixels": scans.images[number].tolist(), "digit": int(scans.target[number])})
        for number in range(len(scans.target))[rows]
    ]
    checked = RecordChecker(pipeline.stream).check(
        [value.encode() for value in values], [0] * len(values), list(range(len(values))), None
    )
    assert isinstance(checked.batch, pa.RecordBatch)
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    manifest = only_dataset(writer.finish(_PROVENANCE), pipeline, store)
    return {"dataset_id": manifest.dataset_id, "manifest": asdict(store.put(manifest.to_json()))}


class Assignments:
    """Makes assignments for a store that holds datasets and graphs."""

    def __init__(self, folder: Path, standby: Standby) -> None:
        self.folder, self._standby = folder, standby
        self.store = ObjectStore(str(folder / "store"))
        self.pipeline = load_pipeline(_PIPELINE)

    def version(self, version: Version, rows: slice) -> dict[str, Any]:
        """Keep a version's graph and a dataset of some digits, and return the reference to it."""
        return {
            "version_id": version.version_id,
            "graph": asdict(self.store.put(whole(version.graph))),
            "dataset": _freeze(self.pipeline, self.store, rows),
        }

    def run(self, **values: Any) -> tuple[ChildProcess, list[Progress], dict[str, Any] | None]:
        """Let the child that waits do a run to its end, and return it, its lines and its result."""
        assignment = {
            "run_id": "run-1",
            "attempt": 1,
            "store_url": str(self.folder / "store"),
            "output": output_prefix("run-1", 1),
            "spec": self.pipeline.canonical_json().decode(),
            "cpu_class": own_class(),
            "champion": None,
            **values,
        }
        file = self.folder / "assignment.json"
        file.write_text(json.dumps(assignment))
        child = self._standby.take(file)
        assert child.code is not None  # waits for it
        return child, list(child.lines()), RunFolder(self.store, "run-1").result()


@pytest.fixture(scope="module")
def standby() -> Iterator[Standby]:
    with closing(Standby(lambda path: ChildProcess("headrace_compressor.child", path, "test", {}))) as standby:
        standby.prepare()
        yield standby


@pytest.fixture
def assignments(tmp_path: Path, standby: Standby) -> Assignments:
    return Assignments(tmp_path, standby)


def test_a_run_leaves_measured_variants_and_compares_with_the_champion(
    assignments: Assignments, digits_mlp: Version, digits_cnn: Version
) -> None:
    candidate = assignments.version(digits_mlp, slice(600, None))
    champion = assignments.version(digits_cnn, slice(0, 900))

    child, lines, result = assignments.run(candidate=candidate, champion=champion)

    assert child.code == DONE
    assert [(line.step, line.steps) for line in lines] == [(1, 2), (2, 2)]
    assert result is not None
    fp32, int8 = result["variants"]
    assert (fp32["name"], int8["name"]) == ("fp32", "int8")
    assert fp32["graph"] == candidate["graph"]
    assert len(assignments.store.get(Artifact(**int8["graph"]))) == int8["metrics"]["size_bytes"]
    assert int8["metrics"]["agreement"] >= 0.98
    assert result["cpu_class"]
    pairs = [(each["version_id"], each["dataset_id"]) for each in result["evaluations"]]
    datasets = [each["dataset"]["dataset_id"] for each in (candidate, champion)]
    assert datasets[0] != datasets[1]
    assert pairs == [(version, dataset) for dataset in datasets for version in ("sha256:mlp", "sha256:cnn")]
    assert all(each["rows"] > 0 and each["metrics"]["accuracy"] > 0.9 for each in result["evaluations"])
    assert result["joined"] == [], "the measure of the task adds up"


@pytest.mark.parametrize("measure", ["pr_auc", "log_loss"])
def test_a_measure_that_does_not_add_up_is_taken_on_the_rows_of_both_splits(
    assignments: Assignments, digits_mlp: Version, digits_cnn: Version, measure: str
) -> None:
    candidate = assignments.version(digits_mlp, slice(600, None))
    champion = assignments.version(digits_cnn, slice(0, 900))
    spec = json.loads(assignments.pipeline.canonical_json())
    spec["compress"] = {"gates": {"measure": measure}}

    child, _, result = assignments.run(candidate=candidate, champion=champion, spec=json.dumps(spec))

    assert child.code == DONE
    assert result is not None
    rows = {each["dataset_id"]: each["rows"] for each in result["evaluations"]}
    together = [(each["version_id"], each["dataset_id"], each["rows"]) for each in result["joined"]]
    wanted = [(version, "", sum(rows.values())) for version in ("sha256:mlp", "sha256:cnn")]
    assert together == (wanted if measure == "pr_auc" else [])
    assert all(each["metrics"]["pr_auc"] > 0.9 for each in result["joined"])


def test_versions_of_one_dataset_are_compared_on_one_set_of_rows(
    assignments: Assignments, digits_mlp: Version, digits_cnn: Version
) -> None:
    candidate, champion = (assignments.version(each, slice(0, 300)) for each in (digits_mlp, digits_cnn))

    child, _, result = assignments.run(candidate=candidate, champion=champion)

    assert child.code == DONE
    assert result is not None
    assert [each["version_id"] for each in result["evaluations"]] == ["sha256:mlp", "sha256:cnn"]


def test_without_a_champion_the_candidate_is_evaluated_alone_and_calibrated_on_training_rows(
    assignments: Assignments, digits_mlp: Version
) -> None:
    spec = json.loads(assignments.pipeline.canonical_json())
    spec["compress"] = {"variants": [{"kind": "int8-static", "rows": 50}], "gates": {"membershipAuc": 0.6}}
    candidate = assignments.version(digits_mlp, slice(0, 300))

    child, _, result = assignments.run(candidate=candidate, spec=json.dumps(spec))

    assert child.code == DONE
    assert result is not None
    # All these digits were learned from, those of the test split too: nothing tells them apart.
    assert 0.35 < result["variants"][0]["metrics"]["membership_auc"] < 0.65
    (evaluation,) = result["evaluations"]
    manifest = Manifest.from_json(assignments.store.get(Artifact(**candidate["dataset"]["manifest"])))
    rows = of_dataset(DatasetReader(manifest, assignments.store), seed=0).rows(50)
    fp32, told = (each["told"] for each in result["variants"])
    assert fp32 == {}
    assert told["calibration"] == digest(rows)
    assert (told["calibration_rows"], told["quantised"]) == ("50", "3 of 3")
    assert told["onnxruntime"]
    assert evaluation["metrics"]["accuracy"] == result["variants"][0]["metrics"]["accuracy"]


def test_a_variant_that_does_not_apply_is_told_and_the_others_are_made(
    assignments: Assignments, digits_mlp: Version
) -> None:
    model = structure_of(digits_mlp.graph)
    for node in model.graph.node:
        if node.op_type == "Gemm":
            node.attribute.append(onnx.helper.make_attribute("alpha", 0.5))
    candidate = assignments.version(Version("sha256:scaled", "", model.SerializeToString()), slice(0, 300))

    child, lines, result = assignments.run(candidate=candidate)

    assert child.code == DONE
    assert [(line.step, line.steps) for line in lines] == [(1, 1)]
    assert result is not None
    assert [each["name"] for each in result["variants"]] == ["fp32"]
    (other,) = result["not_applicable"]
    assert other["variant"] == "int8"
    assert other["reason"].startswith("int8-dynamic: expected at least one matrix product")


def test_a_dataset_that_was_lost_is_a_fault_that_names_it(assignments: Assignments, digits_mlp: Version) -> None:
    candidate = assignments.version(digits_mlp, slice(0, 300))
    candidate["dataset"]["manifest"]["digest"] = "sha256:" + "0" * 64

    child, _, result = assignments.run(candidate=candidate)

    assert child.code not in {DONE, REFUSED}
    assert "0" * 64 in child.reason
    assert result is None


def _timed_history(pipeline: Pipeline, store: ObjectStore, *cuts: slice) -> tuple[History, list[dict[str, Any]]]:
    """Cut some digits, a second apart, into segments; return them, and the dataset of each."""
    scans, history, datasets = load_digits(), History(pipeline=pipeline.name), []
    for cut in cuts:
        numbers = range(len(scans.target))[cut]
        values = [
            json.dumps({"id": str(n), "pixels": scans.images[n].tolist(), "digit": int(scans.target[n])}).encode()
            for n in numbers
        ]
        batch = RecordChecker(pipeline.stream).check(values, [0] * len(values), list(numbers)).batch
        times = pa.array([n * 1_000_000 for n in numbers], TIME_TYPE)
        writer = SegmentWriter(pipeline, store)
        writer.add(batch.set_column(batch.schema.get_field_index(TIME), pa.field(TIME, TIME_TYPE), times))
        segment = writer.finish(_PROVENANCE)
        history = history.and_cut(keep(segment, pipeline, store))
        manifest = only_dataset(segment, pipeline, store)
        datasets.append({"dataset_id": manifest.dataset_id, "manifest": asdict(store.put(manifest.to_json()))})
    return history, datasets


def test_a_canary_holds_two_versions_against_each_other_on_rows_of_the_past(
    assignments: Assignments, digits_mlp: Version, digits_cnn: Version
) -> None:
    store = assignments.store
    history, datasets = _timed_history(assignments.pipeline, store, slice(0, 600), slice(600, 1200), slice(1200, 1500))
    references = [
        {"version_id": version.version_id, "graph": asdict(store.put(whole(version.graph))), "dataset": dataset}
        for version, dataset in zip((digits_mlp, digits_cnn), datasets, strict=False)
    ]
    asked = {"history": asdict(store.put(history.to_json())), "last_s": 700}
    child, _, result = assignments.run(candidate=references[0], champion=references[1], canary=asked)

    assert child.code == DONE
    assert result is not None
    # 300 rows that neither has seen, and of the 400 before them those of the test split.
    assert (result["segments"], result["unseen_rows"]) == (2, 300)
    assert 300 + 30 < result["rows"] < 300 + 100
    assert result["until_us"] - result["since_us"] == 700 * 1_000_000
    first = result["measures"][0]
    assert (first["name"], first["rows"]) == ("accuracy", result["rows"])
    assert first["low"] <= first["candidate"] - first["champion"] <= first["high"]
    assert result["alike"]["agreement"] > 0.8
