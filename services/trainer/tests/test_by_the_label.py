"""Training rows that are made by the label: categories encoded by it, and rare classes that come more often."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Manifest, Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import Pipeline, SpecInvalid, load_pipeline
from headrace_data.transforms.target import FittedTarget
from headrace_data.windows import only_dataset
from headrace_learning.errors import NotLearnable
from headrace_learning.training.checkpoint import Checkpoint
from headrace_learning.training.oversampling import oversampled, times_of
from headrace_learning.training.rows import Rows, StreamedRows
from headrace_runtime.object_store import ObjectStore
from headrace_trainer.core.memory import Memory
from headrace_trainer.core.run import Plan, Trained, run

STREAMED = Memory(rows_bytes=0, buffer_bytes=4_000, validation_bytes=0)
DOCUMENT = """\
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: rare}}
stream:
  topic: rare
  schema:
    - {{name: id, type: int64, role: id}}
    - {{name: x, type: float32, role: feature}}
    - {{name: town, type: string, role: feature}}
    - {{name: y, type: {label}, role: label}}
prepare: {{transform: {{x: {{scale: standard}}, town: {{encode: {{kind: target, smoothing: 1}}}}}}}}
train:
  network: {{kind: mlp, hidden: [16]}}
  optimizer: {{kind: adam, learningRate: 0.01}}
  epochs: 8
  {more}
