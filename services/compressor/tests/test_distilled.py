"""Students that learn from a version: better than the same ones by the labels alone, or none."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from headrace_compressor.core.compression import Version
from headrace_compressor.core.measurement import Rows
from headrace_data.dataset import DatasetReader
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import DistilledVariant, Pipeline, Threshold, load_pipeline
from headrace_data.windows import only_dataset
from headrace_engines.beside import Graph
from headrace_learning import large
from headrace_learning.evaluation import predict
from headrace_learning.heads.classification import divergence as softened
from headrace_learning.large import structure_of, whole
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import NO_ROWS
from headrace_learning.methods.method import Made, NotApplicable, Source, Training
from headrace_learning.methods.teaching import Distillation
from headrace_learning.training.objectives import Classification
from headrace_runtime.object_store import ObjectStore
from sklearn.datasets import load_digits

pytestmark = pytest.mark.slow

PIPELINE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {name: digits}
stream:
  topic: digits
  schema:
    - {name: id, type: string, role: id}
    - {name: pixels, type: float32, shape: [8, 8], role: feature, range: [0, 16]}
    - {name: digit, type: int64, role: label, range: [0, 9]}
prepare:
  transform: {pixels: {scale: standard}}
  split: {train: 0.4, validation: 0.5, test: 0.1}
train:
  network: {kind: mlp}
  optimizer: {kind: adam, learningRate: 0.005}
  batchSize: 16
  seed: 3
"""
NOWHERE = Provenance(cluster_id="test", topic="digits", topic_id="", sources=(), clean_ranges=(), rejected={})
STUDENT = {"kind": "distilled", "network": {"kind": "mlp", "hidden": (24,)}, "temperature": 4.0, "alpha": 0.1}


def training_of(folder: Path, pipeline: Pipeline, rows: int = 300, below: int = 10) -> Training:
    """Return how a version was trained on some digits."""
    scans = load_digits()
    values = [
        json.dumps({"id": str(number), "pixels": scans.images[number].tolist(), "digit": int(scans.target[number])})
        for number in range(rows)
        if scans.target[number] < below
    ]
    count = len(values)
    checked = RecordChecker(pipeline.stream).check([each.encode() for each in values], [0] * count, range(count))
    store = ObjectStore(str(folder / "store"))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    return Training(pipeline, DatasetReader(only_dataset(writer.finish(NOWHERE), pipeline, store), store), None)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return training_of(tmp_path, load_pipeline(PIPELINE))


def distilled(graph: Graph, training: Training | None, **said: Any) -> Made | NotApplicable:
    section = DistilledVariant.model_validate(STUDENT | said)
    return METHODS["distilled"].make(Source(graph, NO_ROWS, training), section)


def test_the_loss_is_that_of_the_label_and_of_the_teacher_by_hand() -> None:
    outputs, logits = torch.tensor([[1.0, -1.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    places = torch.tensor([0, 1])
    mixed = Distillation(Classification(), softened, places[:0], temperature=2.0, alpha=0.25)
    taught = torch.cat([places[:, None].float(), logits], dim=1)

    def softmax(values: list[float]) -> list[float]:
        powers = [math.exp(value / 2.0) for value in values]
        return [power / sum(powers) for power in powers]

    divergence = 0.0
    for student, teacher in zip(outputs.tolist(), logits.tolist(), strict=True):
        pairs = zip(softmax(teacher), softmax(student), strict=True)
        divergence += sum(wanted * math.log(wanted / given) for wanted, given in pairs) / 2
    hard = (math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(-2.0))) / 2
    assert float(mixed.loss(outputs, taught)) == pytest.approx(0.25 * hard + 0.75 * 4.0 * divergence)
    assert float(mixed.loss(outputs, places)) == pytest.approx(hard)
    assert mixed.measure(outputs, taught) == {"accuracy": 1.0}


def test_a_student_of_a_good_teacher_is_smaller_and_the_same_each_time(
    digits_mlp: Version, training: Training, rows: Rows
) -> None:
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    # The teacher knows 1,200 digits and the student has the labels of 120.
    made = distilled(whole(digits_mlp.graph), training)
    assert isinstance(made, Made), made
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode()) == (threads, mode)
    assert distilled(whole(digits_mlp.graph), training) == made
    before, after = structure_of(digits_mlp.graph), structure_of(made.graph)
    names = [[[each.name for each in part] for part in (one.graph.input, one.graph.output)] for one in (before, after)]
    assert names[0] == names[1]
    assert len(whole(made.graph)) < len(whole(digits_mlp.graph))
    (features, truth), *_ = rows.batches
    assert np.mean(predict(made.graph, features).labels == truth) > 0.85
    assert made.told["temperature"] == "4"
    assert "on the validation split" in made.told["student"]


def test_a_large_student_has_its_weights_beside_it_as_the_version_has(
    digits_mlp: Version, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = distilled(digits_mlp.graph, training)
    monkeypatch.setattr(large, "LARGEST_BYTES", 2_000)
    monkeypatch.setattr(large, "LEAST_BYTES", 512)
    made = distilled(large.as_graph(structure_of(digits_mlp.graph), tmp_path), training)
    assert isinstance(expected, Made)
    assert isinstance(made, Made), made
    assert isinstance(made.graph, Path)
    one, other = (predict(each, {"pixels": np.ones((3, 8, 8), np.float32)}) for each in (made.graph, expected.graph))
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_a_student_of_a_bad_teacher_is_refused_with_both_figures(digits_mlp: Version, training: Training) -> None:
    model = structure_of(digits_mlp.graph)
    ten = [each for each in model.graph.initializer if list(each.dims) == [10]]
    last = [each for each in ten if each.data_type == onnx.TensorProto.FLOAT][-1]
    # A teacher that is sure of one class, whatever comes.
    last.CopyFrom(onnx.numpy_helper.from_array(np.array([99.0] + 9 * [0.0], np.float32), last.name))
    found = distilled(model.SerializeToString(), training, alpha=0.0)
    assert isinstance(found, NotApplicable)
    assert "better than the same one without a teacher, which has accuracy 0." in found.reason
    assert "rows of the validation split; got accuracy 0." in found.reason


def test_what_cannot_be_taught_is_told(digits_mlp: Version, training: Training, tmp_path: Path) -> None:
    train = training.pipeline.train.model_copy(update={"threshold": Threshold(maximise="f1")})
    chosen = training.pipeline.model_copy(update={"train": train})
    two = training_of(tmp_path / "two", training.pipeline, below=2)
    for given, reason in (
        (None, "training rows can be read, got its graph alone"),
        (two, "a version of the classes of its dataset, got one of others"),
        (replace(training, pipeline=chosen), "no train.threshold"),
    ):
        found = distilled(whole(digits_mlp.graph), given)
        assert isinstance(found, NotApplicable)
        assert reason in found.reason
