"""Students of tasks that answer numbers or tags, and of encoders: what a good teacher knows helps, or there is none."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headrace_data.canonical import sha256_digest
from headrace_data.dataset import DatasetReader
from headrace_data.folder import FileRef, Folder
from headrace_data.manifest import Provenance
from headrace_data.records import RecordChecker
from headrace_data.segments import SegmentWriter
from headrace_data.spec import DistilledVariant, load_pipeline
from headrace_data.windows import only_dataset
from headrace_learning.families.family import Sources
from headrace_learning.heads.classification import divergence
from headrace_learning.large import structure_of
from headrace_learning.methods import METHODS
from headrace_learning.methods.calibration import NO_ROWS
from headrace_learning.methods.lessons import lesson_of, one_thread
from headrace_learning.methods.method import Made, NotApplicable, Source, Training
from headrace_learning.methods.shallower import Patient
from headrace_learning.methods.teaching import Distillation
from headrace_learning.training.objectives import Classification
from headrace_learning.training.ports import Artifacts, NoArtifacts
from headrace_runtime.object_store import ObjectStore

pytestmark = pytest.mark.slow

NOWHERE = Provenance(cluster_id="test", topic="t", topic_id="", sources=(), clean_ranges=(), rejected={})
TABLE = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: table}}
stream:
  topic: table
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: x, type: float32, shape: [3], role: feature}}
    - {{name: y, {label}, role: label}}
prepare:
  split: {{train: {train}, validation: {validation}, test: 0.1}}
train:
  network: {{kind: mlp, hidden: [32]}}
  optimizer: {{kind: adam, learningRate: 0.02}}
  batchSize: 16
  {task}
"""
TASKS = {
    "regression": ("type: float32", ""),
    "regression of places": ("type: float32, shape: [2]", ""),
    "quantile": ("type: float64", "task: quantile"),
    "quantile of places": ("type: float32, shape: [2]", "task: quantile"),
    "count": ("type: int64", "task: count"),
    "multilabel": ("type: bool, shape: [2]", ""),
}
"""The label of each, and what a document says of it."""


def training_of(
    folder: Path, document: str, rows: list[dict[str, Any]], artifacts: Artifacts | None = None
) -> Training:
    """Return how a version was trained on some rows."""
    pipeline = load_pipeline(document)
    values = [json.dumps(each).encode() for each in rows]
    checked = RecordChecker(pipeline.stream).check(values, [0] * len(values), range(len(values)))
    store = ObjectStore(str(folder))
    writer = SegmentWriter(pipeline, store)
    writer.add(checked.batch)
    reader = DatasetReader(only_dataset(writer.finish(NOWHERE), pipeline, store), store)
    return Training(pipeline, reader, None, artifacts or NoArtifacts())


def version_of(training: Training, epochs: int) -> Source:
    """Return a version that has learned its rows, with its weights."""
    network = training.pipeline.train.network
    with one_thread():
        lesson = lesson_of(training, network.kind)
        run = lesson.run(lesson.settings(network, epochs, 60.0), "version")
        sources = Sources(lesson.rows, lesson.validation)
        fitted = lesson.family.fit(network, sources, lesson.learned.objective, run)
        weights = fitted.weights(lesson.serve(fitted.network))
        graph = lesson.exported(fitted.network)
    return Source(graph, NO_ROWS, replace(training, weights=lambda: weights))


def label_of(task: str, x: np.ndarray[Any, Any], noise: float, random: np.random.Generator) -> Any:
    base = x[:2] + noise * random.normal(size=2)
    if task == "multilabel":
        return (base > 0).tolist()
    if task == "count":
        return int(random.poisson(np.exp(x[0] + 1))) if noise else round(float(np.exp(x[0] + 1)))
    return (100 + 10 * base).tolist() if "places" in task else float(100 + 10 * base[0])


def made_by(source: Source, **said: Any) -> Made | NotApplicable:
    section = {"kind": "distilled", "alpha": 0.0, "epochs": 25, "patience": 25, **said}
    return METHODS["distilled"].make(source, DistilledVariant.model_validate(section))


@pytest.mark.parametrize("task", TASKS)
def test_a_teacher_that_knows_more_than_the_labels_helps(task: str, tmp_path: Path) -> None:
    random, (label, said) = np.random.default_rng(3), TASKS[task]

    def training(noise: float, count: int, share: float) -> Training:
        points = random.normal(size=(count, 3))
        rows = [
            {"id": f"{place}", "x": x.tolist(), "y": label_of(task, x, noise, random)} for place, x in enumerate(points)
        ]
        document = TABLE.format(label=label, task=said, train=share, validation=round(0.9 - share, 1))
        return training_of(tmp_path / f"{noise:g}", document, rows)

    teacher = version_of(training(0.0, 400, 0.8), 20)
    made = made_by(replace(teacher, training=training(2.0, 160, 0.3)), network={"kind": "mlp", "hidden": (16,)})

    assert isinstance(made, Made), made
    outputs = [[each.name for each in structure_of(each).graph.output] for each in (teacher.graph, made.graph)]
    assert outputs[0] == outputs[1]
    assert made.told["student"].endswith(" on the validation split")