"""


class Notebook:
    def newest(self, subject: str) -> Checkpoint | None:
        return None

    def due(self, *, midway: bool) -> bool:
        return False

    def save(self, checkpoint: Checkpoint) -> None:
        pass

    def progress(self, step: int, steps: int, metrics: Any, eta_s: float) -> None:
        pass


def pipeline_of(more: str = "seed: 3", label: str = "bool") -> Pipeline:
    return load_pipeline(DOCUMENT.format(more=more, label=label))


def frozen(pipeline: Pipeline, store: ObjectStore, share: float, towns: int) -> Manifest:
    random = np.random.default_rng(4)
    rows = []
    for place in range(2000):
        yes = bool(random.random() < share)
        town = f"town {random.integers(towns)}"
        rows.append(json.dumps({"id": place, "x": random.normal(1.5 * yes), "town": town, "y": yes}).encode())
    checked = RecordChecker(pipeline.stream).check(rows, [0] * len(rows), range(len(rows)))
    writer = SegmentWriter(pipeline, store, 128)
    writer.add(checked.batch)
    told = Provenance(cluster_id="c", topic="rare", topic_id="", sources=(), clean_ranges=(), rejected={})
    return only_dataset(writer.finish(told), pipeline, store)


def trained(pipeline: Pipeline, manifest: Manifest, store: ObjectStore, memory: Memory | None = None) -> Trained:
    notebook = Notebook()
    return run(Plan("run", pipeline, manifest), DatasetReader(manifest, store), notebook, notebook, memory)


@pytest.mark.parametrize("memory", [Memory(), STREAMED])
def test_a_text_that_tells_nothing_is_not_learned_by_heart(
    store: ObjectStore, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipeline_of()
    manifest = frozen(pipeline, store, 0.5, 700)

    honest = trained(pipeline, manifest, store, memory)
    with monkeypatch.context() as patched:
        patched.setattr(FittedTarget, "apply_training", lambda self, values, _folds: self.apply(values))
        fooled = trained(pipeline, manifest, store, memory)

    # x alone, whose means are 1.5 deviations apart, finds 77 % of the rows.
    assert honest.metrics["accuracy"] > 0.72
    assert fooled.metrics["log_loss"] > honest.metrics["log_loss"] + 0.1
    assert fooled.metrics["accuracy"] < honest.metrics["accuracy"] - 0.05


@pytest.mark.parametrize("memory", [Memory(), STREAMED])
def test_rare_rows_that_come_more_often_are_found(store: ObjectStore, memory: Memory) -> None:
    plain, more = pipeline_of(), pipeline_of("augment: {oversample: 1, mixup: 0.2, noise: 0.05}")
    manifest = frozen(plain, store, 0.05, 5)

    before, after = (trained(each, manifest, store, memory) for each in (plain, more))

    assert before.metrics["recall"] < 0.4
    assert after.metrics["recall"] > 0.6
    again = trained(more, manifest, store, memory)
    assert (again.weights, again.graph) == (after.weights, after.graph)
    half = trained(pipeline_of("augment: {oversample: 0.5}"), manifest, store, memory)
    assert before.metrics["recall"] < half.metrics["recall"] < after.metrics["recall"]


def test_how_often_a_row_comes_follows_from_its_class() -> None:
    assert times_of([1000, 100, 10, 0], 1.0).tolist() == [1, 10, 100, 1000]
    assert times_of([1000, 100, 10, 700], 0.5).tolist() == [1, 3, 10, 1]
    assert times_of([5_000_000, 10], 1.0).tolist() == [1, 1000]


@pytest.mark.parametrize("streamed", [False, True])
def test_each_row_comes_as_often_in_each_epoch(streamed: bool) -> None:
    inputs = torch.arange(60, dtype=torch.float32).reshape(60, 1)
    targets = (torch.arange(60) % 10 == 0).long()
    held, counts = Rows(inputs, targets), [54, 6]
    source: Any = held
    if streamed:
        pieces = [torch.arange(30), torch.arange(30, 60)]
        parts: Any = [lambda piece=piece: iter([_Group(held, piece)]) for piece in pieces]
        prepare: Any = _Group.rows
        source = StreamedRows(parts, prepare, 60, 4, 80)
    train = pipeline_of("augment: {oversample: 1}").train
    repeated = oversampled(source, train, counts)

    def epoch(number: int, seed: int = 3) -> list[float]:
        batches = list(repeated.batches(16, seed, number))
        assert all(len(rows) == 16 for rows in batches[:-1])
        assert all(((rows.inputs[:, 0] % 10 == 0).long() == rows.targets).all() for rows in batches)
        return [value for rows in batches for value in rows.inputs[:, 0].tolist()]

    first = epoch(1)
    assert len(first) == len(repeated) == 54 + 6 * 9
    assert Counter(first) == {value: 9 if value % 10 == 0 else 1 for value in range(60)}
    assert first == epoch(1)
    assert sorted(first) == sorted(epoch(2))
    assert first != epoch(2)
    # What is measured by, and everything else, sees each row once.
    assert sum(len(rows) for rows in repeated.chunks()) == 60
    assert oversampled(source, pipeline_of("augment: {noise: 1}").train, counts) is source
    assert oversampled(source, train, ()) is source


def test_an_epoch_that_memory_does_not_hold_is_refused() -> None:
    targets = torch.cat([torch.zeros(120_000), torch.arange(120_000) % 1000 + 1]).long()
    held, counts = Rows(torch.zeros(len(targets), 1), targets), [120_000] + [120] * 1000
    with pytest.raises(NotLearnable, match=r"oversample: expected epochs of at most 50,000,000 rows, got 120,120,000"):
        oversampled(held, pipeline_of("augment: {oversample: 1}").train, counts)
    assert len(oversampled(held, pipeline_of("augment: {oversample: 0.5}").train, counts)) == 120_000 + 32 * 120_000


class _Group:
    """Rows as a part yields them."""

    def __init__(self, held: Rows, places: torch.Tensor) -> None:
        self._held, self._places = held, places

    def __len__(self) -> int:
        return len(self._places)

    def slice(self, start: int, count: int) -> _Group:
        return _Group(self._held, self._places[start : start + count])

    def rows(self) -> Rows:
        return Rows(self._held.inputs[self._places], self._held.targets[self._places])


@pytest.mark.parametrize(
    ("more", "label", "told"),
    [
        (
            "augment: {oversample: 1}, classWeights: balanced",
            "bool",
            "expected classWeights none beside it, which make",
        ),
        ("augment: {oversample: 1}", "float64", "oversample: expected none for a regression, which has no classes"),
        ("augment: {oversample: 2}", "bool", "oversample: expected less than or equal to 1, got 2"),
    ],
)
def test_what_cannot_be_oversampled_is_refused(more: str, label: str, told: str) -> None:
    lines = "\n  ".join(more.replace("}, ", "}\n").splitlines())
    with pytest.raises(SpecInvalid, match=told):
        pipeline_of(lines, label)


def test_old_specs_keep_their_digests() -> None:
    assert "oversample" not in pipeline_of("augment: {noise: 0.1}").canonical_json().decode()
