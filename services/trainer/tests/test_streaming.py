"""Runs whose rows are too many to be held: streamed, they end as well as runs in memory, and go on as exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from headrace_data.chunks import Chunks
from headrace_data.dataset import DatasetReader
from headrace_data.errors import DatasetInvalid
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.training.checkpoint import Checkpoint
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, Trained, run
from headrace_trainer.errors import TooManyDigits

pytestmark = pytest.mark.slow

STREAMED = Memory(rows_bytes=0, buffer_bytes=4_000, validation_bytes=0)
"""Everything is streamed, through a buffer of some hundred rows."""
DOCUMENT = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: stream}
stream:
  topic: stream
  schema:
    - {name: id, type: string, role: id}
    - {name: x, type: float32, role: feature, nullable: true}
    - {name: n, type: int64, role: feature, nullable: true}
    - {name: place, type: string, role: feature, nullable: true}
    - {name: not.ever, type: float32, role: feature, nullable: true}
    - {name: y, type: LABEL, role: label}
prepare:
  clean: {missing: keep}
  transform:
    x: {scale: standard, impute: mean}
    n: {scale: standard, impute: median}
    place: {impute: {constant: none}, encode: onehot}
    not.ever: {impute: {constant: 0}}
train:
  task: TASK
  network: {kind: mlp, hidden: [16], dropout: 0.1}
  optimizer: {kind: adam, learningRate: 0.01}
  batchSize: 32
  epochs: 6
"""


class Notebook:
    """Keeps every checkpoint that it is asked for after so many batches, and progress."""

    def __init__(self, every: int = 10**6, taken: Checkpoint | None = None) -> None:
        self.every = every
        self.taken = taken
        self.asked = 0
        self.kept: list[Checkpoint] = []
        self.steps: list[Mapping[str, float]] = []

    def newest(self, subject: str) -> Checkpoint | None:
        return self.taken

    def due(self, *, midway: bool) -> bool:
        self.asked += 1
        return self.asked % self.every == 0

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(checkpoint)

    def progress(self, step: int, steps: int, metrics: Mapping[str, float], eta_s: float) -> None:
        self.steps.append(metrics)


def pipeline_of(task: str) -> Pipeline:
    label = "string" if task == "classification" else "float64"
    return load_pipeline(DOCUMENT.replace("TASK", task).replace("LABEL", label))


def frozen(pipeline: Pipeline, store: ObjectStore, far: int = 0) -> Manifest:
    random = np.random.default_rng(4)
    rows = []
    for number in range(3000):
        x, place = float(random.normal()), str(random.choice(["north", "south", "", " "]))
        y = 1000.0 + 50 * x + (20 if place == "north" else 0)
        label = ("high" if y > 1005 else "low") if pipeline.task == "classification" else y
        row = {"id": f"r{number}", "x": x, "n": far + number % 50, "place": place, "y": label}
        rows.append(json.dumps({name: value for name, value in row.items() if name != "x" or number % 9}).encode())
    writer = SegmentWriter(pipeline, store, part_rows=150)
    for partition in range(3):
        offsets = range(partition, len(rows), 3)
        checked = RecordChecker(pipeline.stream).check([rows[each] for each in offsets], [partition] * 1000, offsets)
        writer.add(checked.batch)
    origin = Provenance(cluster_id="c", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})
    return only_dataset(writer.finish(origin), pipeline, store)


def trained(
    pipeline: Pipeline, manifest: Manifest, store: ObjectStore, memory: Memory, notebook: Notebook | None = None
) -> tuple[Trained, Notebook]:
    notebook = notebook or Notebook()
    return run(Plan("r", pipeline, manifest), DatasetReader(manifest, store), notebook, notebook, memory), notebook


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_stream_is_learned_as_well_as_rows_in_memory(task: str, store: ObjectStore) -> None:
    pipeline = pipeline_of(task)
    manifest = frozen(pipeline, store)
    held, _ = trained(pipeline, manifest, store, Memory())

    streamed, notebook = trained(pipeline, manifest, store, STREAMED)

    assert len(manifest.parts) > 10
    assert streamed.metrics.keys() == held.metrics.keys()
    assert streamed.metrics["missing/not.ever"] == 1.0
    # The order of the rows is another one, and the rest is the same to the last digits.
    assert streamed.weights != held.weights
    for name, value in held.metrics.items():
        if name.startswith("baseline"):
            assert streamed.metrics[name] == pytest.approx(value, rel=1e-12)
    if task == "classification":
        assert streamed.metrics["accuracy"] > max(0.85, held.metrics["accuracy"] - 0.03)
    else:
        assert streamed.metrics["rmse"] < 0.4 * streamed.metrics["baseline_rmse"]
    assert notebook.steps[-1]["train_loss"] < 0.5 * notebook.steps[0]["train_loss"]
    again, _ = trained(pipeline, manifest, store, STREAMED)
    assert (again.weights, again.graph, again.metrics) == (streamed.weights, streamed.graph, streamed.metrics)