def test_a_teacher_of_another_question_is_told(tmp_path: Path) -> None:
    rows = [{"id": str(at), "x": [at / 10, 0.0, 1.0], "y": at / 7} for at in range(60)]
    one, other = (
        training_of(
            tmp_path / str(lowest),
            TABLE.format(
                label="type: float64",
                task=f"task: quantile\n  quantiles: [{lowest}, 0.5, 0.95]",
                train=0.6,
                validation=0.3,
            ),
            rows,
        )
        for lowest in (0.05, 0.1)
    )
    found = made_by(replace(version_of(one, 1), training=other), network={"kind": "mlp", "hidden": (4,)})
    assert isinstance(found, NotApplicable)
    assert "a version that answers 0.1, 0.5, 0.95 is expected, got one of 0.05, 0.5, 0.95" in found.reason


def test_a_student_that_there_is_no_room_for_is_told(tmp_path: Path) -> None:
    rows = [{"id": str(at), "x": [at / 10, 0.0, 1.0], "y": at / 7} for at in range(60)]
    version = version_of(
        training_of(tmp_path, TABLE.format(label="type: float64", task="", train=0.6, validation=0.3), rows), 1
    )
    assert version.training is not None
    version = replace(version, training=replace(version.training, memory_bytes=2**40))
    found = made_by(version, network={"kind": "mlp", "hidden": (10_000_000, 10_000_000)})
    assert isinstance(found, NotApplicable)
    assert "takes at most 1,099,511,627,776 bytes of memory to learn is expected, got one that takes" in found.reason


REVIEWS = """
apiVersion: headrace/v1
kind: Pipeline
metadata: {{name: reviews}}
stream:
  topic: reviews
  schema:
    - {{name: id, type: string, role: id}}
    - {{name: review, type: string, role: feature}}
    - {{name: mood, type: string, role: label}}
prepare:
  transform: {{review: {{encode: text}}}}
  split: {{train: 0.5, validation: 0.4, test: 0.1}}
train:
  network: {{kind: encoder, digest: "{digest}", sizeBytes: {size}, length: 12}}
  optimizer: {{learningRate: 0.005}}
  batchSize: 16
"""


class Shelf:
    """Files by digest."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, bytes] = {}
        files = {path.name: self._put(path.read_bytes()) for path in folder.iterdir()}
        self.document = Folder(files).to_json()
        self._put(self.document)

    def _put(self, data: bytes) -> FileRef:
        self._files[digest := sha256_digest(data)] = data
        return FileRef(digest, len(data))

    def read(self, digest: str, size_bytes: int) -> bytes:
        return self._files[digest]


def moods(folder: Path, shelf: Shelf, rows: int, wrong: float) -> Training:
    """Return texts with what they say, of which a share is told wrong."""
    random, told = np.random.default_rng(1), []
    words = {"up": ["good", "great", "fine"], "down": ["bad", "awful", "dull"]}
    for place in range(rows):
        mood, other = ("up", "down") if place % 2 else ("down", "up")
        said = random.permutation(["the", "film", "is", *random.choice(words[mood], 2)])
        told.append({"id": str(place), "review": " ".join(said), "mood": other if random.random() < wrong else mood})
    return training_of(
        folder, REVIEWS.format(digest=sha256_digest(shelf.document), size=len(shelf.document)), told, shelf
    )


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A version of two layers that knows whether a text praises, and a dataset that tells it wrong at times."""
    folder, shelf = tmp_path_factory.mktemp("reviews"), Shelf(tiny_bert)
    version = version_of(moods(folder / "clean", shelf, 300, 0.0), 8)
    assert version.training is not None
    return replace(
        version, training=replace(moods(folder / "told", shelf, 200, 0.35), weights=version.training.weights)
    )


def test_a_shallower_encoder_learns_what_layers_make_of_a_row(encoder: Source) -> None:
    made = made_by(encoder, network={"kind": "encoder", "layers": 1}, epochs=8)
    assert isinstance(made, Made), made
    layers = []
    for graph in (encoder.graph, made.graph):
        names = [each.name for each in structure_of(graph).graph.initializer]
        layers.append({name.split(".")[3] for name in names if ".encoder.layer." in name})
    assert layers == [{"0", "1"}, {"0"}]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"network": {"kind": "encoder", "layers": 2}}, "fewer layers than the version's 2 are expected, got 2"),
        (
            {"network": {"kind": "mlp", "hidden": (4,)}},
            "that reads texts is expected, as an encoder does, got kind mlp",
        ),
    ],
)
def test_a_student_that_an_encoder_cannot_have_is_told(encoder: Source, said: dict[str, Any], reason: str) -> None:
    found = made_by(encoder, **said)
    assert isinstance(found, NotApplicable)
    assert reason in found.reason


def test_layers_count_by_their_directions() -> None:
    label = torch.zeros(0, dtype=torch.int64)
    mixed = Distillation(Classification(), divergence, label, temperature=1.0, alpha=0.5)
    loss = Patient(mixed, numbers=2, layers=2, share=3.0).loss
    logits, hidden = torch.tensor([[1.0, -1.0]]), torch.tensor([[3.0, 4.0, 0.0, 2.0]])
    outputs, place = torch.cat([logits, hidden], dim=1), torch.tensor([0])

    def told(layers: list[float]) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0, -1.0, *layers]])

    alone = float(mixed.loss(logits, told([])))
    # The same directions of other lengths cost nothing; one at a right angle costs 2, half of it in the mean over both.
    assert float(loss(outputs, told([6.0, 8.0, 0.0, 1.0]))) == pytest.approx(alone)
    assert float(loss(outputs, told([6.0, 8.0, 1.0, 0.0]))) == pytest.approx(alone + 3.0)
    assert float(loss(outputs, place)) == pytest.approx(float(Classification().loss(logits, place)))