def test_a_stream_that_goes_on_in_the_midst_of_an_epoch_ends_the_same(store: ObjectStore) -> None:
    pipeline = pipeline_of("classification")
    manifest = frozen(pipeline, store)
    straight, notebook = trained(pipeline, manifest, store, STREAMED, Notebook(every=55))
    assert {each.place[0] for each in notebook.kept} >= {0, 1, 2, 3, 4, 5}
    assert any(each.midway for each in notebook.kept)

    for checkpoint in notebook.kept:
        again, resumed = trained(pipeline, manifest, store, STREAMED, Notebook(taken=checkpoint))

        assert (again.weights, again.graph, again.metrics) == (straight.weights, straight.graph, straight.metrics)
        assert len(resumed.steps) == 6 - checkpoint.place[0]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_what_is_measured_in_batches_is_what_is_measured_at_once(
    task: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipeline_of(task)
    manifest = frozen(pipeline, store)
    at_once, notebook = trained(pipeline, manifest, store, STREAMED)

    monkeypatch.setattr("headrace_data.chunks._MOST_BYTES", 5_000)
    monkeypatch.setattr("headrace_learning.training.rows.MEASURED_AT_ONCE", 7)
    in_batches, others = trained(pipeline, manifest, store, STREAMED)

    assert in_batches.metrics == pytest.approx(at_once.metrics, rel=1e-9)
    assert [each.keys() for each in others.steps] == [each.keys() for each in notebook.steps]
    for one, other in zip(notebook.steps, others.steps, strict=True):
        assert other == pytest.approx(one, rel=1e-5)


def test_a_split_is_read_in_chunks_or_held(store: ObjectStore) -> None:
    pipeline = pipeline_of("classification")
    manifest = frozen(pipeline, store)
    reader = DatasetReader(manifest, store)
    whole, chunks = Chunks(reader, "test"), Chunks(reader, "test", most_bytes=50 * reader.row_bytes)

    ((features, truth),) = list(whole)
    parts = list(chunks)

    assert len(parts) > 3
    assert len(chunks) == len(truth) == manifest.splits["test"].rows
    assert max(len(truths) for _, truths in parts) <= 50
    assert np.concatenate([truths for _, truths in parts]).tolist() == truth.tolist()
    for name, column in features.items():
        np.testing.assert_array_equal(np.concatenate([found[name] for found, _ in parts]), column)
    assert "y" not in features


def test_whole_numbers_beyond_float64_are_refused_in_a_stream_too(store: ObjectStore) -> None:
    pipeline = pipeline_of("classification")

    with pytest.raises(TooManyDigits, match="feature 'n': expected whole numbers up to 9007199254740992"):
        trained(pipeline, frozen(pipeline, store, far=2**60), store, STREAMED)
    trained(pipeline, frozen(pipeline, store, far=2**52), store, STREAMED)


def test_a_part_that_is_damaged_ends_the_stream(store: ObjectStore) -> None:
    pipeline = pipeline_of("classification")
    manifest = frozen(pipeline, store)
    reader = DatasetReader(manifest, store)
    part = manifest.parts[3]
    lost = manifest.model_copy(
        update={
            "splits": manifest.splits
            | {"train": manifest.splits["train"].model_copy(update={"rows": manifest.splits["train"].rows + 1})}
        }
    )
    with pytest.raises(DatasetInvalid, match="rows in the parts of a split"):
        trained(pipeline, lost, store, STREAMED)
    path = Path(part.uri.removeprefix("file://"))
    path.chmod(0o644)
    path.write_bytes(b"PAR1" + bytes(part.size_bytes - 4))
    with pytest.raises(Exception, match="sha256"):
        run(Plan("r", pipeline, manifest), reader, Notebook(), Notebook(), STREAMED)
